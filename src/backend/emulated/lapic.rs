// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! Opens a LAPIC's LINT0 for the vectors that need no EOI.

use kvm_bindings::{Msrs, kvm_lapic_state, kvm_msr_entry};
use kvm_ioctls::{Error as KvmError, VcpuFd};

/// Makes the LAPIC pass on what `KVM_INTERRUPT` brings; does nothing if it already does.
///
/// With a split irqchip KVM takes such a vector as one of an external interrupt controller and
/// delivers it while LVT0 is unmasked with delivery mode ExtINT (`kvm: kvm_apic_accept_pic_intr`).
/// INIT and a software-disable of the LAPIC mask LVT0, so this is asked before every injection.
/// The guest has no use of its own for LINT0: no PIC is wired to it.
pub fn open_lint0(vcpu: &VcpuFd) -> Result<(), KvmError> {
    let mut lapic = vcpu.get_lapic()?;
    if register(&lapic, LVT0) == LVT_EXTINT {
        return Ok(());
    }
    // Preferred, because it touches one register. KVM_SET_LAPIC writes back the whole page with
    // the IRR just read, and so may lose an interrupt that arrives in between.
    if set_by_msr(vcpu)? {
        return Ok(());
    }
    set_register(&mut lapic, LVT0, LVT_EXTINT);
    vcpu.set_lapic(&lapic)
}

/// Sets LVT0 as the x2APIC MSR; false if the LAPIC is not in x2APIC mode.
fn set_by_msr(vcpu: &VcpuFd) -> Result<bool, KvmError> {
    let lvt0 = kvm_msr_entry {
        index: X2APIC_LVT0,
        data: u64::from(LVT_EXTINT),
        ..Default::default()
    };
    match Msrs::from_entries(&[lvt0]) {
        Ok(msrs) => Ok(vcpu.set_msrs(&msrs)? == 1 && is_open(vcpu)?),
        Err(_) => Ok(false),
    }
}

fn is_open(vcpu: &VcpuFd) -> Result<bool, KvmError> {
    Ok(register(&vcpu.get_lapic()?, LVT0) == LVT_EXTINT)
}

fn register(lapic: &kvm_lapic_state, offset: usize) -> u32 {
    let bytes = std::array::from_fn(|i| lapic.regs.get(offset + i).map_or(0, |b| *b as u8));
    u32::from_le_bytes(bytes)
}

fn set_register(lapic: &mut kvm_lapic_state, offset: usize, value: u32) {
    let bytes = value.to_le_bytes();
    for (register, byte) in lapic.regs.iter_mut().skip(offset).zip(bytes) {
        *register = byte as _;
    }
}

/// Offset of LVT LINT0 in the register page (SDM volume 3, table "Local APIC Register Address
/// Map").
const LVT0: usize = 0x350;
/// Unmasked, delivery mode ExtINT.
const LVT_EXTINT: u32 = 0x700;
const X2APIC_LVT0: u32 = 0x835;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn set_register_when_read_back_touches_only_that_register() {
        let mut lapic = kvm_lapic_state::default();
        set_register(&mut lapic, LVT0, 0x0001_0700);
        assert_eq!(register(&lapic, LVT0), 0x0001_0700);
        assert_eq!(register(&lapic, LVT0 - 4), 0);
        assert_eq!(register(&lapic, LVT0 + 4), 0);
    }
}
