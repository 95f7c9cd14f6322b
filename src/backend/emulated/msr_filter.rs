// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! Makes the guest's accesses to Hyper-V MSRs exit to user space.

use kvm_ioctls::VmFd;

use super::Error;
use crate::backend::msr_filter::{self, Trap};

/// Makes each guest access to a Hyper-V MSR an `X86Rdmsr` or `X86Wrmsr` exit of its vCPU.
///
/// Covered are 0x40000000 to 0x400001FF and the nested bank 0x40001080 to 0x4000109F. A denied MSR
/// is filtered before KVM's own handler sees it (`kvm: kvm_msr_allowed`), so the result is the same
/// with and without `CONFIG_KVM_HYPERV` and whatever the module parameter `ignore_msrs` says. Every
/// other MSR keeps KVM's behaviour, but the VM has one filter: a VMM with a filter of its own must
/// merge [these ranges](MSR_RANGES) into it instead of calling this.
///
/// Call it once, before the first vCPU runs.
///
/// # Errors
///
/// [`Error::MissingCapability`] on a KVM older than Linux 5.10, else what the ioctl refused.
pub fn trap_msrs(vm: &VmFd) -> Result<(), Error> {
    msr_filter::install(
        vm,
        &MSR_RANGES.map(|(first, count)| Trap::all(first, count)),
    )
}

/// First MSR and number of MSRs of each range that belongs to the manager.
pub const MSR_RANGES: [(u32, u32); 2] = [(0x4000_0000, 0x200), (0x4000_1080, 0x20)];
