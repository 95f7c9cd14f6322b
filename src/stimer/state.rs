// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! Timers as values, and back from values that anybody may have written.

use super::Timers;
use super::timer::{NO_SINT, Phase, Timer};
use crate::abi::{StimerConfig, TimerIndex};
use crate::config::Provider;
use crate::observe::COUNT_MAX;
use crate::state::TimerState;

impl Timers {
    /// The timers that were ever used.
    pub fn save(&self) -> Vec<TimerState> {
        let all = TimerIndex::all().zip(&self.timers);
        let used = all.filter(|(_, timer)| **timer != Timer::default());
        used.map(|(index, timer)| save(index, timer)).collect()
    }

    /// Timers as `save` gave them; or which of them cannot be put back, and why.
    pub fn restore(
        states: &[TimerState],
        provider: Option<Provider>,
    ) -> Result<Self, (usize, &'static str)> {
        let mut timers = Self::new(provider);
        for (position, state) in states.iter().enumerate() {
            let refuse = |reason| (position, reason);
            let timer = timers.get_mut(state.index);
            let timer = timer.ok_or(refuse("this manager has no timers"))?;
            if *timer != Timer::default() {
                return Err(refuse("it is there twice"));
            }
            *timer = restore(state).map_err(refuse)?;
        }
        timers.note_undelivered();
        Ok(timers)
    }
}

fn save(index: TimerIndex, timer: &Timer) -> TimerState {
    let Timer {
        config,
        count,
        phase,
        counters,
    } = *timer;
    let (expiration, is_undelivered) = match phase {
        Phase::Stopped => (None, false),
        Phase::Armed(deadline) => (Some(deadline), false),
        Phase::Undelivered(expiration) => (Some(expiration), true),
    };
    TimerState {
        index,
        config: config.into(),
        count,
        expiration,
        is_undelivered,
        counters,
    }
}

fn restore(state: &TimerState) -> Result<Timer, &'static str> {
    let TimerState {
        index: _,
        config,
        count,
        expiration,
        is_undelivered,
        counters,
    } = *state;
    let config = StimerConfig::from(config);
    let phase = match (expiration, is_undelivered) {
        (None, false) => Phase::Stopped,
        (Some(deadline), false) => Phase::Armed(deadline),
        (Some(expiration), true) => Phase::Undelivered(expiration),
        (None, true) => return Err("its message has no expiration time"),
    };
    let runs = config.enable() && count != 0 && config.sint() != Some(NO_SINT);
    if phase != Phase::Stopped && !runs {
        return Err("it runs, but its registers do not let it");
    }
    if is_undelivered && config.direct_mode() {
        return Err("it has a message in direct mode");
    }
    if counters.largest() > COUNT_MAX {
        return Err("a count is out of all reason");
    }
    if !counters.balances(is_undelivered) {
        return Err("its counters do not balance");
    }
    Ok(Timer {
        config,
        count,
        phase,
        counters,
    })
}
