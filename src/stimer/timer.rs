// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! One synthetic timer: its two registers, and where it stands. A value without a clock.

use crate::abi::{SintIndex, StimerConfig};
use crate::observe::TimerCounters;

/// One timer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Timer {
    pub config: StimerConfig,
    pub count: u64,
    pub phase: Phase,
    pub counters: TimerCounters,
}

/// Where a timer stands; times are reference times.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Phase {
    /// It does not run.
    #[default]
    Stopped,
    /// It expires at this time.
    Armed(u64),
    /// It expired at this time, and its message is not in the slot yet.
    Undelivered(u64),
}

/// What an expired timer does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Expiry {
    /// It has a message for this SINT.
    Message(SintIndex),
    /// It interrupts the VP by this vector; `None` if that is not one.
    Interrupt(Option<u8>),
}

impl Timer {
    /// Stops the timer and starts it anew if it is enabled (`kvm: stimer_set_config`).
    pub fn write_config(&mut self, config: StimerConfig, now: u64) {
        self.config = config;
        self.restart(now);
    }

    /// Likewise; the count has a say in whether the timer is enabled (`kvm: stimer_set_count`).
    pub fn write_count(&mut self, count: u64, now: u64) {
        self.count = count;
        if count == 0 {
            self.config.set_enable(false);
        } else if self.config.auto_enable() {
            self.config.set_enable(true);
        }
        self.restart(now);
    }

    /// The SINT that an undelivered message is for.
    pub fn undelivered(&self) -> Option<SintIndex> {
        match self.phase {
            Phase::Undelivered(_) => self.config.sint(),
            _ => None,
        }
    }

    /// Expires if its time has come.
    pub fn expire(&mut self, now: u64) -> Option<Expiry> {
        let Phase::Armed(deadline) = self.phase else {
            return None;
        };
        if now < deadline {
            return None;
        }
        self.counters.expired += 1;
        if let Some(sint) = self.config.sint() {
            self.phase = Phase::Undelivered(deadline);
            return Some(Expiry::Message(sint));
        }
        self.counters.interrupts += 1;
        let vector = Some(self.config.apic_vector()).filter(|vector| *vector >= VECTOR_MIN);
        if vector.is_none() {
            self.counters.failed += 1;
        }
        self.finish(deadline, now);
        Some(Expiry::Interrupt(vector))
    }

    /// Its message is in the slot.
    pub fn delivered(&mut self, now: u64) {
        if let Phase::Undelivered(expiration) = self.phase {
            self.counters.messages += 1;
            self.finish(expiration, now);
        }
    }

    /// Forgets an undelivered message.
    pub fn withdraw(&mut self) {
        if let Phase::Undelivered(_) = self.phase {
            self.counters.withdrawn += 1;
            self.phase = Phase::Stopped;
        }
    }

    /// As after power-on. What happened, happened.
    pub fn reset(&mut self) {
        self.withdraw();
        *self = Self {
            counters: self.counters,
            ..Self::default()
        };
    }

    fn restart(&mut self, now: u64) {
        self.withdraw();
        // Such a timer is marked disabled at once (TLFS).
        if self.config.sint() == Some(NO_SINT) {
            self.config.set_enable(false);
        }
        self.phase = match (
            self.config.enable() && self.count != 0,
            self.config.periodic(),
        ) {
            (false, _) => Phase::Stopped,
            (true, false) => Phase::Armed(self.count),
            (true, true) => Phase::Armed(now.saturating_add(self.period())),
        };
    }

    fn finish(&mut self, deadline: u64, now: u64) {
        if !self.config.periodic() {
            self.config.set_enable(false);
            self.phase = Phase::Stopped;
            return;
        }
        // What was missed is skipped, not made up for (`kvm: stimer_start`).
        let late = now.saturating_sub(deadline);
        let skipped = self.counters.skipped;
        self.counters.skipped = skipped.saturating_add(late / self.period());
        let latest = now - late % self.period();
        self.phase = Phase::Armed(latest.saturating_add(self.period()));
    }

