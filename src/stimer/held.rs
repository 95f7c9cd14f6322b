// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! Timers that the hypervisor has: what is known of them, for a saved state.

use super::Timers;
use super::timer::{NO_SINT, Phase};
use crate::abi::{StimerConfig, TimerIndex};
use crate::state::TimerState;

/// What a hypervisor that has the synthetic timers tells of one, and is told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HeldTimer {
    /// CONFIG.
    pub config: u64,
    /// COUNT.
    pub count: u64,
    /// The reference time when it expires; means nothing for a timer that stands still.
    pub expiration: u64,
}

impl From<&TimerState> for HeldTimer {
    fn from(state: &TimerState) -> Self {
        Self {
            config: state.config,
            count: state.count,
            expiration: state.expiration.unwrap_or_default(),
        }
    }
}

impl Timers {
    /// Notes what the hypervisor has told of a timer. What was counted before it had it stays.
    pub fn hold(&mut self, index: TimerIndex, held: HeldTimer) {
        let Some(timer) = self.get_mut(index) else {
            return;
        };
        timer.config = StimerConfig::from(held.config);
        timer.count = held.count;
        let runs = timer.config.enable() && timer.count != 0;
        timer.phase = match timer.config.sint() {
            Some(NO_SINT) => Phase::Stopped,
            _ if runs => Phase::Armed(held.expiration),
            _ => Phase::Stopped,
        };
    }

    /// Leaves the messages that wait to the hypervisor: a timer that is enabled and late expires
    /// there at once, and sends its message itself.
    pub fn hand_over(&mut self) {
        for timer in &mut self.timers {
            if let Phase::Undelivered(expiration) = timer.phase {
                timer.withdraw();
                timer.phase = Phase::Armed(expiration);
            }
        }
        self.note_undelivered();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::abi::SintIndex;
    use crate::config::Provider;

    fn timers() -> (Timers, TimerIndex) {
        let timers = Timers::new(Some(Provider::Hypervisor));
        (timers, TimerIndex::all().next().unwrap())
    }

    fn held(config: StimerConfig, count: u64) -> HeldTimer {
        HeldTimer {
            config: config.into(),
            count,
            expiration: 500,
        }
    }

    #[test]
    fn hold_of_a_timer_that_runs_keeps_its_expiration_and_never_expires_it_here() {
        let (mut timers, index) = timers();
        timers.hold(index, held(StimerConfig::to_sint(SintIndex::VMBUS), 500));
        timers.set_time(1000);
        assert_eq!(timers.expire(index), None);
        assert_eq!(timers.claim_deadline(false), None);
        let saved = timers.save();
        assert_eq!(saved.first().unwrap().expiration, Some(500));
        Timers::restore(&saved, Some(Provider::Manager)).unwrap();
    }

    #[test]
    fn hold_of_a_timer_that_stands_still_has_no_expiration() {
        for (config, count) in [
            (StimerConfig::to_sint(SintIndex::VMBUS), 0),
            (
                StimerConfig::to_sint(SintIndex::VMBUS).with_enable(false),
                500,
            ),
            (StimerConfig::to_sint(SintIndex::INTERCEPT), 500),
        ] {
            let (mut timers, index) = timers();
            timers.hold(index, held(config, count));
            let saved = timers.save();
            assert_eq!(saved.first().unwrap().expiration, None, "{config:?}");
            Timers::restore(&saved, Some(Provider::Manager)).unwrap();
        }
    }

    #[test]
    fn hand_over_of_a_message_that_waits_leaves_a_late_timer_that_balances() {
        let mut ours = Timers::new(Some(Provider::Manager));
        let index = TimerIndex::all().next().unwrap();
        ours.hold(index, held(StimerConfig::to_sint(SintIndex::VMBUS), 500));
        ours.set_time(600);
        ours.expire(index).unwrap();
        let mut theirs = Timers::restore(&ours.save(), Some(Provider::Hypervisor)).unwrap();
        theirs.hand_over();
        let saved = theirs.save().first().copied().unwrap();
        assert_eq!((saved.expiration, saved.is_undelivered), (Some(500), false));
        assert!(saved.counters.balances(false) && !theirs.wait());
    }
}
