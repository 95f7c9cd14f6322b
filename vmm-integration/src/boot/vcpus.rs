// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! Where vCPUs that were stopped are.

use std::fmt;

use anyhow::Result;
use kvm_bindings::{
    KVM_MP_STATE_HALTED, KVM_MP_STATE_INIT_RECEIVED, KVM_MP_STATE_RUNNABLE,
    KVM_MP_STATE_UNINITIALIZED, kvm_lapic_state,
};
use kvm_ioctls::VcpuFd;

/// One vCPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VcpuState {
    pub mp_state: u32,
    pub rip: u64,
    pub cr3: u64,
    pub takes_interrupts: bool,
    /// The highest vector that its LAPIC has requested, and has in service.
    pub requested: Option<u8>,
    pub in_service: Option<u8>,
}

impl VcpuState {
    /// Reads it.
    pub fn of(vcpu: &VcpuFd) -> Result<Self> {
        let regs = vcpu.get_regs()?;
        let lapic = vcpu.get_lapic()?;
        Ok(Self {
            mp_state: vcpu.get_mp_state()?.mp_state,
            rip: regs.rip,
            cr3: vcpu.get_sregs()?.cr3,
            takes_interrupts: regs.rflags & RFLAGS_IF != 0,
            requested: highest_vector(&lapic, LAPIC_IRR),
            in_service: highest_vector(&lapic, LAPIC_ISR),
        })
    }

    /// Whether it sleeps in a HLT.
    pub fn is_halted(&self) -> bool {
        self.mp_state == KVM_MP_STATE_HALTED
    }

    /// Whether the guest has never started it.
    pub fn is_waiting(&self) -> bool {
        matches!(
            self.mp_state,
            KVM_MP_STATE_UNINITIALIZED | KVM_MP_STATE_INIT_RECEIVED
        )
    }
}

impl fmt::Display for VcpuState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let doing = match self.mp_state {
            KVM_MP_STATE_RUNNABLE => "runs",
            KVM_MP_STATE_HALTED => "halted",
            _ => return f.write_str("waits for INIT and SIPI"),
        };
        let on = if self.takes_interrupts { "on" } else { "off" };
        let (rip, cr3) = (self.rip, self.cr3);
        write!(f, "{doing} at RIP {rip:#x}, CR3 {cr3:#x}, interrupts {on}")?;
        let vectors = [
            ("requested", self.requested),
            ("in service", self.in_service),
        ];
        for (state, vector) in vectors {
            if let Some(vector) = vector {
                write!(f, ", vector {vector:#x} {state}")?;
            }
        }
        Ok(())
    }
}

/// The highest bit of a register of 256, of which the LAPIC's page has 32 in every 16 bytes.
fn highest_vector(lapic: &kvm_lapic_state, register: usize) -> Option<u8> {
    (0..=u8::MAX).rev().find(|vector| {
        let offset = register + usize::from(vector / 32) * 16 + usize::from(vector / 8 % 4);
        let byte = lapic.regs.get(offset).map_or(0, |byte| *byte as u8);
        byte >> (vector % 8) & 1 != 0
    })
}

/// Offsets in the LAPIC's page (SDM volume 3, "Local APIC Register Address Map").
const LAPIC_ISR: usize = 0x100;
const LAPIC_IRR: usize = 0x200;

const RFLAGS_IF: u64 = 1 << 9;

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub fn state(mp_state: u32) -> VcpuState {
        VcpuState {
            mp_state,
            rip: 0xffff_ffff_8100_0000,
            cr3: 0x1000,
            takes_interrupts: true,
            requested: None,
            in_service: None,
        }
    }

    #[test]
    fn display_of_a_halted_vcpu_says_where_and_whether_it_can_be_woken() {
        assert_eq!(
            state(KVM_MP_STATE_HALTED).to_string(),
            "halted at RIP 0xffffffff81000000, CR3 0x1000, interrupts on"
        );
    }

    #[test]
    fn highest_vector_of_a_register_is_the_highest_bit_of_its_eight_words() {
        let mut lapic = kvm_lapic_state::default();
        assert_eq!(highest_vector(&lapic, LAPIC_IRR), None);
        // Vectors 0x30 and 0xF3: bit 16 of word 1, bit 19 of word 7.
        lapic.regs[LAPIC_IRR + 0x12] = 1;
        lapic.regs[LAPIC_IRR + 0x72] = 1 << 3;
        assert_eq!(highest_vector(&lapic, LAPIC_IRR), Some(0xF3));
        assert_eq!(highest_vector(&lapic, LAPIC_ISR), None);
    }

    #[test]
    fn display_of_a_vcpu_that_waits_for_an_interrupt_names_its_vector() {
        let mut state = state(KVM_MP_STATE_RUNNABLE);
        state.requested = Some(0xE0);
        assert!(
            state
                .to_string()
                .ends_with("interrupts on, vector 0xe0 requested"),
            "{state}"
        );
    }

    #[test]
    fn display_of_a_vcpu_that_was_never_started_shows_no_registers() {
        let state = state(KVM_MP_STATE_UNINITIALIZED);
        assert!(state.is_waiting() && !state.is_halted());
        assert_eq!(state.to_string(), "waits for INIT and SIPI");
    }
}
