// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! Synthetic timers: four for each VP, which send a message or interrupt the VP when their time
//! has come (TLFS "Synthetic Timers").
//!
//! There is no clock in here. The manager brings the time along, and asks the VMM to be called
//! again at the earliest deadline ([`Host::set_timer`](crate::Host::set_timer)). The lock of the
//! VP's [`Messages`](crate::delivery::messages::Messages), which holds the timers, guards them.
//!
//! A timer's message has a place of its own, as the TLFS has buffers for timers: it needs no room
//! in the queue of its SINT, and goes before what waits there. There is one at most for each timer,
//! which runs on only when the message is in the slot, so a guest that takes no messages has a
//! timer that stands still.

mod held;
mod state;
mod timer;

use crate::abi::{Message, MessageType, Register, SintIndex, TIMER_COUNT, TimerIndex};
use crate::config::Provider;
use timer::{Phase, Timer};

pub use held::HeldTimer;
pub(crate) use timer::Expiry;

/// What the VMM must be told of a VP's timers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct TimerSignals {
    /// These have expired, as a set of bits.
    pub expired: u8,
    /// The vector that each of them interrupts the VP by; 0 stands for none.
    pub vectors: [u8; TIMER_COUNT],
    /// The earliest deadline has changed.
    pub deadline: bool,
}

impl TimerSignals {
    pub const NONE: Self = Self {
        expired: 0,
        vectors: [0; TIMER_COUNT],
        deadline: false,
    };

    pub fn set_vector(&mut self, timer: TimerIndex, vector: Option<u8>) {
        if let Some(there) = self.vectors.get_mut(timer.index()) {
            *there = vector.unwrap_or(0);
        }
    }

    /// The timers that have expired, and their vectors.
    pub fn expired(self) -> impl Iterator<Item = (TimerIndex, Option<u8>)> {
        let all = TimerIndex::all().zip(self.vectors);
        all.filter(move |(timer, _)| self.expired & timer.bit() != 0)
            .map(|(timer, vector)| (timer, Some(vector).filter(|vector| *vector != 0)))
    }

    pub fn and(self, other: Self) -> Self {
        let [a, b, c, d] = self.vectors;
        let [e, f, g, h] = other.vectors;
        Self {
            expired: self.expired | other.expired,
            // A timer that has expired twice has the same vector, or none, in one of them.
            vectors: [a.max(e), b.max(f), c.max(g), d.max(h)],
            deadline: self.deadline | other.deadline,
        }
    }
}

/// The timers of one VP.
#[derive(Debug)]
pub(crate) struct Timers {
    /// All four, or none where VPs have no timers.
    timers: Box<[Timer]>,
    /// They expire here; else the hypervisor has them, and these are what is known of them.
    run: bool,
    /// SINTs with an undelivered message of a timer.
    undelivered: u16,
    /// The latest time that anybody has brought.
    now: u64,
    /// The deadline that the VMM knows.
    told: Option<u64>,
    /// Somebody is telling the VMM.
    telling: bool,
}

impl Timers {
    /// As after power-on.
    pub fn new(provider: Option<Provider>) -> Self {
        let count = provider.map_or(0, |_| TIMER_COUNT);
        Self {
            timers: vec![Timer::default(); count].into(),
            run: provider == Some(Provider::Manager),
            undelivered: 0,
            now: 0,
            told: None,
            telling: false,
        }
    }

    /// Brings the time. It may come late from another thread, but it never goes back.
    pub fn set_time(&mut self, now: u64) {
        self.now = self.now.max(now);
    }

    pub fn read(&self, register: Register) -> Option<u64> {
        match register {
            Register::TimerConfig(timer) => self.get(timer).map(|timer| timer.config.into()),
            Register::TimerCount(timer) => self.get(timer).map(|timer| timer.count),
            _ => None,
        }
    }

    /// Writes a register of a timer; gives the SINT whose undelivered message it has withdrawn.
    pub fn write(&mut self, register: Register, value: u64) -> Option<SintIndex> {
        let now = self.now;
        let (Register::TimerConfig(index) | Register::TimerCount(index)) = register else {
            return None;
        };
        let timer = self.get_mut(index)?;
        let withdrawn = timer.undelivered();
        if let Register::TimerConfig(_) = register {
            timer.write_config(value.into(), now);
        } else {
            timer.write_count(value, now);
        }
        self.note_undelivered();
        withdrawn
    }

    /// Expires a timer whose time has come.
    pub fn expire(&mut self, timer: TimerIndex) -> Option<Expiry> {
        if !self.run {
            return None;
        }
        let now = self.now;
        let expiry = self.get_mut(timer)?.expire(now);
        self.note_undelivered();
        expiry
    }

