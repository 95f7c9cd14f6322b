// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! Where vCPUs that were stopped are.

use std::fmt;

use anyhow::Result;
use kvm_bindings::{
    KVM_MP_STATE_HALTED, KVM_MP_STATE_INIT_RECEIVED, KVM_MP_STATE_RUNNABLE,
    KVM_MP_STATE_UNINITIALIZED,
};
use kvm_ioctls::VcpuFd;

/// One vCPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VcpuState {
    pub mp_state: u32,
    pub rip: u64,
    pub cr3: u64,
    pub takes_interrupts: bool,
}

impl VcpuState {
    /// Reads it.
    pub fn of(vcpu: &VcpuFd) -> Result<Self> {
        let regs = vcpu.get_regs()?;
        Ok(Self {
            mp_state: vcpu.get_mp_state()?.mp_state,
            rip: regs.rip,
            cr3: vcpu.get_sregs()?.cr3,
            takes_interrupts: regs.rflags & RFLAGS_IF != 0,
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
        write!(f, "{doing} at RIP {rip:#x}, CR3 {cr3:#x}, interrupts {on}")
    }
}

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
    fn display_of_a_vcpu_that_was_never_started_shows_no_registers() {
        let state = state(KVM_MP_STATE_UNINITIALIZED);
        assert!(state.is_waiting() && !state.is_halted());
        assert_eq!(state.to_string(), "waits for INIT and SIPI");
    }
}
