// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! The VM's table of GSI routes.

use std::io;
use std::sync::{Arc, Mutex};

use anyhow::{Context, Result};
use kvm_bindings::{
    KVM_IRQ_ROUTING_HV_SINT, KVM_IRQ_ROUTING_IRQCHIP, KVM_IRQCHIP_IOAPIC, KvmIrqRouting,
    kvm_irq_routing_entry, kvm_irq_routing_hv_sint, kvm_irq_routing_irqchip,
};
use kvm_ioctls::VmFd;
use vm_synic::backend::kvm::GsiTable;
use vm_synic::{SintIndex, VpIndex};

use crate::backend::{IOAPIC_PINS, Irqchip};

/// All routes, as KVM takes them: as a whole.
pub struct Routes {
    vm: Arc<VmFd>,
    entries: Mutex<Vec<kvm_irq_routing_entry>>,
}

impl Routes {
    /// The routes of an irqchip's own pins.
    pub fn new(vm: Arc<VmFd>, irqchip: Irqchip) -> Result<Self> {
        let pins = match irqchip {
            Irqchip::Full => (0..IOAPIC_PINS as u32).map(ioapic_pin).collect(),
            Irqchip::Split => Vec::new(),
        };
        let routes = Self {
            vm,
            entries: Mutex::new(pins),
        };
        let entries = routes.entries.lock().unwrap_or_else(|e| e.into_inner());
        routes.set(&entries).context("Cannot set the GSI routes")?;
        drop(entries);
        Ok(routes)
    }

    fn set(&self, entries: &[kvm_irq_routing_entry]) -> io::Result<()> {
        let table = KvmIrqRouting::from_entries(entries).map_err(io::Error::other)?;
        Ok(self.vm.set_gsi_routing(&table)?)
    }
}

impl GsiTable for Routes {
    fn add_sint(&self, vp: VpIndex, sint: SintIndex) -> io::Result<u32> {
        let mut entries = self.entries.lock().unwrap_or_else(|e| e.into_inner());
        let last = entries.iter().map(|entry| entry.gsi).max();
        let gsi = last.map_or(0, |gsi| gsi + 1).max(IOAPIC_PINS as u32);
        entries.push(hv_sint(gsi, vp, sint));
        let set = self.set(&entries);
        if set.is_err() {
            entries.pop();
        }
        set.map(|()| gsi)
    }
}

fn ioapic_pin(pin: u32) -> kvm_irq_routing_entry {
    let mut entry = kvm_irq_routing_entry {
        gsi: pin,
        type_: KVM_IRQ_ROUTING_IRQCHIP,
        ..Default::default()
    };
    entry.u.irqchip = kvm_irq_routing_irqchip {
        irqchip: KVM_IRQCHIP_IOAPIC,
        pin,
    };
    entry
}

fn hv_sint(gsi: u32, vp: VpIndex, sint: SintIndex) -> kvm_irq_routing_entry {
    let mut entry = kvm_irq_routing_entry {
        gsi,
        type_: KVM_IRQ_ROUTING_HV_SINT,
        ..Default::default()
    };
    entry.u.hv_sint = kvm_irq_routing_hv_sint {
        vcpu: vp.get(),
        sint: sint.get().into(),
    };
    entry
}
