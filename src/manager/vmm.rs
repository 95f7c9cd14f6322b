// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! What the VMM does: messages and events for the guest, and the ports that hear from it.

use super::SynicManager;
use crate::abi::{Bank, ConnectionId, EventFlag, Message, PortId, SintAddr, VpIndex};
use crate::delivery::events::Signalled;
use crate::delivery::messages::{Posted, Refused};
use crate::error::{Error, PostError, SignalError};
use crate::events::Watch;
use crate::observe::{RingCounters, TimelineKind};
use crate::page::GuestSpace;
use crate::partition::PartitionError;
use crate::routing::{Doorbell, DoorbellSink, DoorbellSpec, Port, PortSpec, Registration};
use std::sync::Arc;

/// A port that is registered until this is dropped.
#[derive(Debug)]
#[must_use = "dropping it unregisters at once"]
pub struct PortHandle {
    port: Arc<Port>,
    _registration: Registration,
}

impl PortHandle {
    /// Its id.
    pub fn id(&self) -> PortId {
        self.port.id
    }
}

impl<AS: GuestSpace> SynicManager<AS> {
    /// Sends a message to a SINT: into the slot if it is free, else it waits its turn. Never kicks
    /// a VP and never waits for one.
    ///
    /// # Errors
    /// [`PostError`]. By [`PostError::WouldBlock`] the poster keeps the message, and is told by
    /// [`Host::writable`](crate::Host::writable) when to try again.
    pub fn post_message(&self, addr: SintAddr, message: &Message) -> Result<Posted, PostError> {
        let vp = self.vp(addr.vp).ok_or(PostError::NoVp(addr))?;
        let synic = vp.synic(addr.bank).ok_or(PostError::NoVp(addr))?;
        let posted = synic.post(addr.sint, message, &self.config);
        let (posted, signals) = posted.map_err(|refused| match refused {
            Refused::NotReady(cause) => PostError::NotReady { addr, cause },
            Refused::Full => PostError::WouldBlock(addr),
            Refused::Failed(PartitionError::NoVp) => PostError::NoVp(addr),
            Refused::Failed(source) => PostError::Failed { addr, source },
        })?;
        vp.record(|| TimelineKind::Message {
            sint: addr.sint,
            queued: posted == Posted::Queued,
        });
        self.apply(vp, addr.bank, synic, signals);
        Ok(posted)
    }

    /// A hypervisor that takes the guest's EOM itself, as KVM does with its own SynIC, tells that
    /// the slot of a SINT may be free again. Any thread; once too often does no harm.
    pub fn slot_freed(&self, addr: SintAddr) {
        let Some(vp) = self.vp(addr.vp) else {
            return;
        };
        if let Some(synic) = vp.synic(addr.bank) {
            self.bring_time(vp, false);
            let signals = synic.slot_freed(addr.sint, &self.config);
            self.apply(vp, addr.bank, synic, signals);
        }
    }

    /// A VP has exited because messages for these SINTs (bit n: SINTn) can be delivered, as
    /// [`Partition::notify_deliverable`](crate::Partition::notify_deliverable) asked for: delivers
    /// what waits. Any thread; once too often does no harm.
    pub fn sints_deliverable(&self, vp: VpIndex, sints: u16) {
        let Some(vp) = self.vp(vp) else {
            return;
        };
        if let Some(synic) = vp.synic(Bank::Plain) {
            let signals = synic.deliverable(sints, &self.config);
            self.apply(vp, Bank::Plain, synic, signals);
        }
    }

    /// Sets an event flag of a SINT, and interrupts the VP if the flag was clear. True: it was.
    ///
    /// # Errors
    /// [`SignalError`].
    pub fn signal_event(&self, addr: SintAddr, flag: EventFlag) -> Result<bool, SignalError> {
        let vp = self.vp(addr.vp).ok_or(SignalError::NoVp(addr))?;
        let synic = vp.synic(addr.bank).ok_or(SignalError::NoVp(addr))?;
        let signalled = synic.signal(addr.sint, flag);
        let (signalled, signals) = signalled.map_err(|error| match error {
            PartitionError::NotReady(cause) => SignalError::NotReady { addr, cause },
            PartitionError::NoVp => SignalError::NoVp(addr),
            source => SignalError::Failed { addr, source },
        })?;
        vp.record(|| TimelineKind::Event {
            sint: addr.sint,
            flag: flag.get(),
        });
        self.apply(vp, addr.bank, synic, signals);
        Ok(signalled == Signalled::Fresh)
    }

    /// Registers a port, for [`connect`](Self::connect) to name to the guest.
    ///
    /// # Errors
    /// [`Error::PortExists`].
    pub fn create_port(&self, id: PortId, spec: PortSpec) -> Result<PortHandle, Error> {
        let port = Arc::new(Port::new(id, spec));
        let key = u64::from(id.get());
        self.ports.update(key, |there| match there {
            Some(_) => Err(Error::PortExists(id)),
            None => Ok(Some(port.clone())),
        })?;
        let (ports, deleted) = (self.ports.clone(), port.clone());
        let registration = Registration::new(id.to_string(), move || {
            deleted.delete();
            let _: Result<(), Error> = ports.update(key, |_| Ok(None));
        });
        Ok(PortHandle {
            port,
            _registration: registration,
        })
    }

    /// Names a port to the guest by a connection id.
    ///
    /// # Errors
    /// [`Error::ConnectionExists`].
    pub fn connect(&self, id: ConnectionId, port: &PortHandle) -> Result<Registration, Error> {
        let key = u64::from(id.get());
        self.connections.update(key, |there| match there {
            Some(_) => Err(Error::ConnectionExists(id)),
            None => Ok(Some(port.port.clone())),
        })?;
        let connections = self.connections.clone();
        Ok(Registration::new(id.to_string(), move || {
            let _: Result<(), Error> = connections.update(key, |_| Ok(None));
        }))
    }

    /// Has a guest's write to an address ring a doorbell.
    ///
    /// # Errors
    /// [`Error::DoorbellExists`].
    pub fn add_doorbell(
        &self,
        spec: DoorbellSpec,
        sink: DoorbellSink,
    ) -> Result<Registration, Error> {
        self.doorbells.add(Doorbell { spec, sink })?;
        let doorbells = self.doorbells.clone();
        let what = format!("doorbell at {:#x}", spec.gpa);
        Ok(Registration::new(what, move || doorbells.remove(&spec)))
    }

    /// What the event ring of a SINT has counted, and how many ports wait for room in it: for whoever
    /// rings and can wait. `None`: there is no such VP.
    pub fn ring_counters(&self, addr: SintAddr) -> Option<RingCounters> {
        let synic = self.vp(addr.vp)?.synic(addr.bank)?;
        Some(synic.ring_counters(addr.sint))
    }

    /// Makes an eventfd and has the VMM's event loop call `sink` with its count whenever it is
    /// signalled: how a doorbell that the kernel rings (an ioeventfd) reaches the guest, for one.
    ///
    /// # Errors
    /// [`Error::Event`] if the host has no eventfd for it.
    pub fn watch(&self, sink: impl FnMut(u64) + Send + 'static) -> Result<Watch, Error> {
        self.events.watch(Box::new(sink))
    }

    /// The port behind a connection.
    pub(crate) fn with_connection<R>(
        &self,
        id: ConnectionId,
        act: impl FnOnce(&Port) -> R,
    ) -> Option<R> {
        self.connections.with(u64::from(id.get()), |port| act(port))
    }
}
