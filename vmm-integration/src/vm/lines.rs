// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! The interrupt lines of devices: pins of the I/O APIC, wherever that is.

use std::io;
use std::sync::Arc;

use kvm_bindings::kvm_msi;
use kvm_ioctls::VmFd;

use crate::backend::Irqchip;
use crate::devices::{InterruptLine, IoApic, MmioBus, Msi};
use crate::linux::IOAPIC;

/// The I/O APIC's pins; those of one VM, however often it is cloned.
#[derive(Clone)]
pub enum Lines {
    /// KVM's.
    Kernel(Arc<VmFd>),
    /// Ours.
    User(Arc<IoApic>),
}

impl Lines {
    /// The I/O APIC that goes with the irqchip; ours is added to the bus.
    pub fn new(vm: &Arc<VmFd>, irqchip: Irqchip, mmio: &mut MmioBus) -> Self {
        if irqchip == Irqchip::Full {
            return Self::Kernel(vm.clone());
        }
        let vm = vm.clone();
        let ioapic = Arc::new(IoApic::new(Box::new(move |msi| send(&vm, msi))));
        let base = u64::from(IOAPIC);
        mmio.add(base..base + IOAPIC_SIZE, ioapic.clone());
        Self::User(ioapic)
    }

    /// The line to the pin of this GSI.
    pub fn line(&self, gsi: u32) -> InterruptLine {
        match self.clone() {
            Self::Kernel(vm) => Arc::new(move || {
                vm.set_irq_line(gsi, true)?;
                Ok(vm.set_irq_line(gsi, false)?)
            }),
            Self::User(ioapic) => Arc::new(move || ioapic.pulse(gsi)),
        }
    }
}

fn send(vm: &VmFd, msi: Msi) -> io::Result<()> {
    // That no LAPIC takes it is the guest's matter.
    vm.signal_msi(kvm_msi {
        address_lo: msi.address,
        data: msi.data,
        ..Default::default()
    })?;
    Ok(())
}

const IOAPIC_SIZE: u64 = 0x1000;
