// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! A complete Hyper-V synthetic interrupt controller (SynIC) for any Rust VMM.
//!
//! ```text
//!          guest                                            VMM
//!   MSR, hypercall, doorbell exits            messages, events, doorbells, ports
//!            |                                               |
//!            v                                               v
//!   +--------------------------- SynicManager ---------------------------+
//!   |  manager/guest   hypercall/         routing/       manager/vmm     |
//!   |        |             \________________/                |           |
//!   |        v                                               v           |
//!   |  vp: ownership/ judges and records  ->  synic: registers, readiness |
//!   |                                            |                       |
//!   |             delivery/:  messages    events    rings                |
//!   |                            |          |         |                  |
//!   |                          slot       flag   event_ring              |
//!   +----------------------------|----------|---------|------------------+
//!                                v          v         v
//!             page: SIMP        SIEFP     SIRBP   in guest memory
//!                                     then: Host::assert_sint
//!                  or, where the hypervisor has the pages: Partition
//! ```
//!
//! # Reading order
//!
//! | module | content |
//! |---|---|
//! | [`abi`] | registers, message, status codes, identifiers: what the guest sees |
//! | `page` | a page shared with the guest; the only unsafe code of the engine |
//! | [`Partition`] | a hypervisor that has the pages, and is asked to deliver |
//! | `delivery` | the protocols of slot, event flag and event ring, with their loom models |
//! | `stimer` | the synthetic timers, without a clock |
//! | `synic` | one bank: registers, and what a write to each does |
//! | [`ownership`] | who may touch which register: VMBus, MSHV; table, drivers, ledger |
//! | `vp` | one VP: its banks, its ledger, its timeline |
//! | `routing` | ports, connections, doorbells, children, looked up without a lock |
//! | `hypercall` | `HvPostMessage`, `HvSignalEvent`, VP registers, and the hypercall page |
//! | [`SynicManager`] | the VMM's one handle on it all |
//! | `events` | the manager's eventfds, for whatever loop the VMM has |
//! | [`state`] | the manager as a value |
//! | `observe` | counters, snapshot, timeline |
//! | [`sint0`] | what arrives on SINT0, parsed: the driver's side |
//! | [`backend`] | the glue to a hypervisor interface |
//! | `test_utils` | with feature `test-utils`: a VM without a hypervisor, and the guest in it |
//!
//! # Rules of the house
//!
//! - A guest can cost a counter, never memory, a panic or somebody else's data. Its values are
//!   parsed once, into types that hold valid values only.
//! - No lock is shared by two VPs on the way of a message, an event, a doorbell or an MSR, and none
//!   is held while the [`Host`] or a handler is called.
//! - Only `page` and `backend` contain unsafe code.
//! - Features add; none changes what another does.

#![cfg_attr(docsrs, feature(doc_cfg))]
#![deny(unsafe_code)]

pub mod abi;
#[allow(unsafe_code)]
pub mod backend;
mod config;
mod delivery;
mod error;
mod events;
mod host;
mod hypercall;
mod manager;
mod observe;
pub mod ownership;
#[allow(unsafe_code)]
mod page;
mod partition;
mod routing;
pub mod sint0;
pub mod state;
mod stimer;
#[cfg(feature = "event-manager")]
mod subscriber;
mod sync;
mod synic;
#[cfg(feature = "test-utils")]
#[cfg_attr(docsrs, doc(cfg(feature = "test-utils")))]
pub mod test_utils;
mod vp;

pub use abi::{
    Bank, ConnectionId, EventFlag, HvStatus, Message, MessageError, MessageType, PartitionId,
    PortId, RegisterId, SintAddr, SintIndex, TimerIndex, VpIndex,
};
pub use config::{Config, MessageWriter, Provider, WhenDisabled, WhenMasked};
pub use delivery::event_ring::{RingConsumer, RingMemory};
pub use delivery::messages::Posted;
pub use error::{Error, MsrError, NotReady, PostError, RingError, SignalError};
pub use events::{Changes, SynicEvents, Token, Unwatched, Watch};
pub use host::{Host, SintInterrupt};
pub use hypercall::{Control, HypercallInput};
pub use manager::{Child, PortHandle, SynicManager};
pub use observe::{
    Dropped, EventCounters, InterruptCounters, MessageCounters, RingCounters, SintCounters,
    Snapshot, SynicSnapshot, TimelineEvent, TimelineKind, TimerCounters, VpSnapshot,
};
pub use ownership::{Criterion, Role, ViolationPolicy};
pub use page::{GuestSpace, PageError};
pub use partition::{Partition, PartitionError, Slot};
pub use routing::{
    DoorbellSink, DoorbellSize, DoorbellSpec, DoorbellTarget, EventHandler, EventSink,
    GuestMessage, MessageHandler, MessageSink, PortBusy, PortSpec, Registration,
};
pub use synic::ProvidedPages;

/// The README's example compiles.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
