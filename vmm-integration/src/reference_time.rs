// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! The partition's reference time: a count of 100 ns units, as an MSR and by the reference TSC page
//! (TLFS "Timers").
//!
//! Both are derived from the guest's TSC by the same formula, so that they never disagree.

use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context, Result, ensure};
use kvm_ioctls::VcpuFd;
use vm_memory::{Bytes, GuestAddress, GuestMemory};

use crate::clock::Clock;
use crate::msr;

/// The registers of one VM's reference time.
#[derive(Debug)]
pub struct ReferenceTime {
    /// 100 ns units per TSC tick, as a fraction of 2^64.
    scale: u64,
    /// Units that had passed on the TSC when the time began.
    start: AtomicU64,
    /// HV_X64_MSR_REFERENCE_TSC as the guest wrote it.
    reference_tsc: AtomicU64,
    /// The guest's TSC less the host's, when the VM was created or restored.
    tsc_offset: AtomicU64,
    khz: u32,
}

impl ReferenceTime {
    /// Begins now, by the TSC of `vcpu`; KVM keeps those of a VM's vCPUs in step.
    pub fn new(vcpu: &VcpuFd) -> Result<Self> {
        let khz = vcpu
            .get_tsc_khz()
            .context("Cannot read the frequency of the TSC")?;
        let (tsc, offset) = tsc_and_offset(vcpu)?;
        let time = Self::starting_at(tsc, khz)?;
        time.tsc_offset.store(offset, Ordering::SeqCst);
        Ok(time)
    }

    /// The frequency of the guest's TSC.
    pub fn khz(&self) -> u32 {
        self.khz
    }

    /// The time, with the TSC that it is by.
    pub fn save(&self, vcpu: &VcpuFd) -> Result<Clock> {
        let tsc = guest_tsc(vcpu)?;
        Ok(Clock {
            tsc,
            khz: self.khz,
            reference_time: self.at(tsc),
            reference_tsc: self.reference_tsc.load(Ordering::SeqCst),
        })
    }

    /// Goes on from a time that was saved. The TSC of `vcpu` has been set by it.
    pub fn restore(&self, clock: &Clock, vcpu: &VcpuFd, memory: &impl GuestMemory) -> Result<()> {
        let start = scaled(clock.tsc, self.scale).wrapping_sub(clock.reference_time);
        self.start.store(start, Ordering::SeqCst);
        let (_, offset) = tsc_and_offset(vcpu)?;
        self.tsc_offset.store(offset, Ordering::SeqCst);
        let page = clock.reference_tsc;
        let written = self.write(HV_X64_MSR_REFERENCE_TSC, page, memory);
        ensure!(written, "reference_tsc: no memory at {page:#x}");
        Ok(())
    }

    /// The time of this moment, on any thread. A guest that writes its TSC is not followed: its
    /// timers go by the TSC that it had.
    pub fn now(&self) -> u64 {
        self.at(host_tsc().wrapping_add(self.tsc_offset.load(Ordering::SeqCst)))
    }

    /// Whether `index` is one of these registers.
    pub fn has(index: u32) -> bool {
        matches!(
            index,
            HV_X64_MSR_TIME_REF_COUNT
                | HV_X64_MSR_REFERENCE_TSC
                | HV_X64_MSR_TSC_FREQUENCY
                | HV_X64_MSR_APIC_FREQUENCY
        )
    }

    /// The value of a register on this vCPU; the time is read-only, so that both can be read.
    pub fn read(&self, index: u32, vcpu: &VcpuFd) -> Result<u64> {
        match index {
            HV_X64_MSR_REFERENCE_TSC => Ok(self.reference_tsc.load(Ordering::SeqCst)),
            HV_X64_MSR_TSC_FREQUENCY => Ok(u64::from(self.khz) * 1000),
            HV_X64_MSR_APIC_FREQUENCY => Ok(APIC_FREQUENCY),
            _ => Ok(self.at(guest_tsc(vcpu)?)),
        }
    }

    /// Takes a guest's write; false is a #GP.
    pub fn write(&self, index: u32, value: u64, memory: &impl GuestMemory) -> bool {
        let enabled = value & 1 != 0;
        let page = GuestAddress(value & !0xfff);
        let done = index == HV_X64_MSR_REFERENCE_TSC
            && (!enabled || memory.write_slice(&self.page(), page).is_ok());
        if done {
            self.reference_tsc.store(value, Ordering::SeqCst);
        }
        done
    }

    /// The VM is reset. The time goes on.
    pub fn reset(&self) {
        self.reference_tsc.store(0, Ordering::SeqCst);
    }

