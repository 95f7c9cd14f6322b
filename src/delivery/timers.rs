// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! The messages of synthetic timers, which wait in their timers and not in a queue.
//!
//! No policy drops them: a timer's message waits until its SINT lets it through, as on KVM and
//! OpenVMM. Only a write to the timer or a reset takes it back.

use super::messages::Messages;
use crate::abi::{Register, SintIndex, TimerIndex};
use crate::page::GuestSpace;
use crate::stimer::{Expiry, TimerSignals};

/// What expired timers have to tell.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Expired {
    /// Raise these SINTs.
    pub interrupts: u16,
    /// A message waits that was not there before.
    pub queued: bool,
    pub timers: TimerSignals,
}

impl<AS: GuestSpace> Messages<AS> {
    /// Writes a register of a timer.
    pub fn write_timer(&mut self, register: Register, value: u64) {
        if let Some(sint) = self.timers.write(register, value) {
            self.queue(sint).counters.dropped.withdrawn += 1;
        }
    }

    /// Expires the timers whose time has come, and delivers their messages where `may_write`.
    pub fn expire_timers(&mut self, may_write: impl Fn(SintIndex) -> bool) -> Expired {
        let mut all = Expired::default();
        if self.paused {
            return all;
        }
        for timer in TimerIndex::all() {
            let Some(expiry) = self.timers.expire(timer) else {
                continue;
            };
            all.timers.expired |= timer.bit();
            match expiry {
                Expiry::Interrupt(vector) => all.timers.set_vector(timer, vector),
                Expiry::Message(sint) => {
                    self.queue(sint).counters.posted += 1;
                    if may_write(sint) && self.advance(sint) {
                        all.interrupts |= sint.bit();
                    }
                    if self.timers.is_undelivered(timer) {
                        self.queue(sint).counters.queued += 1;
                        all.queued = true;
                    }
                }
            }
        }
        all
    }

    /// Puts a timer's message into `sint`'s slot if the slot is free; `None` if no timer has one.
    pub(super) fn advance_timer(&mut self, sint: SintIndex) -> Option<bool> {
        let (timer, others) = self.timers.front(sint)?;
        let message = self.timers.message(timer)?;
        let more = others || !self.queue(sint).is_empty();
        let delivered = self.deliver(sint, &message, more);
        if delivered {
            self.timers.delivered(timer);
        }
        Some(delivered)
    }

    /// As after power-on.
    pub fn reset_timers(&mut self) {
        for sint in SintIndex::all() {
            let waiting = self.timers.waiting(sint) as u64;
            self.queue(sint).counters.dropped.reset += waiting;
        }
        self.timers.reset();
    }

    /// Whether the VMM does not know the earliest deadline.
    pub fn has_new_deadline(&self) -> bool {
        self.timers.has_new_deadline(self.paused)
    }

    /// The deadline that the VMM is to be told; then, [`deadline_told`](Self::deadline_told).
    pub fn claim_deadline(&mut self) -> Option<Option<u64>> {
        self.timers.claim_deadline(self.paused)
    }

    /// It was told; perhaps there is another one by now.
    pub fn deadline_told(&mut self) -> Option<Option<u64>> {
        self.timers.deadline_told(self.paused)
    }
}
