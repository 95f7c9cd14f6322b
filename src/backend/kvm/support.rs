// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! What KVM must offer, and what of the guest's accesses must exit.

use kvm_bindings::KVM_CAP_HYPERV_VP_INDEX;
use kvm_ioctls::{Cap, VmFd};

use super::Error;
use crate::backend::msr_filter::{self, Trap};

/// How the manager learns that the guest may have emptied a slot.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum EomNotice {
    /// By the resample eventfd of the SINT's irqfd, on EOM and on EOI. Needs the whole irqchip in
    /// the kernel.
    Resample,
    /// By an exit of each write of EOM, with any irqchip. A SINT whose guest answers to a full slot
    /// by an EOI alone is not noticed; the TLFS has it write EOM.
    MsrExit,
}

/// Who answers hypercalls.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Hypercalls {
    /// KVM, which passes HvPostMessage and HvSignalEvent on by KVM_EXIT_HYPERV and knows no other
    /// call of the SynIC.
    Kernel,
    /// The manager, by its own hypercall page: all calls of the SynIC and of the VMM. Served by
    /// [`emulated::hypercall`](crate::backend::emulated::hypercall).
    Port,
}

/// What the VMM has chosen.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Traps {
    /// How slots are told to be free.
    pub eom: EomNotice,
    /// Who answers hypercalls.
    pub hypercalls: Hypercalls,
}

/// Whether this KVM has what the backend needs.
///
/// # Errors
/// [`Error::MissingCapability`] names the first thing that is missing.
pub fn check(vm: &VmFd, eom: EomNotice) -> Result<(), Error> {
    if !vm.check_extension(Cap::HypervSynic2) {
        msr_filter::require(vm, Cap::HypervSynic, "KVM_CAP_HYPERV_SYNIC")?;
    }
    if vm.check_extension_raw(KVM_CAP_HYPERV_VP_INDEX.into()) <= 0 {
        return Err(Error::MissingCapability("KVM_CAP_HYPERV_VP_INDEX"));
    }
    if eom == EomNotice::Resample {
        msr_filter::require(vm, Cap::IrqfdResample, "KVM_CAP_IRQFD_RESAMPLE")?;
    }
    msr_filter::require(vm, Cap::X86UserSpaceMsr, "KVM_CAP_X86_USER_SPACE_MSR")?;
    msr_filter::require(vm, Cap::X86MsrFilter, "KVM_CAP_X86_MSR_FILTER")
}

/// Makes those accesses exit that KVM does not tell of by itself. The VM has one filter: a VMM
/// with a filter of its own merges [`Traps::ranges`] into it. Call it before the first vCPU runs.
///
/// # Errors
/// [`Error::MissingCapability`] on a KVM older than Linux 5.10, else what the ioctl refused.
pub fn trap_msrs(vm: &VmFd, traps: Traps) -> Result<(), Error> {
    msr_filter::install(vm, &traps.list())
}

impl Traps {
    /// First MSR, number of MSRs, and whether reads exit as well as writes.
    pub fn ranges(self) -> impl Iterator<Item = (u32, u32, bool)> {
        let list = self.list().into_iter();
        list.map(|trap| (trap.first, trap.count, trap.reads()))
    }

    fn list(self) -> Vec<Trap> {
        let mut traps = vec![
            Trap::writes(MSR_SINT0, 16),
            // KVM has no event ring page.
            Trap::all(MSR_SIRBP, 1),
            Trap::all(MSR_NESTED, 0x20),
        ];
        if self.eom == EomNotice::MsrExit {
            traps.push(Trap::writes(MSR_EOM, 1));
        }
        if self.hypercalls == Hypercalls::Port {
            traps.push(Trap::all(MSR_GUEST_OS_ID, 2));
        }
        traps
    }
}

/// GUEST_OS_ID, and HYPERCALL after it.
const MSR_GUEST_OS_ID: u32 = 0x4000_0000;
const MSR_EOM: u32 = 0x4000_0084;
const MSR_SIRBP: u32 = 0x4000_0085;
const MSR_SINT0: u32 = 0x4000_0090;
const MSR_NESTED: u32 = 0x4000_1080;

#[cfg(test)]
mod tests {
    use super::*;

    fn traps(eom: EomNotice, hypercalls: Hypercalls) -> Vec<(u32, u32, bool)> {
        Traps { eom, hypercalls }.ranges().collect()
    }

    #[test]
    fn ranges_when_slots_are_resampled_let_the_guest_write_eom() {
        let ranges = traps(EomNotice::Resample, Hypercalls::Kernel);
        assert!(ranges.iter().all(|(first, ..)| *first != MSR_EOM));
        assert!(ranges.contains(&(MSR_SINT0, 16, false)));
    }

    #[test]
    fn ranges_when_the_irqchip_is_split_trap_writes_of_eom_and_no_reads() {
        let ranges = traps(EomNotice::MsrExit, Hypercalls::Kernel);
        assert!(ranges.contains(&(MSR_EOM, 1, false)));
        assert!(ranges.iter().all(|(first, ..)| *first != MSR_GUEST_OS_ID));
    }

    #[test]
    fn ranges_when_the_manager_has_the_hypercalls_trap_their_msrs() {
        let ranges = traps(EomNotice::MsrExit, Hypercalls::Port);
        assert!(ranges.contains(&(MSR_GUEST_OS_ID, 2, true)));
    }
}
