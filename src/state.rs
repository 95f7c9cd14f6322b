// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! A manager's state as a value: plain, versioned, and the same for every backend.
//!
//! It holds what the guest set up and what waits for it, the ports among it that a guest has created
//! for its own partitions. It does not hold what the VMM set up: its ports, connections and doorbells
//! carry handlers, and the VMM registers them again.
//! Everything in it is checked when it is put back; a hostile file can be refused, not more.

use crate::abi::{
    ConnectionId, EventFlag, Message, PartitionId, PortId, SintIndex, TimerIndex, VpIndex,
};
use crate::config::Provider;
use crate::observe::{SintCounters, TimerCounters};
use crate::ownership::Entry;
use crate::routing::DoorbellSpec;

pub use crate::stimer::HeldTimer;

/// Version of [`State`] that this crate writes and reads.
pub const STATE_VERSION: u32 = 1;

/// Everything that a manager knows of its guest.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct State {
    /// [`STATE_VERSION`].
    pub version: u32,
    /// Who has the next two, and has written the hypercall page.
    pub hypercall_page: Provider,
    /// `HV_X64_MSR_GUEST_OS_ID`.
    pub guest_os_id: u64,
    /// `HV_X64_MSR_HYPERCALL`.
    pub hypercall: u64,
    /// The VPs, ascending by index.
    pub vps: Vec<VpState>,
    /// Ports that a guest which is a parent has created, ascending by id.
    pub guest_ports: Vec<GuestPortState>,
    /// What it has connected to them, ascending by child and id.
    pub guest_connections: Vec<GuestConnectionState>,
}

/// A doorbell port of the guest's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct GuestPortState {
    /// Its id.
    pub id: PortId,
    /// The partition that may be connected to it.
    pub child: PartitionId,
    /// Whose event ring it is entered in; `None` for any VP's.
    pub vp: Option<VpIndex>,
    /// Of which SINT.
    pub sint: SintIndex,
}

/// A doorbell of a partition of the guest's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct GuestConnectionState {
    /// The partition.
    pub child: PartitionId,
    /// The connection's id.
    pub id: ConnectionId,
    /// The port that it was made to.
    pub port: PortId,
    /// That port is gone, and another one may have its id.
    pub port_is_deleted: bool,
    /// Which writes ring it.
    pub spec: DoorbellSpec,
}

/// One VP.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct VpState {
    /// Its index.
    pub index: VpIndex,
    /// Its own SynIC.
    pub plain: SynicState,
    /// Its nested SynIC, where it has one.
    pub nested: Option<SynicState>,
    /// Its register writes.
    pub ledger: LedgerState,
}

/// The register writes of one VP.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct LedgerState {
    /// The latest ones, oldest first.
    pub entries: Vec<Entry>,
    /// How many earlier ones are not kept.
    pub evicted: u64,
    /// The first ones that broke a rule, oldest first.
    pub violations: Vec<Entry>,
    /// How many broke one.
    pub violation_count: u64,
}

/// One SynIC.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct SynicState {
    /// SCONTROL.
    pub scontrol: u64,
    /// SIEFP.
    pub siefp: u64,
    /// SIMP.
    pub simp: u64,
    /// SIRBP.
    pub sirbp: u64,
    /// SINT0 to SINT15.
    pub sints: Vec<u64>,
    /// Messages that wait.
    pub queues: Vec<QueueState>,
    /// Event flags that were signalled while paused.
    pub held_events: Vec<(SintIndex, EventFlag)>,
    /// Event rings that were ever rung.
    pub rings: Vec<RingState>,
    /// The guest has left SIRBP on, but its kernel is gone: nothing is written to the page.
    pub rings_abandoned: bool,
    /// Synthetic timers that were ever used; none in a nested SynIC.
    pub timers: Vec<TimerState>,
    /// What was counted, for SINT0 to SINT15.
    pub counters: Vec<SintCounters>,
    /// EOM writes.
    pub eoms: u64,
}

/// Messages that wait for one slot, oldest first.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct QueueState {
    /// The SINT.
    pub sint: SintIndex,
    /// The messages.
    pub messages: Vec<Message>,
    /// A poster was refused and waits to hear that there is room.
    pub has_refused: bool,
}

/// One synthetic timer. Times are reference times, which the VMM carries on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct TimerState {
    /// Which of the VP's timers.
    pub index: TimerIndex,
    /// CONFIG.
    pub config: u64,
    /// COUNT.
    pub count: u64,
    /// When it expires, or did; `None` if it is stopped.
    pub expiration: Option<u64>,
    /// It has expired, and its message waits for the slot.
    pub is_undelivered: bool,
    /// What was counted.
    pub counters: TimerCounters,
}

/// The hypervisor's side of one event ring.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct RingState {
    /// The SINT.
    pub sint: SintIndex,
    /// The next entry to write, 0 to 62.
    pub head: u8,
    /// How many entries the guest can have left unread on this page, 0 to 63.
    pub unread: u8,
    /// Ports that wait for an entry, oldest first.
    pub waiting: Vec<PortId>,
}