    fn starting_at(tsc: u64, khz: u32) -> Result<Self> {
        let scale = (UNITS_PER_MS << 64).checked_div(u128::from(khz));
        let scale = scale.and_then(|scale| u64::try_from(scale).ok());
        let scale = scale.with_context(|| format!("A TSC of {khz} kHz is too slow"))?;
        Ok(Self {
            scale,
            start: AtomicU64::new(scaled(tsc, scale)),
            reference_tsc: AtomicU64::new(0),
            tsc_offset: AtomicU64::new(0),
            khz,
        })
    }

    fn at(&self, tsc: u64) -> u64 {
        scaled(tsc, self.scale).wrapping_sub(self.start.load(Ordering::SeqCst))
    }

    /// HV_REFERENCE_TSC_PAGE: sequence and padding, scale, and the offset that is added.
    fn page(&self) -> [u8; 24] {
        let mut page = [0; 24];
        let fields = SEQUENCE.to_le_bytes().into_iter();
        let fields = fields.chain(self.scale.to_le_bytes());
        let start = self.start.load(Ordering::SeqCst);
        let fields = fields.chain(start.wrapping_neg().to_le_bytes());
        page.iter_mut()
            .zip(fields)
            .for_each(|(to, from)| *to = from);
        page
    }
}

fn scaled(tsc: u64, scale: u64) -> u64 {
    // Less than 2^64, because both factors are.
    ((u128::from(tsc) * u128::from(scale)) >> 64) as u64
}

fn host_tsc() -> u64 {
    // SAFETY: every x86-64 CPU has RDTSC, and the host does not forbid it to this process.
    unsafe { std::arch::x86_64::_rdtsc() }
}

/// The guest's TSC, and how much it is ahead of the host's, as near as can be told.
fn tsc_and_offset(vcpu: &VcpuFd) -> Result<(u64, u64)> {
    let (before, tsc, after) = (host_tsc(), guest_tsc(vcpu)?, host_tsc());
    let host = before.wrapping_add(after.wrapping_sub(before) / 2);
    Ok((tsc, tsc.wrapping_sub(host)))
}

fn guest_tsc(vcpu: &VcpuFd) -> Result<u64> {
    msr::get(vcpu, MSR_IA32_TSC).context("Cannot read the guest's TSC")
}

const UNITS_PER_MS: u128 = 10_000;
/// Any number but 0, which means that the page is not to be used; it never changes here.
const SEQUENCE: u64 = 1;
const MSR_IA32_TSC: u32 = 0x10;
const HV_X64_MSR_TIME_REF_COUNT: u32 = 0x4000_0020;
const HV_X64_MSR_REFERENCE_TSC: u32 = 0x4000_0021;
const HV_X64_MSR_TSC_FREQUENCY: u32 = 0x4000_0022;
const HV_X64_MSR_APIC_FREQUENCY: u32 = 0x4000_0023;
/// Of the LAPIC's timer in KVM, in Hz (`kvm: APIC_BUS_CYCLE_NS_DEFAULT`).
const APIC_FREQUENCY: u64 = 1_000_000_000;

#[cfg(test)]
mod tests {
    use super::*;
    use vm_memory::GuestMemoryMmap;

    fn memory() -> GuestMemoryMmap {
        GuestMemoryMmap::from_ranges(&[(GuestAddress(0), 0x4000)]).unwrap()
    }

    fn time() -> ReferenceTime {
        ReferenceTime::starting_at(4_000_000_000, 2_000_000).unwrap()
    }

    #[test]
    fn at_one_second_after_the_start_is_ten_million_units() {
        assert_eq!(time().at(4_000_000_000), 0);
        assert!((9_999_999..=10_000_001).contains(&time().at(6_000_000_000)));
    }

    #[test]
    fn starting_at_when_the_tsc_is_slower_than_the_unit_is_refused() {
        assert!(ReferenceTime::starting_at(0, 0).is_err());
        assert!(ReferenceTime::starting_at(0, 10_000).is_err());
    }

    #[test]
    fn write_when_the_page_is_enabled_fills_it() {
        let (time, memory) = (time(), memory());
        assert!(time.write(HV_X64_MSR_REFERENCE_TSC, 0x2001, &memory));
        let at = |gpa| memory.read_obj::<u64>(GuestAddress(gpa)).unwrap();
        let offset = time.start.load(Ordering::SeqCst).wrapping_neg();
        assert_eq!([0x2000, 0x2008, 0x2010].map(at), [1, time.scale, offset]);
    }

    #[test]
    fn write_when_the_page_is_not_in_memory_or_the_register_is_read_only_is_refused() {
        let (time, memory) = (time(), memory());
        assert!(!time.write(HV_X64_MSR_REFERENCE_TSC, 0x8001, &memory));
        assert!(!time.write(HV_X64_MSR_TIME_REF_COUNT, 0, &memory));
        assert_eq!(time.reference_tsc.load(Ordering::SeqCst), 0);
    }
}
