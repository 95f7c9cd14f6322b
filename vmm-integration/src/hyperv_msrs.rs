// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! Hyper-V's MSRs that are neither the SynIC's nor the clock's, where KVM does not have them: the VP
//! assist page and the guest's crash report (TLFS "Virtual Processors", "Guest Crash Enlightenment").

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use anyhow::{Result, ensure};
use kvm_ioctls::VcpuFd;
use log::error;
use serde::{Deserialize, Serialize};
use vm_memory::{Bytes, GuestAddress, GuestMemory};
use vm_synic::VpIndex;

use crate::msr::{get, set};

/// These MSRs of one VM.
#[derive(Debug)]
pub struct HypervMsrs {
    /// HV_X64_MSR_VP_ASSIST_PAGE, by VP index.
    assist_pages: Box<[AtomicU64]>,
    crash_parameters: [AtomicU64; 5],
    crashed: AtomicBool,
}

/// These in a saved state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SavedMsrs {
    assist_pages: Vec<u64>,
    crash_parameters: [u64; 5],
    has_crashed: bool,
}

impl HypervMsrs {
    /// All zero, for the VPs 0 to `vps - 1`.
    pub fn new(vps: u32) -> Self {
        Self {
            assist_pages: (0..vps).map(|_| AtomicU64::default()).collect(),
            crash_parameters: Default::default(),
            crashed: AtomicBool::default(),
        }
    }

    /// The value of a register, if it is one of these.
    pub fn read(&self, vp: VpIndex, msr: u32) -> Option<u64> {
        match msr {
            HV_X64_MSR_CRASH_CTL => Some(CRASH_NOTIFY),
            _ => Some(self.at(vp, msr)?.load(Ordering::SeqCst)),
        }
    }

    /// Takes a guest's write; false is a #GP.
    pub fn write(&self, vp: VpIndex, msr: u32, value: u64, memory: &impl GuestMemory) -> bool {
        if msr == HV_X64_MSR_CRASH_CTL {
            if value & CRASH_NOTIFY != 0 {
                self.report_crash(vp);
            }
            return true;
        }
        let Some(register) = self.at(vp, msr) else {
            return false;
        };
        // No EOI is ever left out on the guest's behalf (`kvm: kvm_hv_set_msr` clears it, too).
        let apic_assist = GuestAddress(value & !0xfff);
        let enabled = msr == HV_X64_MSR_VP_ASSIST_PAGE && value & 1 != 0;
        let done = !enabled || memory.write_obj(0u32, apic_assist).is_ok();
        if done {
            register.store(value, Ordering::SeqCst);
        }
        done
    }

    /// The guest reports its crash. It is told once in a life of the guest, so that it cannot flood
    /// the log.
    pub fn report_crash(&self, vp: VpIndex) {
        if !self.crashed.swap(true, Ordering::SeqCst) {
            let [p0, p1, p2, p3, p4] = &self.crash_parameters;
            let parameters = [p0, p1, p2, p3, p4].map(|p| p.load(Ordering::SeqCst));
            error!("The guest has crashed on {vp}; its crash parameters: {parameters:x?}");
        }
    }

    /// Whether the guest has reported that it has crashed, since it was reset.
    pub fn has_crashed(&self) -> bool {
        self.crashed.load(Ordering::SeqCst)
    }

    /// As they are, for a saved state.
    pub fn save(&self) -> SavedMsrs {
        let load = |register: &AtomicU64| register.load(Ordering::SeqCst);
        let [p0, p1, p2, p3, p4] = &self.crash_parameters;
        SavedMsrs {
            assist_pages: self.assist_pages.iter().map(load).collect(),
            crash_parameters: [p0, p1, p2, p3, p4].map(load),
            has_crashed: self.has_crashed(),
        }
    }

    /// As they were.
    pub fn restore(&self, saved: &SavedMsrs) -> Result<()> {
        let (ours, theirs) = (self.assist_pages.len(), saved.assist_pages.len());
        ensure!(
            ours == theirs,
            "assist_pages: {theirs} where there are {ours}"
        );
        let values = saved.assist_pages.iter().chain(&saved.crash_parameters);
        let registers = self.assist_pages.iter().chain(&self.crash_parameters);
        registers
            .zip(values)
            .for_each(|(register, value)| register.store(*value, Ordering::SeqCst));
        self.crashed.store(saved.has_crashed, Ordering::SeqCst);
        Ok(())
    }

