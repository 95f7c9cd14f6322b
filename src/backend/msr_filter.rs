// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! Makes accesses to chosen MSRs exit to user space.

use kvm_bindings::{KVM_CAP_X86_USER_SPACE_MSR, KVM_MSR_EXIT_REASON_FILTER, kvm_enable_cap};
use kvm_ioctls::{Cap, MsrFilterDefaultAction, MsrFilterRange, MsrFilterRangeFlags, VmFd};

use super::Error;

/// A run of MSRs, and what of them exits.
#[derive(Clone, Copy, Debug)]
pub(super) struct Trap {
    pub flags: MsrFilterRangeFlags,
    pub first: u32,
    pub count: u32,
}

impl Trap {
    /// Reads and writes of `count` MSRs from `first` on, at most 512.
    pub const fn all(first: u32, count: u32) -> Self {
        let flags = MsrFilterRangeFlags::READ.union(MsrFilterRangeFlags::WRITE);
        Self {
            flags,
            first,
            count,
        }
    }

    pub fn reads(self) -> bool {
        self.flags.contains(MsrFilterRangeFlags::READ)
    }

    /// Writes alone.
    pub const fn writes(first: u32, count: u32) -> Self {
        Self {
            flags: MsrFilterRangeFlags::WRITE,
            first,
            count,
        }
    }
}

/// Installs the VM's one filter.
pub(super) fn install(vm: &VmFd, traps: &[Trap]) -> Result<(), Error> {
    require(vm, Cap::X86UserSpaceMsr, "KVM_CAP_X86_USER_SPACE_MSR")?;
    require(vm, Cap::X86MsrFilter, "KVM_CAP_X86_MSR_FILTER")?;
    // The exit reason goes first: without it a denied access is a #GP (KVM api.rst, 4.97).
    vm.enable_cap(&kvm_enable_cap {
        cap: KVM_CAP_X86_USER_SPACE_MSR,
        args: [u64::from(KVM_MSR_EXIT_REASON_FILTER), 0, 0, 0],
        ..Default::default()
    })
    .map_err(Error::EnableUserSpaceMsr)?;
    let ranges: Vec<_> = traps.iter().map(range).collect();
    vm.set_msr_filter(MsrFilterDefaultAction::ALLOW, &ranges)
        .map_err(Error::SetMsrFilter)
}

pub(super) fn require(vm: &VmFd, cap: Cap, name: &'static str) -> Result<(), Error> {
    if vm.check_extension(cap) {
        Ok(())
    } else {
        Err(Error::MissingCapability(name))
    }
}

fn range(trap: &Trap) -> MsrFilterRange<'static> {
    MsrFilterRange {
        flags: trap.flags,
        base: trap.first,
        msr_count: trap.count,
        bitmap: &DENY_ALL,
    }
}

/// One clear bit per MSR denies it; large enough for the largest range.
static DENY_ALL: [u8; 0x200 / 8] = [0; 0x200 / 8];
