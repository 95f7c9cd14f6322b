// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! From an identifier that the guest names to whoever listens.
//!
//! Ports receive; connections name ports to the guest; doorbells turn a write to an address into
//! an event. All are registered by the VMM as values that unregister when dropped, and looked up
//! by VPs without a lock.

mod child;
mod doorbell;
mod handle;
mod port;
mod table;

pub(crate) use child::{ChildSpace, DoorbellPort, DoorbellPorts};
pub(crate) use doorbell::{Doorbell, Doorbells};
pub use doorbell::{DoorbellSink, DoorbellSize, DoorbellSpec, DoorbellTarget};
pub use handle::Registration;
pub(crate) use port::{Connections, Port};
pub use port::{
    EventHandler, EventSink, GuestMessage, MessageHandler, MessageSink, PortBusy, PortSpec,
};
pub(crate) use table::Table;