    /// Has what KVM has, for a saved state.
    pub fn capture(&self, vcpus: &[VcpuFd]) -> Result<()> {
        for (register, vcpu) in self.assist_pages.iter().zip(vcpus) {
            register.store(get(vcpu, HV_X64_MSR_VP_ASSIST_PAGE)?, Ordering::SeqCst);
        }
        let Some(first) = vcpus.first() else {
            return Ok(());
        };
        for (msr, register) in (HV_X64_MSR_CRASH_P0..).zip(&self.crash_parameters) {
            register.store(get(first, msr)?, Ordering::SeqCst);
        }
        Ok(())
    }

    /// Has KVM have what this has.
    pub fn load(&self, vcpus: &[VcpuFd]) -> Result<()> {
        for (register, vcpu) in self.assist_pages.iter().zip(vcpus) {
            set(
                vcpu,
                HV_X64_MSR_VP_ASSIST_PAGE,
                register.load(Ordering::SeqCst),
            )?;
        }
        let Some(first) = vcpus.first() else {
            return Ok(());
        };
        for (msr, register) in (HV_X64_MSR_CRASH_P0..).zip(&self.crash_parameters) {
            set(first, msr, register.load(Ordering::SeqCst))?;
        }
        Ok(())
    }

    /// The VM is reset.
    pub fn reset(&self) {
        let all = self.assist_pages.iter().chain(&self.crash_parameters);
        all.for_each(|register| register.store(0, Ordering::SeqCst));
        self.crashed.store(false, Ordering::SeqCst);
    }

    fn at(&self, vp: VpIndex, msr: u32) -> Option<&AtomicU64> {
        match msr {
            HV_X64_MSR_VP_ASSIST_PAGE => self.assist_pages.get(usize::try_from(vp.get()).ok()?),
            _ => {
                let parameter = msr.checked_sub(HV_X64_MSR_CRASH_P0)?;
                self.crash_parameters.get(usize::try_from(parameter).ok()?)
            }
        }
    }
}

const HV_X64_MSR_VP_ASSIST_PAGE: u32 = 0x4000_0073;
const HV_X64_MSR_CRASH_P0: u32 = 0x4000_0100;
const HV_X64_MSR_CRASH_CTL: u32 = 0x4000_0105;
const CRASH_NOTIFY: u64 = 1 << 63;

#[cfg(test)]
mod tests {
    use super::*;
    use vm_memory::GuestMemoryMmap;

    fn memory() -> GuestMemoryMmap {
        GuestMemoryMmap::from_ranges(&[(GuestAddress(0), 0x4000)]).unwrap()
    }

    #[test]
    fn write_of_the_assist_page_when_it_is_in_memory_clears_its_apic_part() {
        let (msrs, memory) = (HypervMsrs::new(2), memory());
        memory.write_obj(1u32, GuestAddress(0x2000)).unwrap();
        assert!(msrs.write(VpIndex::new(1), HV_X64_MSR_VP_ASSIST_PAGE, 0x2001, &memory));
        assert_eq!(memory.read_obj::<u32>(GuestAddress(0x2000)).unwrap(), 0);
        let read = |vp| msrs.read(VpIndex::new(vp), HV_X64_MSR_VP_ASSIST_PAGE);
        assert_eq!([0, 1, 2].map(read), [Some(0), Some(0x2001), None]);
    }

    #[test]
    fn write_of_the_assist_page_when_it_is_not_in_memory_is_refused() {
        let msrs = HypervMsrs::new(1);
        let vp = VpIndex::new(0);
        assert!(!msrs.write(vp, HV_X64_MSR_VP_ASSIST_PAGE, 0x8001, &memory()));
        assert_eq!(msrs.read(vp, HV_X64_MSR_VP_ASSIST_PAGE), Some(0));
    }

    #[test]
    fn write_of_the_crash_control_when_it_notifies_is_remembered_until_a_reset() {
        let (msrs, memory, vp) = (HypervMsrs::new(1), memory(), VpIndex::new(0));
        assert!(msrs.write(vp, HV_X64_MSR_CRASH_P0 + 4, 7, &memory));
        assert!(msrs.write(vp, HV_X64_MSR_CRASH_CTL, CRASH_NOTIFY, &memory));
        assert!(msrs.has_crashed());
        assert_eq!(msrs.read(vp, HV_X64_MSR_CRASH_P0 + 4), Some(7));
        msrs.reset();
        assert!(!msrs.has_crashed());
    }

    #[test]
    fn write_of_a_register_of_nobody_is_refused() {
        let msrs = HypervMsrs::new(1);
        for msr in [0x4000_00ff, 0x4000_0106, 0x4000_0070] {
            assert!(!msrs.write(VpIndex::new(0), msr, 0, &memory()), "{msr:#x}");
            assert_eq!(msrs.read(VpIndex::new(0), msr), None);
        }
    }
}
