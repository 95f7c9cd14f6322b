// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! A VM as a value, but for its RAM.

use anyhow::{Context, Result, ensure};
use kvm_ioctls::VcpuFd;
use serde::{Deserialize, Serialize};
use vm_synic::VpIndex;
use vm_synic::backend::emulated::VectorSet;
use vm_synic::state::State;

use super::Vm;
use super::registers::Registers;
use crate::backend::Backend;
use crate::clock::Clock;
use crate::devices::Saved;
use crate::hyperv_msrs::SavedMsrs;

/// A VM whose vCPUs were stopped.
#[derive(Serialize, Deserialize)]
pub struct SavedVm {
    clock: Clock,
    registers: Registers,
    /// Those of Hyper-V that are neither the clock's nor the SynIC's.
    msrs: SavedMsrs,
    /// Vectors with AutoEOI that wait for each vCPU.
    vectors: Vec<[u64; 4]>,
    synic: State,
    ports: Saved,
    mmio: Saved,
}

impl Vm {
    /// All of it, but for its RAM, and for what the user of this VM has made: VMBus, say. RAM is not
    /// written from now on, until the VM is started again.
    pub fn save(&self) -> Result<SavedVm> {
        let shared = &self.shared;
        ensure!(
            shared.hypervisor.is_none(),
            "A guest that is a parent cannot be saved: its partitions would be lost"
        );
        shared.manager.pause();
        for (vp, vcpu) in self.vps() {
            shared.backend.capture_vcpu(&shared.manager, vp, vcpu)?;
        }
        if let Backend::Kvm(_) = shared.backend {
            shared.msrs.capture(&self.vcpus)?;
        }
        let vectors = self.vps().map(|(vp, _)| shared.host.waiting_vectors(vp));
        let machine = &self.machine;
        Ok(SavedVm {
            clock: self.clock()?,
            registers: Registers::read(&machine.layout, &machine.vm, &self.vcpus)?,
            msrs: shared.msrs.save(),
            vectors: vectors.map(|set| Ok(set?.0)).collect::<Result<_>>()?,
            synic: shared.manager.save()?,
            ports: shared.ports.save(),
            mmio: shared.mmio.save(),
        })
    }

    /// Puts a state into this VM, which is new, of the same size, and has its RAM already. On an error,
    /// the VM is of no use any more.
    pub fn restore(&mut self, saved: &SavedVm) -> Result<()> {
        let (shared, machine) = (&self.shared, &self.machine);
        let khz = shared.time.khz();
        saved.clock.set_tsc(&self.vcpus, khz).context("clock")?;
        (saved.registers)
            .write(&machine.layout, &machine.vm, &self.vcpus)
            .context("registers")?;
        self.set_clock(&saved.clock).context("clock")?;
        shared.manager.restore(&saved.synic).context("synic")?;
        shared.msrs.restore(&saved.msrs).context("msrs")?;
        for (vp, vcpu) in self.vps() {
            shared.backend.restore_vcpu(&shared.manager, vp, vcpu)?;
        }
        if let Backend::Kvm(_) = shared.backend {
            shared.msrs.load(&self.vcpus).context("msrs")?;
        }
        let (ours, theirs) = (self.vcpus.len(), saved.vectors.len());
        ensure!(
            ours == theirs,
            "vectors: {theirs} sets where there are {ours}"
        );
        for ((vp, _), vectors) in self.vps().zip(&saved.vectors) {
            shared.host.set_waiting_vectors(vp, VectorSet(*vectors))?;
        }
        shared.ports.restore(&saved.ports).context("ports")?;
        shared.mmio.restore(&saved.mmio).context("mmio")
    }

    fn clock(&self) -> Result<Clock> {
        let (first, time) = (self.first()?, &self.shared.time);
        match self.shared.backend {
            Backend::Emulated => time.save(first),
            Backend::Kvm(_) => Clock::of_kvm(first, time.khz()),
        }
    }

    fn set_clock(&self, clock: &Clock) -> Result<()> {
        let (first, shared) = (self.first()?, &self.shared);
        match shared.backend {
            Backend::Emulated => shared.time.restore(clock, first, shared.memory.as_ref()),
            Backend::Kvm(_) => clock.set_kvm(&self.machine.vm, first),
        }
    }

    fn first(&self) -> Result<&VcpuFd> {
        self.vcpus.first().context("The VM has no vCPU")
    }

    fn vps(&self) -> impl Iterator<Item = (VpIndex, &VcpuFd)> {
        (0..).map(VpIndex::new).zip(&self.vcpus)
    }
}
