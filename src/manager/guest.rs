// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! What the guest does: MSRs, hypercalls and writes to doorbells. On the thread of the VP.

use super::SynicManager;
use crate::abi::{Bank, PortId, Register, RegisterId, Sint, SintAddr, SintIndex, VpIndex};
use crate::error::{MsrError, RingError};
use crate::hypercall::{self, HypercallInput};
use crate::page::GuestSpace;
use crate::routing::{DoorbellSink, DoorbellTarget};
use crate::synic::Synic;
use crate::vp::Vp;
use std::sync::OnceLock;

impl<AS: GuestSpace> SynicManager<AS> {
    /// The guest reads an MSR.
    ///
    /// # Errors
    /// [`MsrError::NotMine`]: answer it yourself. [`MsrError::Fault`]: inject #GP.
    pub fn read_msr(&self, vp: VpIndex, msr: u32) -> Result<u64, MsrError> {
        if let Some(value) = self.hypercall_page.read_msr(msr) {
            return Ok(value);
        }
        let id = self.register_of(msr).ok_or(MsrError::NotMine(msr))?;
        self.read_register(vp, id)
    }

    /// The guest writes an MSR.
    ///
    /// # Errors
    /// [`MsrError::NotMine`]: handle it yourself. [`MsrError::Fault`]: inject #GP.
    pub fn write_msr(&self, vp: VpIndex, msr: u32, value: u64) -> Result<(), MsrError> {
        if let Some(id) = self.register_of(msr) {
            return self.write_register(vp, id, value);
        }
        let memory = self.space.memory();
        let written = self.hypercall_page.write_msr(msr, value, &*memory)?;
        if written.guest_left {
            // Linux clears GUEST_OS_ID last before a kexec, and the next kernel's ring tails
            // start at 0.
            let banks = self.online().flat_map(Vp::banks);
            banks.for_each(|(_, synic)| synic.rewind_rings());
            self.forget_guest_ports();
        }
        Ok(())
    }

    /// Reads a register of a VP.
    ///
    /// # Errors
    /// [`MsrError::Fault`] for a VP or bank that is not there.
    pub fn read_register(&self, vp: VpIndex, id: RegisterId) -> Result<u64, MsrError> {
        let vp = self.vp(vp).filter(|_| self.has_register(id));
        vp.ok_or(MsrError::Fault)?.read(id)
    }

    /// Writes a register of a VP, as the guest would.
    ///
    /// # Errors
    /// [`MsrError::Fault`] for a value that the register does not take.
    pub fn write_register(&self, vp: VpIndex, id: RegisterId, value: u64) -> Result<(), MsrError> {
        let vp = self.vp(vp).filter(|_| self.has_register(id));
        let vp = vp.ok_or(MsrError::Fault)?;
        self.bring_time(vp, id.register.is_timer());
        let signals = vp.write(id, value, &self.context())?;
        self.update_route(vp, id);
        if let Some(synic) = vp.synic(id.bank) {
            self.apply(vp, id.bank, synic, signals);
        }
        if id == RegisterId::plain(Register::Sirbp) {
            self.hand_stranded_ports_over(vp);
        }
        Ok(())
    }

    /// The guest makes a hypercall. Gives the result value (RAX), or `None` if the call is not the
    /// SynIC's: the VMM then answers itself, at the least with `HV_STATUS_INVALID_HYPERCALL_CODE`.
    pub fn hypercall(&self, vp: VpIndex, input: HypercallInput) -> Option<u64> {
        hypercall::dispatch(self, vp, input)
    }

    /// The guest writes to an address without RAM. True: it rang a doorbell, and the write is done.
    pub fn mmio_write(&self, gpa: u64, data: &[u8]) -> bool {
        let rung = (self.doorbells).with_match(gpa, data, |sink| self.sink(sink));
        rung.is_some()
    }

    /// The guest has drained a full event ring (`HvNotifyPortRingEmpty`).
    pub(crate) fn ring_empty(&self, vp: VpIndex, sint: SintIndex) {
        let vp = self.vp(vp);
        if let Some(synic) = vp.and_then(|vp| vp.synic(Bank::Plain)) {
            synic.ring_empty(sint);
        }
    }

