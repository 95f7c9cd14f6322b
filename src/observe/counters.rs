// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! What has happened to everything that was ever sent, by SINT and by cause.
//!
//! They balance at any moment: what was sent is delivered, dropped for a named cause, or waiting.

use crate::error::NotReady;
use std::sync::atomic::{AtomicU64, Ordering};

/// No count of a real guest comes near, and from here on it takes centuries to overflow one, or
/// the sum of a few.
pub(crate) const COUNT_MAX: u64 = 1 << 60;

/// The largest count of a struct, whose counts and parts it names all.
macro_rules! largest {
    ($self:ident, $($count:ident),* $(; $($part:ident),*)?) => {{
        let Self { $($count,)* $($($part,)*)? } = $self;
        let counts = [$(*$count,)* $($($part.largest(),)*)?];
        counts.into_iter().fold(0, u64::max)
    }};
}

/// Messages of one SINT: `posted = delivered + dropped.total() + waiting`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct MessageCounters {
    /// Posts, whatever became of them.
    pub posted: u64,
    /// Messages written into the slot.
    pub delivered: u64,
    /// Messages that had to wait before.
    pub queued: u64,
    /// Messages that wait now.
    pub waiting: u64,
    /// Times the slot was found taken.
    pub busy: u64,
    /// Messages written into the slot because of an EOM.
    pub redelivered: u64,
    /// Messages that were not delivered, by cause.
    pub dropped: Dropped,
}

impl MessageCounters {
    /// Whether every post is accounted for.
    pub fn balances(&self) -> bool {
        self.posted == self.delivered + self.dropped.total() + self.waiting
    }

    fn largest(&self) -> u64 {
        largest!(self, posted, delivered, queued, waiting, busy, redelivered; dropped)
    }
}

/// Messages that were refused, or dropped after they had been accepted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Dropped {
    /// SCONTROL.enable was clear.
    pub scontrol_off: u64,
    /// SIMP was disabled.
    pub page_off: u64,
    /// The SINT was masked.
    pub masked: u64,
    /// The SINT belongs to a paravisor.
    pub proxied: u64,
    /// The queue was full; the poster was told.
    pub full: u64,
    /// They waited when the VP was reset.
    pub reset: u64,
    /// The guest wrote to the synthetic timer that had sent them, or the manager was restored where
    /// the hypervisor has the timers, and sends them itself.
    pub withdrawn: u64,
}

impl Dropped {
    /// All causes together.
    pub fn total(&self) -> u64 {
        let refused = self.scontrol_off + self.page_off + self.masked + self.proxied + self.full;
        refused + self.reset + self.withdrawn
    }

    /// Counts one message that was refused because of `cause`.
    pub(crate) fn count(&mut self, cause: NotReady) {
        *self.of(cause) += 1;
    }

    pub(crate) fn of(&mut self, cause: NotReady) -> &mut u64 {
        match cause {
            NotReady::ScontrolOff => &mut self.scontrol_off,
            NotReady::PageOff => &mut self.page_off,
            NotReady::Masked => &mut self.masked,
            NotReady::Proxied => &mut self.proxied,
        }
    }

    fn largest(&self) -> u64 {
        largest!(
            self,
            scontrol_off,
            page_off,
            masked,
            proxied,
            full,
            reset,
            withdrawn
        )
    }
}

/// Event flags of one SINT.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct EventCounters {
    /// Signals that set a clear flag.
    pub fresh: u64,
    /// Signals that found their flag set.
    pub coalesced: u64,
    /// Signals refused: SIEFP or SCONTROL off, SINT masked or proxied.
    pub refused: u64,
    /// Signals that wait for the manager to resume.
    pub held: u64,
}

impl EventCounters {
    /// Signals, whatever became of them.
    pub fn signalled(&self) -> u64 {
        self.fresh + self.coalesced + self.refused + self.held
    }

    pub(crate) fn plus(self, other: Self, held: u64) -> Self {
        Self {
            fresh: self.fresh + other.fresh,
            coalesced: self.coalesced + other.coalesced,
            refused: self.refused + other.refused,
            held: self.held + held,
        }
    }

    fn largest(&self) -> u64 {
        largest!(self, fresh, coalesced, refused, held)
    }
}

