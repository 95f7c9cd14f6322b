// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! How a guest signals a channel: an event port that ends in an eventfd, which the bus's thread
//! watches and KVM can signal by itself.

use std::any::Any;
use std::os::fd::AsRawFd;
use std::sync::Arc;

use anyhow::{Context, Result};
use vm_synic::{ConnectionId, EventSink, PortHandle, PortId, PortSpec, Registration, SintAddr};
use vmm_sys_util::epoll::{ControlOperation, Epoll, EpollEvent, EventSet};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use crate::vm::Manager;

/// What the bus needs of the VMM, beside the manager.
pub trait BusHost: Send + Sync {
    /// Has `listener` called with each SINT that takes messages again
    /// ([`Host::writable`](vm_synic::Host::writable)).
    fn on_writable(&self, listener: Arc<dyn Fn(SintAddr) + Send + Sync>);

    /// Has the hypervisor signal `fd` by itself when the guest signals the connection, if it can,
    /// until the value is dropped.
    fn bind_signal(&self, connection: ConnectionId, fd: &EventFd) -> Result<Box<dyn Any + Send>>;
}

/// What every signal of the bus goes through.
#[derive(Clone)]
pub struct Wiring {
    /// Has the ports.
    pub manager: Arc<Manager>,
    /// Has the hypervisor.
    pub host: Arc<dyn BusHost>,
    /// Wakes the bus's thread.
    pub epoll: Arc<Epoll>,
}

/// One channel's signal, wired up until this is dropped.
pub struct Signal {
    fd: Arc<EventFd>,
    epoll: Arc<Epoll>,
    /// How many of the counts are our own.
    own: u64,
    // In this order: KVM must no longer signal a connection that is gone.
    _binding: Box<dyn Any + Send>,
    _connection: Registration,
    _port: PortHandle,
}

impl Signal {
    /// Wires a channel's signal; the bus's thread is woken with `relid`.
    pub fn new(wiring: &Wiring, relid: u32) -> Result<Self> {
        let fd = Arc::new(EventFd::new(EFD_NONBLOCK).context("Cannot make an eventfd")?);
        let connection = ConnectionId::new(connection(relid)).context("Relid out of range")?;
        let port = PortId::new(connection.get()).context("Relid out of range")?;
        let port = wiring.manager.create_port(
            port,
            PortSpec::Event {
                sink: EventSink::Fd(fd.clone()),
                flags: 1,
            },
        )?;
        let registration = wiring.manager.connect(connection, &port)?;
        let binding = wiring.host.bind_signal(connection, &fd)?;
        let event = EpollEvent::new(EventSet::IN, relid.into());
        wiring
            .epoll
            .ctl(ControlOperation::Add, fd.as_raw_fd(), event)
            .with_context(|| format!("Cannot watch the signal of channel {relid}"))?;
        Ok(Self {
            fd,
            epoll: wiring.epoll.clone(),
            own: 0,
            _binding: binding,
            _connection: registration,
            _port: port,
        })
    }

    /// How often the guest has signalled since this was last asked.
    pub fn take(&mut self) -> u64 {
        let count = self.fd.read().unwrap_or(0);
        count.saturating_sub(std::mem::take(&mut self.own))
    }

    /// Wakes the bus's thread for this channel, after it has had its share.
    pub fn again(&mut self) {
        // A counter that cannot count higher wakes as well.
        if self.fd.write(1).is_ok() {
            self.own = self.own.saturating_add(1);
        }
    }
}

impl Drop for Signal {
    fn drop(&mut self) {
        let fd = self.fd.as_raw_fd();
        // It is watched; and if it were not, nothing would be left to undo.
        let _ = self
            .epoll
            .ctl(ControlOperation::Delete, fd, EpollEvent::default());
    }
}

/// The connection id of a channel: unique on the bus, and clear of the ids of other devices.
pub const fn connection(relid: u32) -> u32 {
    0x1_0000 | relid
}
