// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! Ports, where the guest's messages and events arrive, and connections, by which it names them.

use super::Table;
use crate::abi::{ConnectionId, MessageType, PortId, SintAddr, VpIndex};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use vmm_sys_util::eventfd::EventFd;

/// A message that the guest has posted (`HvPostMessage`), borrowed for the handler.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GuestMessage<'a> {
    /// The VP that posted it.
    pub from: VpIndex,
    /// The connection that it named.
    pub connection: ConnectionId,
    /// Its type, never with bit 31 set.
    pub message_type: MessageType,
    /// At most 240 bytes.
    pub payload: &'a [u8],
}

/// A handler has no room for a message now; the guest is told `HV_STATUS_INSUFFICIENT_BUFFERS`
/// and tries again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortBusy;

/// Takes a message on the thread of the VP that posts it. It may call the manager.
pub type MessageHandler = dyn Fn(GuestMessage<'_>) -> Result<(), PortBusy> + Send + Sync;

/// Takes the flag number of an event on the thread of the VP that signals it. It may call the
/// manager.
pub type EventHandler = dyn Fn(u16) + Send + Sync;

/// Where a message port's messages go.
#[derive(Clone)]
pub enum MessageSink {
    /// To a handler.
    Call(Arc<MessageHandler>),
    /// Into a SINT of the same guest, with the port id as sender.
    Sint(SintAddr),
}

/// Where an event port's events go.
#[derive(Clone)]
pub enum EventSink {
    /// To a handler.
    Call(Arc<EventHandler>),
    /// To an eventfd, which counts them.
    Fd(Arc<EventFd>),
    /// Into the event flags of a SINT of the same guest.
    Sint {
        /// The SINT.
        addr: SintAddr,
        /// Its flag for the guest's flag 0.
        base: u16,
    },
}

/// What a port is.
#[derive(Clone, Debug)]
pub enum PortSpec {
    /// It takes messages.
    Message(MessageSink),
    /// It takes events.
    Event {
        /// Where they go.
        sink: EventSink,
        /// Flag numbers below this are valid.
        flags: u16,
    },
}

impl fmt::Debug for MessageSink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Call(_) => f.write_str("Call"),
            Self::Sint(addr) => write!(f, "Sint({addr})"),
        }
    }
}

impl fmt::Debug for EventSink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Call(_) => f.write_str("Call"),
            Self::Fd(fd) => write!(f, "{fd:?}"),
            Self::Sint { addr, base } => write!(f, "Sint({addr}, flag {base})"),
        }
    }
}

/// A port that is registered, or was.
#[derive(Debug)]
pub(crate) struct Port {
    pub id: PortId,
    pub spec: PortSpec,
    deleted: AtomicBool,
}

impl Port {
    pub fn new(id: PortId, spec: PortSpec) -> Self {
        Self {
            id,
            spec,
            deleted: AtomicBool::new(false),
        }
    }

    /// A connection may outlive its port; the guest then hears `HV_STATUS_INVALID_PORT_ID`.
    pub fn is_deleted(&self) -> bool {
        // Relaxed: guards no data. Whoever reads the old value acts before the deletion.
        self.deleted.load(Ordering::Relaxed)
    }

    pub fn delete(&self) {
        self.deleted.store(true, Ordering::Relaxed);
    }
}

/// Connections by id.
pub(crate) type Connections = Table<Arc<Port>>;
