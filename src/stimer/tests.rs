// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

use super::*;
use crate::abi::StimerConfig;

const SINT: SintIndex = SintIndex::VMBUS;

fn timer(index: u8) -> TimerIndex {
    TimerIndex::new(index).unwrap()
}

/// Starts a timer that sends its message to `SINT` once.
fn start(timers: &mut Timers, index: u8, count: u64) {
    timers.write(Register::TimerCount(timer(index)), count);
    let config = StimerConfig::to_sint(SINT);
    timers.write(Register::TimerConfig(timer(index)), config.into());
}

#[test]
fn front_when_several_wait_is_the_one_that_expired_first() {
    let mut timers = Timers::new(Some(Provider::Manager));
    for (index, count) in [(0, 30), (1, 10), (2, 20)] {
        start(&mut timers, index, count);
    }
    timers.set_time(30);
    for timer in TimerIndex::all() {
        timers.expire(timer);
    }
    assert_eq!(timers.front(SINT), Some((timer(1), true)));
    timers.delivered(timer(1));
    timers.delivered(timer(2));
    assert_eq!(timers.front(SINT), Some((timer(0), false)));
    assert_eq!(timers.front(SintIndex::DOORBELL), None);
}

#[test]
fn set_time_that_comes_late_does_not_turn_back() {
    let mut timers = Timers::new(Some(Provider::Manager));
    timers.set_time(100);
    timers.set_time(50);
    start(&mut timers, 0, 70);
    assert!(timers.expire(timer(0)).is_some());
}

#[test]
fn claim_deadline_while_another_tells_waits_for_it() {
    let mut timers = Timers::new(Some(Provider::Manager));
    start(&mut timers, 0, 50);
    assert_eq!(timers.claim_deadline(false), Some(Some(50)));
    start(&mut timers, 1, 20);
    assert_eq!(timers.claim_deadline(false), None);
    assert_eq!(timers.deadline_told(false), Some(Some(20)));
    assert_eq!(timers.deadline_told(false), None);
}

#[test]
fn claim_deadline_after_it_was_used_up_tells_it_again() {
    let mut timers = Timers::new(Some(Provider::Manager));
    start(&mut timers, 0, 50);
    assert_eq!(timers.claim_deadline(false), Some(Some(50)));
    timers.use_up_deadline();
    assert_eq!(timers.deadline_told(false), Some(Some(50)));
}

#[test]
fn deadline_while_paused_is_none() {
    let mut timers = Timers::new(Some(Provider::Manager));
    start(&mut timers, 0, 50);
    assert_eq!(timers.claim_deadline(true), None);
    assert_eq!(timers.claim_deadline(false), Some(Some(50)));
    assert_eq!(timers.deadline_told(true), Some(None));
}

#[test]
fn timers_that_are_not_there_hold_nothing() {
    let mut timers = Timers::new(None);
    start(&mut timers, 0, 50);
    assert_eq!(timers.read(Register::TimerCount(timer(0))), None);
    assert_eq!(timers.claim_deadline(false), None);
}
