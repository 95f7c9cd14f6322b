// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! What KVM alone has of a VM: the registers of its vCPUs, and the irqchip. Taken at power-on, it is
//! what a reset brings them back to, for which KVM has no ioctl; taken later, it is in a saved state.

use anyhow::{Context, Result, ensure};
use kvm_bindings::{
    KVM_IRQCHIP_IOAPIC, KVM_IRQCHIP_PIC_MASTER, KVM_IRQCHIP_PIC_SLAVE, Msrs, kvm_debugregs,
    kvm_irqchip, kvm_lapic_state, kvm_mp_state, kvm_regs, kvm_sregs, kvm_vcpu_events, kvm_xcrs,
    kvm_xsave,
};
use kvm_ioctls::{Cap, Kvm, VcpuFd, VmFd};
use serde::{Deserialize, Serialize};

use crate::backend::Irqchip;
use crate::hex::Hex;
use crate::msr::entry;

/// Which registers there are.
#[derive(Clone, Debug)]
pub struct Layout {
    msrs: Vec<u32>,
    has_xcrs: bool,
    chips: &'static [u32],
}

impl Layout {
    /// Of this VM.
    pub fn of(kvm: &Kvm, vm: &VmFd, irqchip: Irqchip) -> Result<Self> {
        let list = kvm.get_msr_index_list();
        let list = list.context("Cannot list the MSRs that a vCPU has")?;
        Ok(Self {
            msrs: list.as_slice().iter().copied().filter(is_kept).collect(),
            has_xcrs: vm.check_extension(Cap::Xcrs),
            chips: match irqchip {
                Irqchip::Full => &[
                    KVM_IRQCHIP_PIC_MASTER,
                    KVM_IRQCHIP_PIC_SLAVE,
                    KVM_IRQCHIP_IOAPIC,
                ],
                Irqchip::Split => &[],
            },
        })
    }
}

/// All of a VM.
#[derive(Serialize, Deserialize)]
pub struct Registers {
    vcpus: Vec<Vcpu>,
    irqchip: Vec<Hex<kvm_irqchip>>,
}

impl Registers {
    /// As they are now; no vCPU runs.
    pub fn read(layout: &Layout, vm: &VmFd, vcpus: &[VcpuFd]) -> Result<Self> {
        let vcpus = vcpus.iter().map(|vcpu| Vcpu::read(vcpu, layout));
        let chips = layout.chips.iter().map(|id| chip(vm, *id));
        Ok(Self {
            vcpus: vcpus.collect::<Result<_>>()?,
            irqchip: chips.collect::<Result<_>>()?,
        })
    }

    /// Brings everything back to this; no vCPU runs. A TSC is left alone, as KVM keeps those of all
    /// vCPUs in step, and so are Hyper-V's MSRs.
    pub fn write(&self, layout: &Layout, vm: &VmFd, vcpus: &[VcpuFd]) -> Result<()> {
        let (ours, theirs) = (vcpus.len(), self.vcpus.len());
        ensure!(ours == theirs, "vcpus: {theirs} where there are {ours}");
        let chips: Vec<_> = self.irqchip.iter().map(|chip| chip.0.chip_id).collect();
        let wanted = layout.chips;
        ensure!(chips == wanted, "irqchip: chips {chips:?}, not {wanted:?}");
        for Hex(chip) in &self.irqchip {
            let written = vm.set_irqchip(chip);
            written.with_context(|| format!("irqchip: chip {} is refused", chip.chip_id))?;
        }
        for (index, (state, vcpu)) in self.vcpus.iter().zip(vcpus).enumerate() {
            let written = state.write(vcpu);
            written.with_context(|| format!("vcpus[{index}]"))?;
        }
        Ok(())
    }
}

#[derive(Serialize, Deserialize)]
struct Vcpu {
    mp_state: Hex<kvm_mp_state>,
    regs: Hex<kvm_regs>,
    sregs: Hex<kvm_sregs>,
    xcrs: Option<Hex<kvm_xcrs>>,
    xsave: Hex<kvm_xsave>,
    debug_regs: Hex<kvm_debugregs>,
    lapic: Hex<kvm_lapic_state>,
    /// Index and value.
    msrs: Vec<(u32, u64)>,
    events: Hex<kvm_vcpu_events>,
}