    /// The timer whose message is to go into the slot of `sint` next, in the order in which they
    /// expired, and whether others wait behind it.
    pub fn front(&self, sint: SintIndex) -> Option<(TimerIndex, bool)> {
        if !self.wait_for(sint) {
            return None;
        }
        let waiting = || self.undelivered(sint);
        let first = waiting().min_by_key(|(_, expiration)| *expiration);
        first.map(|(timer, _)| (timer, waiting().count() > 1))
    }

    /// The message of a timer that [`front`](Self::front) gave, as it is at this moment.
    pub fn message(&self, timer: TimerIndex) -> Option<Message> {
        let Phase::Undelivered(expiration) = self.get(timer)?.phase else {
            return None;
        };
        let words = [u64::from(timer.get()), expiration, self.now].map(u64::to_le_bytes);
        Message::new(MessageType::TIMER_EXPIRED, words.as_flattened()).ok()
    }

    /// The message is in the slot.
    pub fn delivered(&mut self, timer: TimerIndex) {
        let now = self.now;
        if let Some(timer) = self.get_mut(timer) {
            timer.delivered(now);
        }
        self.note_undelivered();
    }

    /// The host could not interrupt the VP for a timer. Says whether it was its first failure.
    pub fn failed(&mut self, timer: TimerIndex) -> bool {
        let timer = self.get_mut(timer);
        timer.is_some_and(|timer| {
            timer.counters.failed += 1;
            timer.counters.failed == 1
        })
    }

    /// Whether a timer has a message for `sint`.
    pub fn wait_for(&self, sint: SintIndex) -> bool {
        self.undelivered & sint.bit() != 0
    }

    /// Whether a timer has a message for any SINT.
    pub fn wait(&self) -> bool {
        self.undelivered != 0
    }

    /// How many messages wait for `sint`.
    pub fn waiting(&self, sint: SintIndex) -> usize {
        self.undelivered(sint).count()
    }

    /// Whether the message of this timer waits.
    pub fn is_undelivered(&self, timer: TimerIndex) -> bool {
        self.get(timer).and_then(Timer::undelivered).is_some()
    }

    /// Takes the timers of a saved state. What the VMM knows stays as it is.
    pub fn replace(&mut self, restored: Self) {
        self.timers = restored.timers;
        self.undelivered = restored.undelivered;
    }

    /// As after power-on, where time may begin again.
    pub fn reset(&mut self) {
        self.timers.iter_mut().for_each(Timer::reset);
        self.undelivered = 0;
        self.now = 0;
    }

    /// The VMM's timer has run out, so that it knows no deadline any more.
    pub fn use_up_deadline(&mut self) {
        self.told = None;
    }

    /// Whether the VMM does not know the earliest deadline; there is none while `paused`.
    pub fn has_new_deadline(&self, paused: bool) -> bool {
        self.deadline(paused) != self.told
    }

    /// The deadline that the VMM does not know yet, for the caller to tell it, and nobody else
    /// before [`deadline_told`](Self::deadline_told): what it hears last must be the latest.
    pub fn claim_deadline(&mut self, paused: bool) -> Option<Option<u64>> {
        if self.telling || !self.has_new_deadline(paused) {
            return None;
        }
        self.telling = true;
        self.told = self.deadline(paused);
        Some(self.told)
    }

    /// The claimed deadline was told; there may be another one by now.
    pub fn deadline_told(&mut self, paused: bool) -> Option<Option<u64>> {
        self.telling = false;
        self.claim_deadline(paused)
    }

    fn deadline(&self, paused: bool) -> Option<u64> {
        let deadlines = self.timers.iter().filter_map(|timer| match timer.phase {
            Phase::Armed(deadline) => Some(deadline),
            _ => None,
        });
        deadlines.min().filter(|_| self.run && !paused)
    }

    /// Timers with a message for `sint`, and when they expired.
    fn undelivered(&self, sint: SintIndex) -> impl Iterator<Item = (TimerIndex, u64)> {
        let all = TimerIndex::all().zip(&self.timers);
        all.filter_map(move |(index, timer)| match timer.phase {
            Phase::Undelivered(at) if timer.config.sint() == Some(sint) => Some((index, at)),
            _ => None,
        })
    }

    fn note_undelivered(&mut self) {
        let sints = self.timers.iter().filter_map(Timer::undelivered);
        self.undelivered = sints.fold(0, |set, sint| set | sint.bit());
    }

    fn get(&self, timer: TimerIndex) -> Option<&Timer> {
        self.timers.get(timer.index())
    }

    fn get_mut(&mut self, timer: TimerIndex) -> Option<&mut Timer> {
        self.timers.get_mut(timer.index())
    }
}

#[cfg(test)]
mod tests;
