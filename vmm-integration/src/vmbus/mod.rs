// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! A minimal VMBus host: what a [`SynicManager`](vm_synic::SynicManager) is for.
//!
//! ```text
//!   HvPostMessage -> port 1, 4 -> connection -> outbox -> post_message  (SINT2 of the guest's VP)
//!                                     |
//!   HvSignalEvent -> signal (eventfd) |
//!                         |           v
//!                     one thread -> channel: ring -> heartbeat | echo -> ring
//!                                     |
//!                                     +--> signal_event  (SINT2, flag = relid)
//! ```
//!
//! It offers Linux's `hv_utils` a heartbeat, and `AF_VSOCK` sockets an echo on port 5000. Messages
//! are handled on the VP that posts them, rings on the bus's one thread, which sleeps until a
//! guest signals or a heartbeat is due; both under one lock, for a bounded time.
//!
//! The guest is not trusted: all that it can hold here is bounded (channels, GPADLs and their
//! pages, messages that it does not take), and what it does wrong is counted in the
//! [`VmbusReport`].

mod channel;
mod connection;
mod echo;
mod gpadl;
mod heartbeat;
mod outbox;
mod protocol;
mod report;
mod ring;
mod signal;
#[cfg(test)]
mod tests;
mod worker;

use std::os::fd::AsRawFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result};
use vm_synic::{
    ConnectionId, MessageSink, MessageType, PortHandle, PortId, PortSpec, Registration, SintAddr,
    SintIndex,
};
use vmm_sys_util::epoll::{ControlOperation, Epoll, EpollEvent, EventSet};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use crate::memory::Memory;
use crate::vm::Manager;
use connection::Connection;
use protocol::{MESSAGE_CONNECTION, OLD_MESSAGE_CONNECTION};
use signal::Wiring;
use worker::Worker;

pub use connection::SavedBus;
pub use report::{ChannelReport, EchoReport, HeartbeatReport, MessageReport, Mistake, VmbusReport};
pub use signal::BusHost;

/// The bus of one VM; gone when dropped.
pub struct VmbusHost {
    connection: Arc<Mutex<Connection>>,
    stop: Arc<EventFd>,
    thread: Option<JoinHandle<()>>,
    _ports: Vec<(Registration, PortHandle)>,
}

impl VmbusHost {
    /// A bus whose heartbeat has this period.
    pub fn with_heartbeat(
        manager: Arc<Manager>,
        host: Arc<dyn BusHost>,
        memory: Memory,
        period: Duration,
    ) -> Result<Arc<Self>> {
        let epoll = Arc::new(Epoll::new().context("Cannot make an epoll")?);
        let bell = Arc::new(watched_eventfd(&epoll, worker::BELL)?);
        let stop = Arc::new(watched_eventfd(&epoll, worker::STOP)?);
        let wiring = Wiring {
            manager: manager.clone(),
            host: host.clone(),
            epoll: epoll.clone(),
        };
        let connection = Arc::new(Mutex::new(Connection::new(wiring, memory)));
        ring_when_writable(&*host, bell.clone());
        let worker = Worker::new(connection.clone(), epoll, bell).with_heartbeat(period)?;
        let ports = listen(&manager, &connection)?;
        let thread = std::thread::Builder::new().name("vmbus".into());
        let thread = thread.spawn(move || worker.run());
        Ok(Arc::new(Self {
            connection,
            stop,
            thread: Some(thread.context("Cannot start the thread of VMBus")?),
            _ports: ports,
        }))
    }

    /// Forgets the guest, whose VM is being reset. Nothing of its memory is touched afterwards.
    pub fn reset(&self) {
        lock(&self.connection).reset();
    }

    /// What was seen so far.
    pub fn report(&self) -> VmbusReport {
        lock(&self.connection).report().clone()
    }

    /// Has the bus stand still as long as the value exists: neither it nor the guest's RAM is touched.
    pub fn freeze(&self) -> Frozen<'_> {
        Frozen(lock(&self.connection))
    }

    /// Takes a bus that was saved, in place of what there is; the guest's RAM is there already.
    pub fn restore(&self, saved: &SavedBus) -> Result<()> {
        lock(&self.connection).restore(saved)
    }

    /// Takes the heartbeat away from the guest and offers it anew when the guest has let go. False:
    /// it is not there now.
    pub fn rescind_and_reoffer(&self) -> bool {
        lock(&self.connection).rescind_and_reoffer()
    }
}

/// A bus that stands still. Its vCPUs have been stopped, or they wait.
pub struct Frozen<'a>(MutexGuard<'a, Connection>);

impl Frozen<'_> {
    /// The bus as a value.
    pub fn save(&self) -> SavedBus {
        self.0.save()
    }
}

impl Drop for VmbusHost {
    fn drop(&mut self) {
        // Cannot fail: nobody else writes to it.
        let _ = self.stop.write(1);
        if let Some(thread) = self.thread.take() {
            // A panic has been printed by the thread itself.
            let _ = thread.join();
        }
    }
}

/// Opens the ports that guests post to.
fn listen(
    manager: &Arc<Manager>,
    connection: &Arc<Mutex<Connection>>,
) -> Result<Vec<(Registration, PortHandle)>> {
    let ids = [OLD_MESSAGE_CONNECTION, MESSAGE_CONNECTION];
    let listen = |id: u32| {
        let connection = connection.clone();
        let sink = MessageSink::Call(Arc::new(move |message| {
            if message.message_type != MessageType::VMBUS {
                return Ok(());
            }
            lock(&connection).receive(message.payload)
        }));
        let port = PortId::new(MESSAGE_PORTS | id).context("Port id out of range")?;
        let port = manager.create_port(port, PortSpec::Message(sink))?;
        let id = ConnectionId::new(id).context("Connection id out of range")?;
        Ok((manager.connect(id, &port)?, port))
    };
    ids.into_iter().map(listen).collect()
}

/// The caller is a VP that has just made room, and must not wait for the bus.
fn ring_when_writable(host: &dyn BusHost, bell: Arc<EventFd>) {
    host.on_writable(Arc::new(move |addr: SintAddr| {
        if addr.sint == SintIndex::VMBUS {
            // A bell that cannot count higher has been rung.
            let _ = bell.write(1);
        }
    }));
}

fn watched_eventfd(epoll: &Epoll, token: u64) -> Result<EventFd> {
    let fd = EventFd::new(EFD_NONBLOCK).context("Cannot make an eventfd")?;
    let event = EpollEvent::new(EventSet::IN, token);
    epoll
        .ctl(ControlOperation::Add, fd.as_raw_fd(), event)
        .context("Cannot watch an eventfd")?;
    Ok(fd)
}

/// A panic of another holder, which can only be a bug, must not take the vCPU threads along.
fn lock(connection: &Mutex<Connection>) -> MutexGuard<'_, Connection> {
    connection.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Hyper-V's is twice that.
pub const HEARTBEAT_PERIOD: Duration = Duration::from_secs(1);
/// Message ports are above the ids of channels' event ports.
const MESSAGE_PORTS: u32 = 0x2_0000;
