// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! What a guest of one VP may expect: plain queues and sets, and no page, register or lock.

use std::collections::{BTreeSet, VecDeque};
use vm_synic::{NotReady, Posted};

/// How many messages may wait beside the one in the slot.
pub const DEPTH: u16 = 3;
/// How many ports fit an event ring.
const ENTRIES: usize = 63;

/// One VP: SINT2 takes messages and flags, SINT5 has an event ring.
#[derive(Clone, Debug, Default)]
pub struct Reference {
    /// SCONTROL.
    pub on: bool,
    /// SINT2.
    pub masked: bool,
    /// Nothing reaches the guest's pages.
    pub paused: bool,
    pub slot: Option<u8>,
    /// A message was found to wait since the slot was filled; its taking brings the next one.
    pub pending: bool,
    pub waiting: VecDeque<u8>,
    pub flags: BTreeSet<u16>,
    pub held: BTreeSet<u16>,
    pub entries: VecDeque<u32>,
    pub overflow: VecDeque<u32>,
    /// The guest was told that ports wait, and asks for them when it has drained the ring.
    pub full: bool,
}

/// What a post must give.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expected {
    Accepted(Posted),
    NotReady(NotReady),
    Full,
}

impl Reference {
    fn ready(&self) -> Result<(), NotReady> {
        match (self.on, self.masked) {
            (false, _) => Err(NotReady::ScontrolOff),
            (true, true) => Err(NotReady::Masked),
            (true, false) => Ok(()),
        }
    }

    pub fn post(&mut self, body: u8) -> Expected {
        if let Err(cause) = self.ready() {
            return Expected::NotReady(cause);
        }
        self.advance();
        if !self.paused && self.slot.is_none() {
            self.slot = Some(body);
            self.pending = false;
            return Expected::Accepted(Posted::Delivered);
        }
        if self.waiting.len() >= usize::from(DEPTH) {
            return Expected::Full;
        }
        self.pending |= !self.paused;
        self.waiting.push_back(body);
        Expected::Accepted(Posted::Queued)
    }

    /// The guest empties the slot, and writes EOM where it is asked to.
    pub fn take(&mut self) -> Option<u8> {
        let body = self.slot.take()?;
        if self.pending {
            self.end_of_message();
        }
        Some(body)
    }

    pub fn end_of_message(&mut self) {
        if self.on {
            self.advance();
        }
    }

    fn advance(&mut self) {
        if self.paused || self.waiting.is_empty() {
            return;
        }
        if self.slot.is_some() {
            self.pending = true;
            return;
        }
        self.slot = self.waiting.pop_front();
        self.pending = !self.waiting.is_empty();
    }

    /// Some(true): the flag was clear.
    pub fn signal(&mut self, flag: u16) -> Option<bool> {
        self.ready().ok()?;
        if self.paused {
            self.held.insert(flag);
            return Some(false);
        }
        Some(self.flags.insert(flag))
    }

    pub fn take_flags(&mut self) -> Vec<u16> {
        std::mem::take(&mut self.flags).into_iter().collect()
    }

    pub fn ring(&mut self, port: u32) {
        if !self.overflow.contains(&port) {
            self.overflow.push_back(port);
        }
        self.refill();
    }

    /// The guest's next port.
    pub fn next_port(&mut self) -> Option<u32> {
        if self.entries.is_empty() && std::mem::take(&mut self.full) {
            self.refill();
        }
        self.entries.pop_front()
    }

    fn refill(&mut self) {
        if !self.on || self.paused {
            return;
        }
        let room = ENTRIES - self.entries.len();
        let entering = self.overflow.len().min(room);
        self.entries.extend(self.overflow.drain(..entering));
        self.full |= !self.overflow.is_empty();
    }

    /// The event ring page moves: what is unread goes along.
    pub fn move_ring(&mut self) {
        while let Some(port) = self.entries.pop_back() {
            if !self.overflow.contains(&port) {
                self.overflow.push_front(port);
            }
        }
        self.full = false;
        self.refill();
    }

    pub fn set_masked(&mut self, masked: bool) {
        self.masked = masked;
        if self.ready().is_ok() {
            self.advance();
        }
    }

    /// Switching off drops what waits.
    pub fn set_on(&mut self, on: bool) {
        let was_on = std::mem::replace(&mut self.on, on);
        if was_on && !on {
            self.waiting.clear();
        }
        if !was_on && on {
            self.set_masked(self.masked);
            self.refill();
        }
    }

    pub fn resume(&mut self) {
        self.paused = false;
        self.flags.append(&mut self.held);
        self.set_masked(self.masked);
        if !self.full {
            self.refill();
        }
    }
}