/// The event ring of one SINT: `rung + reclaimed = entered + coalesced + waiting + forgotten`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct RingCounters {
    /// Doorbells rung.
    pub rung: u64,
    /// Port ids written into the ring.
    pub entered: u64,
    /// Doorbells whose port was waiting already.
    pub coalesced: u64,
    /// Doorbells that found the ring full or off, and waited.
    pub held: u64,
    /// Ports that wait now.
    pub waiting: u64,
    /// Entries taken back because the guest took the page away.
    pub reclaimed: u64,
    /// Ports that waited when the VP was reset, or they were deleted, or another VP took them.
    pub forgotten: u64,
    /// Signals to the guest: notices on SINT0, or interrupts.
    pub notices: u64,
    /// `HvNotifyPortRingEmpty` calls.
    pub ring_empty: u64,
}

impl RingCounters {
    /// Whether every doorbell is accounted for.
    pub fn balances(&self) -> bool {
        self.rung + self.reclaimed == self.entered + self.coalesced + self.waiting + self.forgotten
    }

    fn largest(&self) -> u64 {
        largest!(
            self, rung, entered, coalesced, held, waiting, reclaimed, forgotten, notices,
            ring_empty
        )
    }
}

/// Interrupts of one SINT.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct InterruptCounters {
    /// Raised.
    pub raised: u64,
    /// Not raised, because the SINT was masked or polling.
    pub muted: u64,
    /// The host could not raise them, or not route the SINT.
    pub failed: u64,
}

impl InterruptCounters {
    fn largest(&self) -> u64 {
        largest!(self, raised, muted, failed)
    }
}

/// Everything that is counted for one SINT.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct SintCounters {
    /// Messages.
    pub messages: MessageCounters,
    /// Event flags.
    pub events: EventCounters,
    /// Doorbells.
    pub ring: RingCounters,
    /// Interrupts.
    pub interrupts: InterruptCounters,
}

impl SintCounters {
    /// The largest of all counts.
    pub(crate) fn largest(&self) -> u64 {
        largest!(self, ; messages, events, ring, interrupts)
    }
}

/// One synthetic timer: `expired = messages + withdrawn + interrupts`, and one if a message waits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct TimerCounters {
    /// Times it has expired.
    pub expired: u64,
    /// Messages written into the slot.
    pub messages: u64,
    /// Messages that the guest, or a reset, forestalled.
    pub withdrawn: u64,
    /// Interrupts in direct mode.
    pub interrupts: u64,
    /// Interrupts, of those, that could not be raised: by the host, or with a vector below 16.
    pub failed: u64,
    /// Periods that passed while the timer was late, and did not expire it.
    pub skipped: u64,
}

impl TimerCounters {
    /// Whether every expiry is accounted for.
    pub fn balances(&self, is_undelivered: bool) -> bool {
        let done = self.messages + self.withdrawn + self.interrupts;
        self.expired == done + u64::from(is_undelivered)
    }

    pub(crate) fn largest(&self) -> u64 {
        largest!(
            self, expired, messages, withdrawn, interrupts, failed, skipped
        )
    }
}

/// [`InterruptCounters`] that any thread may count in. Relaxed: statistics order nothing.
#[derive(Debug, Default)]
pub(crate) struct InterruptCells {
    raised: AtomicU64,
    muted: AtomicU64,
    failed: AtomicU64,
}

impl InterruptCells {
    pub fn raise(&self) {
        self.raised.fetch_add(1, Ordering::Relaxed);
    }

    pub fn mute(&self) {
        self.muted.fetch_add(1, Ordering::Relaxed);
    }

    /// Says whether it was the first time.
    pub fn fail(&self) -> bool {
        self.failed.fetch_add(1, Ordering::Relaxed) == 0
    }

    pub fn get(&self) -> InterruptCounters {
        InterruptCounters {
            raised: self.raised.load(Ordering::Relaxed),
            muted: self.muted.load(Ordering::Relaxed),
            failed: self.failed.load(Ordering::Relaxed),
        }
    }

    pub fn set(&self, counters: InterruptCounters) {
        let InterruptCounters {
            raised,
            muted,
            failed,
        } = counters;
        self.raised.store(raised, Ordering::Relaxed);
        self.muted.store(muted, Ordering::Relaxed);
        self.failed.store(failed, Ordering::Relaxed);
    }
}
