// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! What the demo guest and the demo's host side agree on: where things lie in guest memory, who
//! sends how much, and what the n-th message, flag and doorbell look like.
//!
//! Both sides compile this very file: the guest as a `no_std` module, the VMM through `#[path]`.
//! All words are little-endian u64, naturally aligned, and written by one side only.

use core::sync::atomic::AtomicU64;

pub const MAX_VPS: u32 = 8;

/// One [`Plan`], written by the host before the guest starts.
pub const PLAN_GPA: u64 = 0x20_0000;
/// One [`Report`] per VP.
const REPORTS_GPA: u64 = 0x30_0000;
/// Per VP, [`STAMPS`] TSC values: when the interrupt handler saw message `seq`, at index `seq %
/// STAMPS`.
const STAMPS_GPA: u64 = 0x40_0000;
/// Per VP, the pages its SynIC registers point at, in the order of the `*_page` functions below.
const PAGES_GPA: u64 = 0x50_0000;
/// The page behind `HV_X64_MSR_HYPERCALL`, one for all VPs.
pub const HYPERCALL_GPA: u64 = 0x60_0000;
/// Guest RAM ends far below the doorbells, so that writing to one leaves the guest.
pub const RAM_SIZE: usize = 16 << 20;
const DOORBELLS_GPA: u64 = 0x3000_0000;

pub const STAMPS: u64 = 4096;
/// Ports of one VP's ring. More than the 63 ring entries, so that a burst of distinct ports
/// overflows it.
pub const RING_PORTS: u64 = 128;
/// Doorbells a sender keeps in flight. Below [`RING_PORTS`], so no port is rung again while it
/// still waits.
pub const RING_WINDOW: u64 = 100;
/// Doorbells of the burst that a VP takes with interrupts off. Above 63, at most [`RING_WINDOW`].
pub const RING_BURST: u64 = 100;
/// Entries that are unread when the MSHV half goes down for its reload. Below 63: no overflow.
pub const RING_UNREAD: u64 = 20;
/// Doorbells that ring while it is down.
pub const RING_MISSED: u64 = 20;
/// How often the burst's last port is rung again while it waits outside the full ring.
pub const RING_REPEATS: u64 = 5;
/// Event flags the host keeps in flight. Below 2048, so no flag is set again before the guest
/// cleared it.
pub const FLAG_WINDOW: u64 = 1500;
pub const FLAGS: u64 = 2048;

/// `message_type` of the demo's messages in both directions: guest-defined, like VMBus's own.
pub const MESSAGE_TYPE: u32 = 1;
/// What the guest writes to [`EXIT_PORT`] at its end.
pub const EXIT_PORT: u16 = 0xF4;
pub const EXIT_OK: u8 = 0x10;
pub const EXIT_FAULT: u8 = 0x11;

/// How much traffic one VP sees. The same for every VP.
#[repr(C)]
pub struct Plan {
    pub vps: AtomicU64,
    /// Messages per direction.
    pub messages: AtomicU64,
    /// Event flags per direction.
    pub flags: AtomicU64,
    /// Doorbells rung in the next VP's ring, the burst not counted.
    pub rings: AtomicU64,
    /// Doorbells rung for the VMM's event loop.
    pub vmm_rings: AtomicU64,
    /// Port id of VP 0's ring port 0; the others follow without a gap.
    pub first_port: AtomicU64,
}

/// One VP's account of what it saw. Written by that VP, read by its neighbours and the host.
#[repr(C)]
pub struct Report {
    /// One of the `STATE_*` values.
    pub state: AtomicU64,
    pub interrupts: AtomicU64,
    pub messages_seen: AtomicU64,
    pub messages_sent: AtomicU64,
    /// HvPostMessage answers "insufficient buffers", each followed by another try.
    pub messages_refused: AtomicU64,
    pub flags_seen: AtomicU64,
    pub flags_sent: AtomicU64,
    /// Entries taken from this VP's own event ring.
    pub rings_seen: AtomicU64,
    /// Doorbells rung in the next VP's ring.
    pub rings_sent: AtomicU64,
    pub vmm_rings_sent: AtomicU64,
    /// SINT0 messages that told of entries in the SINT5 ring.
    pub notifications: AtomicU64,
    /// HvNotifyPortRingEmpty calls, i.e. how often `ring_full` was found set.
    pub overflows: AtomicU64,
    /// EOM writes after SINT0 and after SINT2 messages.
    pub eoms_intercept: AtomicU64,
    pub eoms_vmbus: AtomicU64,
    /// Times the MSHV half was brought up; 2 at the end.
    pub mshv_inits: AtomicU64,
    /// How far the reload is: 1 interrupts off, 2 MSHV down, 3 done.
    pub reload: AtomicU64,
    /// Set while interrupts are off and the previous VP may overflow this VP's ring.
    pub burst_open: AtomicU64,
    /// Set by the previous VP once it has rung the burst (the one field this VP does not write).
    pub burst_rung: AtomicU64,
    /// GPA of the event ring page, 0 while the MSHV half is down.
    pub ring_page: AtomicU64,
    /// Index of the next ring entry. Outside the page and never reset: it outlives the MSHV half.
    pub ring_tail: AtomicU64,
    /// What went wrong, one of the `FAULT_*` values, and its details; the guest ends at once. For a
    /// crash, `expected` is the vector and `got` is RIP.
    pub fault: AtomicU64,
    pub fault_sint: AtomicU64,
    pub expected: AtomicU64,
    pub got: AtomicU64,
}