impl Vcpu {
    fn read(vcpu: &VcpuFd, layout: &Layout) -> Result<Self> {
        let read = || -> Result<Self, kvm_ioctls::Error> {
            let xcrs = layout.has_xcrs.then(|| vcpu.get_xcrs()).transpose()?;
            Ok(Self {
                mp_state: Hex(vcpu.get_mp_state()?),
                regs: Hex(vcpu.get_regs()?),
                sregs: Hex(vcpu.get_sregs()?),
                xcrs: xcrs.map(Hex),
                xsave: Hex(vcpu.get_xsave()?),
                debug_regs: Hex(vcpu.get_debug_regs()?),
                lapic: Hex(vcpu.get_lapic()?),
                msrs: Vec::new(),
                events: Hex(vcpu.get_vcpu_events()?),
            })
        };
        let mut state = read().context("Cannot read the state of a vCPU")?;
        state.msrs = read_msrs(vcpu, &layout.msrs)?;
        Ok(state)
    }

    /// The LAPIC follows the registers, which have its base, and precedes the MSRs, which have the
    /// deadline of its timer.
    fn write(&self, vcpu: &VcpuFd) -> Result<()> {
        vcpu.set_regs(&self.regs.0).context("regs")?;
        vcpu.set_sregs(&self.sregs.0).context("sregs")?;
        if let Some(Hex(xcrs)) = &self.xcrs {
            vcpu.set_xcrs(xcrs).context("xcrs")?;
        }
        // SAFETY: KVM reads the 4096 bytes that the structure has, and no more: this process has asked
        // for no feature whose state is larger.
        unsafe { vcpu.set_xsave(&self.xsave.0) }.context("xsave")?;
        vcpu.set_debug_regs(&self.debug_regs.0)
            .context("debug_regs")?;
        vcpu.set_lapic(&self.lapic.0).context("lapic")?;
        write_msrs(vcpu, &self.msrs)?;
        vcpu.set_vcpu_events(&self.events.0).context("events")?;
        vcpu.set_mp_state(self.mp_state.0).context("mp_state")?;
        Ok(())
    }
}

fn chip(vm: &VmFd, chip_id: u32) -> Result<Hex<kvm_irqchip>> {
    let mut chip = kvm_irqchip {
        chip_id,
        ..Default::default()
    };
    vm.get_irqchip(&mut chip)
        .context("Cannot read the state of the irqchip")?;
    Ok(Hex(chip))
}

/// The TSC is the clock's matter, Hyper-V's MSRs are the SynIC's.
fn is_kept(msr: &u32) -> bool {
    *msr != MSR_IA32_TSC && !HYPERV_MSRS.contains(msr)
}

/// KVM lists MSRs that not every CPU model has, and stops at each of them: those are left out.
fn read_msrs(vcpu: &VcpuFd, indices: &[u32]) -> Result<Vec<(u32, u64)>> {
    let mut rest = indices;
    let mut found = Vec::with_capacity(rest.len());
    while !rest.is_empty() {
        let entries: Vec<_> = rest.iter().map(|index| entry(*index, 0)).collect();
        let mut msrs = Msrs::from_entries(&entries).context("Too many MSRs")?;
        let read = vcpu.get_msrs(&mut msrs).context("Cannot read the MSRs")?;
        let values = msrs.as_slice().iter().take(read);
        found.extend(values.map(|msr| (msr.index, msr.data)));
        rest = rest.get(read + 1..).unwrap_or_default();
    }
    Ok(found)
}

/// Leaves out those that are read-only.
fn write_msrs(vcpu: &VcpuFd, msrs: &[(u32, u64)]) -> Result<()> {
    let kept = msrs.iter().filter(|(index, _)| is_kept(index));
    let entries: Vec<_> = kept.map(|(index, value)| entry(*index, *value)).collect();
    let mut rest = entries.as_slice();
    while !rest.is_empty() {
        let msrs = Msrs::from_entries(rest).context("msrs: too many")?;
        let written = vcpu.set_msrs(&msrs).context("msrs")?;
        rest = rest.get(written + 1..).unwrap_or_default();
    }
    Ok(())
}

const MSR_IA32_TSC: u32 = 0x10;
const HYPERV_MSRS: std::ops::Range<u32> = 0x4000_0000..0x4000_2000;
