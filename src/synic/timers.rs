// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! The synthetic timers of a VP, which are in its plain bank.

use super::{Signals, Synic, loudness};
use crate::abi::{Register, TimerIndex};
use crate::config::{Config, MessageWriter};
use crate::delivery::messages::may_write;
use crate::page::GuestSpace;
use crate::state::TimerState;
use crate::stimer::HeldTimer;
use crate::sync::lock;

impl<AS: GuestSpace> Synic<AS> {
    /// Brings the time, before anything that may expire a timer or deliver its message.
    pub fn set_time(&self, now: u64) {
        lock(&self.messages).timers.set_time(now);
    }

    /// Whether a timer's message waits: it says when it was delivered.
    pub fn has_timer_message(&self) -> bool {
        lock(&self.messages).timers.wait()
    }

    /// The VMM's timer has run out.
    pub fn timer_due(&self, now: u64, config: &Config) -> Signals {
        let mut messages = lock(&self.messages);
        messages.timers.set_time(now);
        messages.timers.use_up_deadline();
        drop(messages);
        self.expire_timers(config).and(self.news(config))
    }

    /// Expires the timers whose time has come.
    pub(super) fn expire_timers(&self, config: &Config) -> Signals {
        let by_vp = config.message_writer == MessageWriter::VpThread;
        let mut messages = lock(&self.messages);
        let expired = messages.expire_timers(|sint| !by_vp && may_write(self.ready(sint), config));
        Signals {
            interrupts: expired.interrupts,
            work: by_vp && expired.queued,
            timers: expired.timers,
            ..Signals::NONE
        }
    }

    pub(super) fn write_timer(&self, register: Register, value: u64, config: &Config) -> Signals {
        lock(&self.messages).write_timer(register, value);
        self.expire_timers(config)
    }

    /// The deadline that the VMM is to be told, if it does not know it. Whoever gets it tells, and
    /// asks [`deadline_told`](Self::deadline_told) for the next; nobody else gets one until then.
    pub fn claim_deadline(&self) -> Option<Option<u64>> {
        lock(&self.messages).claim_deadline()
    }

    /// The deadline was told; perhaps there is another one by now.
    pub fn deadline_told(&self) -> Option<Option<u64>> {
        lock(&self.messages).deadline_told()
    }

    /// Notes what the hypervisor, which has the timers, has told of one.
    pub fn hold_timer(&self, timer: TimerIndex, held: HeldTimer) {
        lock(&self.messages).timers.hold(timer, held);
    }

    /// The timers that were ever used.
    pub fn timers(&self) -> Vec<TimerState> {
        lock(&self.messages).timers.save()
    }

    /// The host could not interrupt the VP for a timer. As `interrupt_failed`.
    pub fn timer_failed(&self, timer: TimerIndex) -> log::Level {
        loudness(lock(&self.messages).timers.failed(timer))
    }
}