/// SynIC up: the host may post.
pub const STATE_READY: u64 = 1;
/// All that was planned has been sent and seen.
pub const STATE_DRAINED: u64 = 2;
/// SynIC given back.
pub const STATE_DONE: u64 = 3;

pub const FAULT_NONE: u64 = 0;
pub const FAULT_CRASH: u64 = 1;
pub const FAULT_REGISTER: u64 = 2;
pub const FAULT_MESSAGE_TYPE: u64 = 3;
pub const FAULT_MESSAGE_SIZE: u64 = 4;
pub const FAULT_MESSAGE_SEQUENCE: u64 = 5;
pub const FAULT_MESSAGE_PAYLOAD: u64 = 6;
pub const FAULT_FLAG: u64 = 7;
pub const FAULT_RING_PORT: u64 = 8;
pub const FAULT_STRAY: u64 = 9;
pub const FAULT_HYPERCALL: u64 = 10;

pub const fn report_gpa(vp: u32) -> u64 {
    REPORTS_GPA + vp as u64 * 0x1000
}

pub const fn stamp_gpa(vp: u32, seq: u64) -> u64 {
    STAMPS_GPA + (vp as u64 * STAMPS + seq % STAMPS) * 8
}

pub const fn message_page(vp: u32) -> u64 {
    pages_gpa(vp)
}

pub const fn flags_page(vp: u32) -> u64 {
    pages_gpa(vp) + 0x1000
}

/// The ring page of the `init`-th MSHV bring-up: a fresh page each time, as a driver that allocates
/// it has.
pub const fn ring_page(vp: u32, init: u64) -> u64 {
    pages_gpa(vp) + 0x2000 + (init & 1) * 0x1000
}

pub const fn input_page(vp: u32) -> u64 {
    pages_gpa(vp) + 0x4000
}

const fn pages_gpa(vp: u32) -> u64 {
    PAGES_GPA + vp as u64 * 0x8000
}

/// Connection for messages from `vp`.
pub const fn message_connection(vp: u32) -> u32 {
    0x1000 + vp
}

/// Connection for event flags from `vp`.
pub const fn event_connection(vp: u32) -> u32 {
    0x2000 + vp
}

/// Where to ring port `index` (below [`RING_PORTS`]) of `vp`'s ring: a 32-bit write.
pub const fn ring_doorbell(vp: u32, index: u64) -> u64 {
    DOORBELLS_GPA + vp as u64 * 0x1000 + index * 8
}

/// The value to write there. Odd ports match this value only, even ports any value of any size.
pub const fn ring_value(index: u64) -> u32 {
    0xD00B_0000 | index as u32
}

/// Where `vp` rings the VMM's event loop.
pub const fn vmm_doorbell(vp: u32) -> u64 {
    DOORBELLS_GPA + 0x10_0000 + vp as u64 * 8
}

/// Payload bytes of message `seq`: mostly 16, every eighth message walks through 16, 24, ... 240.
pub const fn payload_size(seq: u64) -> u64 {
    if seq % 8 == 7 {
        16 + seq / 8 % 29 * 8
    } else {
        16
    }
}

/// First payload word of message `seq` to or from `vp`. Each further word is the one before plus
/// [`WORD_STEP`].
pub const fn first_word(vp: u32, seq: u64) -> u64 {
    ((vp as u64) << 56) | seq
}

/// Odd and without a short pattern, so that a shifted, stale or torn payload does not look right.
pub const WORD_STEP: u64 = 0x9E37_79B9_7F4A_7C15;