    /// Never 0.
    fn period(&self) -> u64 {
        self.count.max(PERIOD_MIN)
    }
}

/// 200 us in units of 100 ns: the guest and the host can bear a timer that expires so often. KVM
/// has the same limit for the periodic timer of its LAPIC (`min_timer_period_us`).
pub(crate) const PERIOD_MIN: u64 = 2_000;
/// SINT0 stands for no SINT.
pub(super) const NO_SINT: SintIndex = SintIndex::INTERCEPT;
const VECTOR_MIN: u8 = 16;

#[cfg(test)]
mod tests {
    use super::*;

    const PERIOD: u64 = 10_000;

    fn one_shot(count: u64) -> Timer {
        let mut timer = Timer::default();
        timer.write_count(count, 0);
        timer.write_config(StimerConfig::to_sint(SintIndex::VMBUS), 0);
        timer
    }

    fn periodic(period: u64, now: u64) -> Timer {
        let mut timer = Timer::default();
        timer.write_count(period, now);
        timer.write_config(StimerConfig::direct(0xED).with_periodic(true), now);
        timer
    }

    #[test]
    fn expire_before_the_deadline_does_nothing() {
        let mut timer = one_shot(100);
        assert_eq!(timer.expire(99), None);
        assert_eq!(timer.phase, Phase::Armed(100));
    }

    #[test]
    fn delivered_when_one_shot_clears_enable() {
        let mut timer = one_shot(100);
        assert_eq!(timer.expire(100), Some(Expiry::Message(SintIndex::VMBUS)));
        assert!(timer.config.enable());
        assert_eq!(timer.expire(200), None, "its message waits");
        timer.delivered(300);
        assert!(!timer.config.enable());
        assert_eq!(timer.phase, Phase::Stopped);
    }

    #[test]
    fn expire_when_periodic_and_late_skips_to_the_next_multiple() {
        let mut timer = periodic(PERIOD, 5);
        let expiry = timer.expire(5 + 3 * PERIOD + 1);
        assert_eq!(expiry, Some(Expiry::Interrupt(Some(0xED))));
        assert_eq!(timer.phase, Phase::Armed(5 + 4 * PERIOD));
        assert_eq!(timer.counters.skipped, 2);
    }

    #[test]
    fn expire_when_the_period_is_tiny_waits_for_the_least() {
        let mut timer = periodic(1, 0);
        assert_eq!(timer.phase, Phase::Armed(PERIOD_MIN));
        assert!(timer.expire(PERIOD_MIN).is_some());
        assert_eq!(timer.phase, Phase::Armed(2 * PERIOD_MIN));
        assert_eq!(timer.count, 1);
    }

    #[test]
    fn any_count_at_any_time_never_overflows() {
        let values = [0, 1, PERIOD_MIN, 1 << 63, u64::MAX - 1, u64::MAX];
        for (count, now) in values.iter().flat_map(|c| values.map(|now| (*c, now))) {
            for mut timer in [one_shot(count), periodic(count, now)] {
                for now in [now, now / 2, u64::MAX] {
                    timer.expire(now);
                    timer.delivered(now);
                }
            }
        }
    }

    #[test]
    fn restart_when_messages_would_go_to_sint0_disables() {
        let mut timer = one_shot(100);
        timer.write_config(StimerConfig::to_sint(SintIndex::INTERCEPT), 0);
        assert!(!timer.config.enable());
        timer.write_config(StimerConfig::new().with_auto_enable(true), 0);
        timer.write_count(100, 0);
        assert!(!timer.config.enable());
    }

    #[test]
    fn expire_when_the_vector_is_below_16_is_a_failure() {
        let mut timer = one_shot(100);
        timer.write_config(StimerConfig::direct(15), 0);
        assert_eq!(timer.expire(100), Some(Expiry::Interrupt(None)));
        assert_eq!(timer.counters.failed, 1);
    }
}
