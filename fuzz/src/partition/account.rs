// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! What was sent to a SINT, and what of it has arrived.

use crate::action::body;
use std::collections::{BTreeSet, VecDeque};
use vm_synic::{Message, SintAddr, SintCounters};

/// Of one SINT.
#[derive(Debug, Default)]
pub struct Account {
    /// Numbers of messages that were accepted, oldest first, but for those that the guest has taken.
    pub accepted: VecDeque<u64>,
    /// Posts that were refused, and counted as dropped.
    pub refused: u64,
    /// Messages that the guest has taken.
    taken: u64,
    /// Messages that were accepted, and that a later one has overtaken: they were dropped.
    skipped: u64,
    /// Signals, whatever became of them.
    pub signals: u64,
    /// Flags that were signalled since the guest has cleared them last.
    pub flags: BTreeSet<u16>,
}

impl Account {
    /// The guest takes a message: one that was accepted, whole, once and in order.
    pub fn take(&mut self, addr: SintAddr, message: &Message) {
        let number = message.payload().first_chunk();
        let number = number.map_or(0, |number| u64::from_le_bytes(*number));
        assert_eq!(message.payload(), body(number), "{addr}");
        let position = self.accepted.iter().position(|next| *next == number);
        let position = position.unwrap_or_else(|| {
            panic!("{addr}: message {number} came twice, late, or though it was refused")
        });
        self.accepted.drain(..=position);
        self.skipped += position as u64;
        self.taken += 1;
    }

    /// What was counted is what was sent and has arrived.
    pub fn check(&self, addr: SintAddr, counters: &SintCounters, is_slot_taken: bool) {
        let messages = counters.messages;
        let accepted = self.accepted.len() as u64 + self.skipped + self.taken;
        assert_eq!(
            messages.posted,
            accepted + self.refused,
            "{addr}: {self:?}, {counters:?}"
        );
        let arrived = self.taken + u64::from(is_slot_taken);
        assert_eq!(
            messages.delivered, arrived,
            "{addr}: {self:?}, {counters:?}"
        );
        assert!(
            self.skipped <= self.dropped(counters),
            "{addr}: {self:?}, {counters:?}"
        );
        assert_eq!(
            counters.events.signalled(),
            self.signals,
            "{addr}: {self:?}, {counters:?}"
        );
    }

    /// When nothing waits and every slot is empty: what has not arrived was dropped.
    pub fn check_end(&self, addr: SintAddr, counters: &SintCounters) {
        let missing = self.skipped + self.accepted.len() as u64;
        assert_eq!(
            counters.messages.waiting, 0,
            "{addr}: {self:?}, {counters:?}"
        );
        assert_eq!(
            missing,
            self.dropped(counters),
            "{addr}: {self:?}, {counters:?}"
        );
    }

    /// Messages that were dropped after they had been accepted.
    fn dropped(&self, counters: &SintCounters) -> u64 {
        counters.messages.dropped.total() - self.refused
    }
}
