// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! Makes the guest's accesses to Hyper-V MSRs exit to user space.

use kvm_bindings::{KVM_CAP_X86_USER_SPACE_MSR, KVM_MSR_EXIT_REASON_FILTER, kvm_enable_cap};
use kvm_ioctls::{Cap, MsrFilterDefaultAction, MsrFilterRange, MsrFilterRangeFlags, VmFd};

use super::Error;

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
    require(vm, Cap::X86UserSpaceMsr, "KVM_CAP_X86_USER_SPACE_MSR")?;
    require(vm, Cap::X86MsrFilter, "KVM_CAP_X86_MSR_FILTER")?;
    // The exit reason goes first: without it a denied access is a #GP (KVM api.rst, 4.97).
    vm.enable_cap(&kvm_enable_cap {
        cap: KVM_CAP_X86_USER_SPACE_MSR,
        args: [u64::from(KVM_MSR_EXIT_REASON_FILTER), 0, 0, 0],
        ..Default::default()
    })
    .map_err(Error::EnableUserSpaceMsr)?;
    let ranges = MSR_RANGES.map(|(base, count)| deny(base, count));
    vm.set_msr_filter(MsrFilterDefaultAction::ALLOW, &ranges)
        .map_err(Error::SetMsrFilter)
}

/// First MSR and number of MSRs of each range that belongs to the manager.
pub const MSR_RANGES: [(u32, u32); 2] = [(0x4000_0000, 0x200), (0x4000_1080, 0x20)];

fn deny(base: u32, msr_count: u32) -> MsrFilterRange<'static> {
    MsrFilterRange {
        flags: MsrFilterRangeFlags::READ | MsrFilterRangeFlags::WRITE,
        base,
        msr_count,
        bitmap: &DENY_ALL,
    }
}

fn require(vm: &VmFd, cap: Cap, name: &'static str) -> Result<(), Error> {
    if vm.check_extension(cap) {
        Ok(())
    } else {
        Err(Error::MissingCapability(name))
    }
}

/// One clear bit per MSR denies it; large enough for the larger range.
static DENY_ALL: [u8; 0x200 / 8] = [0; 0x200 / 8];
