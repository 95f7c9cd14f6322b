// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! The interrupt line of each SINT in use: an irqfd on a GSI that is routed to it.

use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, OnceLock};

use kvm_ioctls::VmFd;
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use crate::sync::lock;
use crate::{Bank, GuestSpace, SintAddr, SintIndex, SintInterrupt, SynicManager, VpIndex, Watch};

/// The VM's table of GSI routes, which is the VMM's: `KVM_SET_GSI_ROUTING` replaces all of it.
pub trait GsiTable: Send + Sync {
    /// Adds a route of type KVM_IRQ_ROUTING_HV_SINT to a free GSI, and says to which. It is asked
    /// once for each SINT of a VP, when the guest unmasks it for the first time. The vCPU's SynIC is
    /// enabled by then, without which KVM would not tell of its EOMs
    /// (`kvm: kvm_hv_irq_routing_update`).
    ///
    /// # Errors
    /// No GSI is free, or KVM has refused the table.
    fn add_sint(&self, vp: VpIndex, sint: SintIndex) -> io::Result<u32>;
}

/// The lines of all VPs.
pub struct SintLines {
    vm: Arc<VmFd>,
    gsis: Arc<dyn GsiTable>,
    lines: Box<[[OnceLock<Line>; 16]]>,
    /// Held while a line is made.
    making: Mutex<()>,
    /// Where to hear of slots that may be free, if by resample eventfds.
    watch: OnceLock<MakeWatch>,
}

type MakeWatch = Box<dyn Fn(SintAddr) -> io::Result<Watch> + Send + Sync>;

struct Line {
    fd: EventFd,
    _resample: Option<Watch>,
}

impl SintLines {
    /// Lines for VPs 0 to `vps - 1` of `vm`; none is made yet.
    pub fn new(vm: Arc<VmFd>, gsis: Arc<dyn GsiTable>, vps: u32) -> Self {
        Self {
            vm,
            gsis,
            lines: (0..vps).map(|_| Default::default()).collect(),
            making: Mutex::default(),
            watch: OnceLock::new(),
        }
    }

    /// For [`EomNotice::Resample`](super::EomNotice): has the manager hear of each slot that may be
    /// free, in the loop that serves its [`events`](SynicManager::events). Call it before a vCPU
    /// runs; a second call changes nothing.
    pub fn resample<AS: GuestSpace>(&self, manager: &Arc<SynicManager<AS>>) {
        let manager = Arc::downgrade(manager);
        let _ = self.watch.set(Box::new(move |addr| {
            let gone = || io::Error::other("The manager is gone");
            let told = manager.clone();
            let watch = manager.upgrade().ok_or_else(gone)?.watch(move |_| {
                if let Some(manager) = told.upgrade() {
                    manager.slot_freed(addr);
                }
            });
            watch.map_err(io::Error::other)
        }));
    }

    /// Raises a SINT, from any thread: one write to an eventfd. Meant to be the body of
    /// [`Host::assert_sint`](crate::Host::assert_sint).
    ///
    /// # Errors
    /// The line could not be made, or not be signalled.
    pub fn assert(&self, interrupt: SintInterrupt) -> io::Result<()> {
        self.line(interrupt.addr)?.fd.write(1)
    }

    /// Makes the line of a SINT that the guest unmasks. Meant to be the body of
    /// [`Host::route`](crate::Host::route).
    ///
    /// # Errors
    /// The line could not be made.
    pub fn route(&self, addr: SintAddr, vector: Option<u8>) -> io::Result<()> {
        // KVM has no nested bank.
        if vector.is_some() && addr.bank == Bank::Plain {
            self.line(addr)?;
        }
        Ok(())
    }

    fn line(&self, addr: SintAddr) -> io::Result<&Line> {
        let slot = self.slot(addr)?;
        if let Some(line) = slot.get() {
            return Ok(line);
        }
        let _making = lock(&self.making);
        if let Some(line) = slot.get() {
            return Ok(line);
        }
        let line = self.make(addr)?;
        Ok(slot.get_or_init(|| line))
    }

    fn make(&self, addr: SintAddr) -> io::Result<Line> {
        let fd = EventFd::new(EFD_NONBLOCK)?;
        let gsi = self.gsis.add_sint(addr.vp, addr.sint)?;
        let resample = self.watch.get().map(|watch| watch(addr)).transpose()?;
        match &resample {
            Some(watch) => (self.vm).register_irqfd_with_resample(&fd, watch.fd(), gsi),
            None => self.vm.register_irqfd(&fd, gsi),
        }?;
        Ok(Line {
            fd,
            _resample: resample,
        })
    }

    fn slot(&self, addr: SintAddr) -> io::Result<&OnceLock<Line>> {
        let vp = usize::try_from(addr.vp.get()).ok();
        let lines = vp.and_then(|vp| self.lines.get(vp));
        lines
            .and_then(|lines| lines.get(usize::from(addr.sint.get())))
            .filter(|_| addr.bank == Bank::Plain)
            .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, format!("{addr} has no line")))
    }
}

impl fmt::Debug for SintLines {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let made = self
            .lines
            .iter()
            .flatten()
            .filter(|line| line.get().is_some());
        write!(f, "SintLines({} made)", made.count())
    }
}