    pub(crate) fn guest_memory(&self) -> AS::T {
        self.space.memory()
    }

    /// Whether the registers are the manager's.
    pub(crate) fn has_registers(&self) -> bool {
        self.partition.is_none()
    }

    pub(crate) fn has_vp(&self, vp: VpIndex) -> bool {
        self.vp(vp).is_some()
    }

    /// The register behind an MSR. Where the timers are not ours, theirs are the VMM's to answer; where
    /// the hypervisor has the SynIC, all are its own.
    fn register_of(&self, msr: u32) -> Option<RegisterId> {
        let id = RegisterId::from_msr(msr)?;
        let is_ours = self.config.runs_timers() || !id.register.is_timer();
        Some(id).filter(|_| is_ours && self.partition.is_none())
    }

    fn sink(&self, sink: &DoorbellSink) {
        match sink {
            DoorbellSink::Fd(fd) => {
                if let Err(error) = fd.write(1) {
                    log::error!("Cannot signal a doorbell's eventfd: {error}");
                }
            }
            DoorbellSink::Ring { target, sint, port } => {
                if let Err(error) = self.ring_doorbell(*target, *sint, *port) {
                    log::debug!("{error}");
                }
            }
        }
    }

    /// Rings a port on a VP's event ring, as a doorbell does. It is never lost: where the ring is
    /// full or off, the port waits.
    ///
    /// # Errors
    /// [`RingError`] if there is no such VP, or none at all.
    pub fn ring_doorbell(
        &self,
        target: DoorbellTarget,
        sint: SintIndex,
        port: PortId,
    ) -> Result<(), RingError> {
        if self.partition.is_some() {
            return Err(RingError::NotOurs(port));
        }
        let vp = match target {
            DoorbellTarget::Vp(vp) => {
                let addr = SintAddr::new(vp, sint);
                self.vp(vp).ok_or(RingError::NoVp(addr))?
            }
            DoorbellTarget::AnyVp => self.any_vp(port).ok_or(RingError::NoVpAtAll(port))?,
        };
        self.ring_on(vp, sint, port);
        Ok(())
    }

    /// The next VP whose event ring is on, or else the next there is.
    fn any_vp(&self, port: PortId) -> Option<&Vp<AS>> {
        self.vp_with_ring(port)
            .or_else(|| self.online_from(port).next())
    }

    /// The next VP whose event ring is on.
    pub(super) fn vp_with_ring(&self, port: PortId) -> Option<&Vp<AS>> {
        let has_ring = |vp: &&Vp<AS>| vp.synic(Bank::Plain).is_some_and(Synic::takes_doorbells);
        self.online_from(port).find(has_ring)
    }

    /// All VPs, from one that the port's id gives: ports are spread over the VPs, and each stays
    /// with its own.
    fn online_from(&self, port: PortId) -> impl Iterator<Item = &Vp<AS>> {
        let first = port.get() as usize % self.vps.len().max(1);
        let vps = self.vps.iter().cycle().skip(first).take(self.vps.len());
        let there = vps.filter_map(OnceLock::get);
        there.filter(|vp| vp.is_online())
    }

    /// Tells the VMM where every SINT's interrupts go, after something else than the guest has
    /// changed that.
    pub(super) fn update_routes(&self, vp: &Vp<AS>) {
        for (bank, _) in vp.banks() {
            for sint in SintIndex::all() {
                let register = Register::Sint(sint);
                self.update_route(vp, RegisterId { bank, register });
            }
        }
    }

    /// Tells the VMM where a SINT's interrupts go now.
    fn update_route(&self, vp: &Vp<AS>, id: RegisterId) {
        let Register::Sint(sint) = id.register else {
            return;
        };
        let value = vp.read(id).map(Sint::from);
        let vector = value
            .ok()
            .filter(|sint| !sint.masked())
            .map(|sint| sint.vector());
        let addr = SintAddr {
            vp: vp.index,
            bank: id.bank,
            sint,
        };
        let Err(error) = self.host.route(addr, vector) else {
            return;
        };
        if let Some(synic) = vp.synic(id.bank) {
            let level = synic.interrupt_failed(sint);
            log::log!(level, "Cannot route {addr}: {error}");
        }
    }
}
