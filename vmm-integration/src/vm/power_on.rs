// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! The state of vCPUs and irqchip at power-on, to which a reset brings them back. KVM has no ioctl
//! for that, so that each is asked for its state right after its creation.

use anyhow::{Context, Result};
use kvm_bindings::{
    KVM_IRQCHIP_IOAPIC, KVM_IRQCHIP_PIC_MASTER, KVM_IRQCHIP_PIC_SLAVE, Msrs, kvm_debugregs,
    kvm_fpu, kvm_irqchip, kvm_lapic_state, kvm_mp_state, kvm_msr_entry, kvm_regs, kvm_sregs,
    kvm_vcpu_events, kvm_xcrs,
};
use kvm_ioctls::{Cap, Kvm, VcpuFd, VmFd};

use crate::backend::Irqchip;

/// All of a VM.
#[derive(Clone)]
pub struct PowerOn {
    vcpus: Vec<Vcpu>,
    irqchip: Vec<kvm_irqchip>,
}

impl PowerOn {
    /// Of a VM that has not run.
    pub fn of(kvm: &Kvm, vm: &VmFd, irqchip: Irqchip, vcpus: &[VcpuFd]) -> Result<Self> {
        let list = kvm.get_msr_index_list();
        let list = list.context("Cannot list the MSRs that a vCPU has")?;
        let msrs: Vec<u32> = list.as_slice().iter().copied().filter(is_kept).collect();
        let has_xcrs = vm.check_extension(Cap::Xcrs);
        let vcpus = vcpus.iter().map(|vcpu| Vcpu::of(vcpu, &msrs, has_xcrs));
        let chips: &[u32] = match irqchip {
            Irqchip::Full => &[
                KVM_IRQCHIP_PIC_MASTER,
                KVM_IRQCHIP_PIC_SLAVE,
                KVM_IRQCHIP_IOAPIC,
            ],
            Irqchip::Split => &[],
        };
        Ok(Self {
            vcpus: vcpus.collect::<Result<_>>()?,
            irqchip: chips
                .iter()
                .map(|id| chip(vm, *id))
                .collect::<Result<_>>()?,
        })
    }

    /// Brings everything back to it; no vCPU runs.
    pub fn restore(&self, vm: &VmFd, vcpus: &[VcpuFd]) -> Result<()> {
        for chip in &self.irqchip {
            vm.set_irqchip(chip).context("Cannot reset the irqchip")?;
        }
        for (index, (state, vcpu)) in self.vcpus.iter().zip(vcpus).enumerate() {
            let restored = state.restore(vcpu);
            restored.with_context(|| format!("Cannot reset vCPU {index}"))?;
        }
        Ok(())
    }
}

#[derive(Clone)]
struct Vcpu {
    mp_state: kvm_mp_state,
    regs: kvm_regs,
    sregs: kvm_sregs,
    fpu: kvm_fpu,
    xcrs: Option<kvm_xcrs>,
    debug_regs: kvm_debugregs,
    lapic: kvm_lapic_state,
    msrs: Vec<kvm_msr_entry>,
    events: kvm_vcpu_events,
}

impl Vcpu {
    fn of(vcpu: &VcpuFd, msrs: &[u32], has_xcrs: bool) -> Result<Self> {
        let read = || -> Result<Self, kvm_ioctls::Error> {
            Ok(Self {
                mp_state: vcpu.get_mp_state()?,
                regs: vcpu.get_regs()?,
                sregs: vcpu.get_sregs()?,
                fpu: vcpu.get_fpu()?,
                xcrs: has_xcrs.then(|| vcpu.get_xcrs()).transpose()?,
                debug_regs: vcpu.get_debug_regs()?,
                lapic: vcpu.get_lapic()?,
                msrs: Vec::new(),
                events: vcpu.get_vcpu_events()?,
            })
        };
        let mut state = read().context("Cannot read the state of a new vCPU")?;
        state.msrs = read_msrs(vcpu, msrs)?;
        Ok(state)
    }

    /// The LAPIC follows the registers, which have its base, and precedes the MSRs, which have the
    /// deadline of its timer.
    fn restore(&self, vcpu: &VcpuFd) -> Result<()> {
        vcpu.set_regs(&self.regs)?;
        vcpu.set_sregs(&self.sregs)?;
        vcpu.set_fpu(&self.fpu)?;
        if let Some(xcrs) = &self.xcrs {
            vcpu.set_xcrs(xcrs)?;
        }
        vcpu.set_debug_regs(&self.debug_regs)?;
        vcpu.set_lapic(&self.lapic)?;
        write_msrs(vcpu, &self.msrs)?;
        vcpu.set_vcpu_events(&self.events)?;
        vcpu.set_mp_state(self.mp_state)?;
        Ok(())
    }
}

fn chip(vm: &VmFd, chip_id: u32) -> Result<kvm_irqchip> {
    let mut chip = kvm_irqchip {
        chip_id,
        ..Default::default()
    };
    vm.get_irqchip(&mut chip)
        .context("Cannot read the state of the new irqchip")?;
    Ok(chip)
}

/// The TSC goes on, as KVM keeps those of all vCPUs in step; Hyper-V's MSRs are the SynIC's matter.
fn is_kept(msr: &u32) -> bool {
    *msr != MSR_IA32_TSC && !HYPERV_MSRS.contains(msr)
}

/// KVM lists MSRs that not every CPU model has, and stops at each of them: those are left out.
fn read_msrs(vcpu: &VcpuFd, indices: &[u32]) -> Result<Vec<kvm_msr_entry>> {
    let entry = |index: &u32| kvm_msr_entry {
        index: *index,
        ..Default::default()
    };
    let mut rest: Vec<_> = indices.iter().map(entry).collect();
    let mut found = Vec::with_capacity(rest.len());
    while !rest.is_empty() {
        let mut msrs = Msrs::from_entries(&rest).context("Too many MSRs")?;
        let read = vcpu.get_msrs(&mut msrs).context("Cannot read the MSRs")?;
        found.extend(msrs.as_slice().iter().take(read).copied());
        rest.drain(..rest.len().min(read + 1));
    }
    Ok(found)
}

/// Leaves out those that are read-only.
fn write_msrs(vcpu: &VcpuFd, entries: &[kvm_msr_entry]) -> Result<()> {
    let mut rest = entries;
    while !rest.is_empty() {
        let msrs = Msrs::from_entries(rest).context("Too many MSRs")?;
        let written = vcpu.set_msrs(&msrs).context("Cannot write the MSRs")?;
        rest = rest.get(written + 1..).unwrap_or_default();
    }
    Ok(())
}

const MSR_IA32_TSC: u32 = 0x10;
const HYPERV_MSRS: std::ops::Range<u32> = 0x4000_0000..0x4000_2000;
