// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! Synthetic timers through pause, reset, unplug, save and restore, and what is seen of them.

mod timers;

use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use timers::*;
use vm_synic::abi::{Register, StimerConfig};
use vm_synic::state::{State, TimerState};
use vm_synic::test_utils::{HostCall, MockVm};
use vm_synic::{Config, Error, MessageWriter, MsrError, Provider, TimelineKind, TimerIndex};

/// A paused manager whose timers stand in every way: 0 stopped by its expiry, 1 armed, 2 with a
/// message that waits, 3 never used.
fn saved() -> (MockVm, Guest, State) {
    let (vm, guest) = up();
    expire(&vm, &guest, 0, to_sint());
    start(
        &guest,
        1,
        StimerConfig::direct(0xED).with_periodic(true),
        PERIOD,
    );
    expire(&vm, &guest, 2, to_sint());
    vm.manager.pause();
    let state = vm.manager.save().unwrap();
    (vm, guest, state)
}

#[test]
fn pause_stops_the_vmms_timer_and_resume_expires_what_became_due() {
    let (vm, guest) = up();
    start(&guest, 0, to_sint(), 500);
    vm.host.take_calls();
    vm.manager.pause();
    assert_eq!(vm.host.take_deadlines(), [(VP, None)]);
    due_at(&vm, 600);
    assert_eq!(vm.host.take_calls(), []);
    assert_eq!(guest.peek_message(SINT), None);

    vm.manager.resume();
    vm.manager.pre_run(VP);
    assert_eq!(guest.take_message(SINT), Some(expired(0, 500, 600)));
}

#[test]
fn resume_before_the_deadline_tells_it_again() {
    let (vm, guest) = up();
    start(&guest, 0, to_sint(), 500);
    vm.manager.pause();
    vm.manager.resume();
    vm.host.take_calls();
    vm.manager.pre_run(VP);
    assert_eq!(vm.host.take_deadlines(), [(VP, Some(500))]);
}

#[test]
fn reset_and_unplug_stop_timers_and_drop_their_messages() {
    let reset = |vm: &MockVm| vm.manager.reset();
    let reset_vp = |vm: &MockVm| vm.manager.reset_vp(VP).unwrap();
    let replug = |vm: &MockVm| {
        vm.manager.remove_vp(VP).unwrap();
        vm.manager.add_vp(VP).unwrap();
    };
    for stop in [reset, reset_vp, replug] {
        let (vm, guest) = up();
        post(&vm, 1);
        expire(&vm, &guest, 0, to_sint());
        start(&guest, 1, to_sint(), 500);
        vm.host.take_calls();
        stop(&vm);
        assert_eq!(vm.host.take_deadlines(), [(VP, None)]);
        assert_eq!(counters(&vm).dropped.reset, 1);
        assert_eq!((guest.get(config_of(1)), guest.get(count_of(1))), (0, 0));
        assert!(vm.manager.snapshot().vps[0].plain.balances());
        due_at(&vm, 600);
        assert_eq!(vm.host.take_calls(), []);
    }
}

#[test]
fn reset_lets_the_time_begin_again() {
    let (vm, mut guest) = up();
    due_at(&vm, 1 << 40);
    vm.manager.reset();
    vm.host.set_time(0);
    guest.enable_all();
    guest.unmask(SINT, 0xF3);
    start(&guest, 0, to_sint(), 500);
    assert_eq!(guest.peek_message(SINT), None);
    assert_eq!(timer(&vm, 0).expiration, Some(500));
}

#[test]
fn restored_timers_go_on() {
    let (vm, guest, state) = saved();
    let next = vm.successor(config_with_timers());
    next.manager.restore(&state).unwrap();
    assert_eq!(next.manager.save().unwrap(), state);
    let guest = guest.under(next.manager.clone());
    vm.host.take_calls();

    next.host.set_time(PERIOD + 10);
    next.manager.resume();
    next.manager.pre_run(VP);
    let calls = next.host.take_calls();
    assert!(calls.contains(&HostCall::AssertVector(VP, 0xED)));
    assert!(calls.contains(&HostCall::SetTimer(VP, Some(2 * PERIOD + 10))));
    assert_eq!(guest.take_message(SINT), Some(expired(0, 1, 10)));
    let late = expired(2, 1, PERIOD + 10);
    assert_eq!(guest.take_message(SINT), Some(late));
}

#[test]
fn restore_where_there_are_no_timers_is_refused() {
    let (vm, _guest, state) = saved();
    let next = vm.successor(Config {
        timers: None,
        ..config_with_timers()
    });
    let error = next.manager.restore(&state).unwrap_err();
    let expected =
        "Cannot restore the saved state: vps[0].plain.timers[0]: this manager has no timers";
    assert_eq!(error.to_string(), expected);
}

#[test]
fn timer_that_cannot_be_is_named() {
    let (vm, _guest, state) = saved();
    let state = serde_json::to_value(state).unwrap();
    let twice = json!([
        state["vps"][0]["plain"]["timers"][0],
        state["vps"][0]["plain"]["timers"][0]
    ]);
    let waiting = "vps[0].plain.counters[2].messages.waiting";
    for (path, value, field) in [
        ("timers", twice, "vps[0].plain.timers[1]"),
        ("timers", json!([]), waiting),
        ("timers/0/expiration", json!(5), "vps[0].plain.timers[0]"),
        ("timers/1/count", json!(0), "vps[0].plain.timers[1]"),
        (
            "timers/1/is_undelivered",
            json!(true),
            "vps[0].plain.timers[1]",
        ),
        ("timers/2/expiration", Value::Null, "vps[0].plain.timers[2]"),
        ("timers/2/config", json!(1), "vps[0].plain.timers[2]"),
        ("timers/2/config", json!(0x5_0001), waiting),
        (
            "timers/2/is_undelivered",
            json!(false),
            "vps[0].plain.timers[2]",
        ),
        (
            "timers/2/counters/skipped",
            json!(u64::MAX),
            "vps[0].plain.timers[2]",
        ),
    ] {
        let mut hostile = state.clone();
        let place = hostile.pointer_mut(&format!("/vps/0/plain/{path}"));
        *place.unwrap_or_else(|| panic!("no {path}")) = value;
        let hostile = serde_json::from_value(hostile).unwrap();
        let next = vm.successor(config_with_timers());
        match next.manager.restore(&hostile) {
            Err(Error::State { field: named, .. }) => assert_eq!(named, field, "{path}"),
            other => panic!("{path}: {other:?}"),
        }
    }
}

#[test]
fn timers_in_a_nested_bank_are_refused() {
    let nested = Config {
        nested: true,
        ..config_with_timers()
    };
    let (vm, _guest) = up_with(nested.clone());
    let (_, _, with_timers) = saved();
    vm.manager.pause();
    let mut state = vm.manager.save().unwrap();
    let hostile = state.vps[0].nested.as_mut().unwrap();
    hostile.timers = with_timers.vps[0].plain.timers.clone();
    let error = vm.successor(nested).manager.restore(&state).unwrap_err();
    assert!(
        error.to_string().contains("vps[0].nested.timers"),
        "{error}"
    );
}

#[test]
fn snapshot_shows_the_timers_that_were_used() {
    let (vm, _guest, _state) = saved();
    let snapshot = vm.manager.snapshot();
    let text = snapshot.to_string();
    for line in [
        "STIMER0: config 0x20000, count 1, stopped",
        "STIMER1: config 0x1ed3, count 10000, expires at 10010",
        "STIMER2: config 0x20001, count 1, undelivered since 1",
        "expired 1: 1 messages, 0 interrupts (0 failed), 0 withdrawn; 0 skipped",
    ] {
        assert!(text.contains(line), "{line}: {text}");
    }
    assert!(!text.contains("STIMER3"));
    let json = snapshot.to_json();
    assert_eq!(json["vps"][0]["plain"]["timers"][1]["expiration"], 10_010);
}

#[test]
fn timeline_has_writes_and_expiries() {
    let (vm, guest) = up_with(Config {
        timeline_depth: 16,
        ..config_with_timers()
    });
    start(&guest, 3, StimerConfig::direct(0xED), 500);
    due_at(&vm, 500);
    let events: Vec<_> = vm.manager.timeline().iter().map(|e| e.describe()).collect();
    let event = |name: &str, what: &str| (name.to_owned(), what.to_owned());
    let last = [
        event("STIMER3_COUNT", "0x0 -> 0x1f4"),
        event("STIMER3_CONFIG", "0x0 -> 0x1ed1"),
        event("STIMER3", "vector 0xed"),
    ];
    assert_eq!(events.last_chunk(), Some(&last));
    let timer = TimerIndex::new(3).unwrap();
    let kind = TimelineKind::Timer {
        timer,
        vector: Some(0xED),
    };
    assert_eq!(vm.manager.timeline().last().map(|e| e.kind), Some(kind));
}

#[test]
fn message_that_the_vp_itself_must_write_waits_for_it() {
    let (vm, guest) = up_with(Config {
        message_writer: MessageWriter::VpThread,
        ..config_with_timers()
    });
    vm.manager.pre_run(VP);
    start(&guest, 0, to_sint(), 500);
    vm.host.take_calls();
    due_at(&vm, 500);
    assert_eq!(guest.peek_message(SINT), None);
    assert_eq!(vm.host.take_calls(), [HostCall::Kick(VP)]);
    vm.manager.pre_run(VP);
    assert_eq!(guest.take_message(SINT), Some(expired(0, 500, 500)));
}

/// The guest starts a timer again and again, while the VMM's timers run out: the VMM always knows
/// the deadline of the last start.
#[test]
fn deadline_that_the_vmm_heard_last_is_the_latest() {
    let (vm, guest) = up();
    let over = Arc::new(AtomicBool::new(false));
    let (manager, stop) = (vm.manager.clone(), over.clone());
    let timers = std::thread::spawn(move || {
        while !stop.load(Ordering::SeqCst) {
            manager.timer_due(VP);
        }
    });
    guest
        .set(
            Register::TimerConfig(TimerIndex::new(0).unwrap()),
            to_sint().into(),
        )
        .unwrap();
    for deadline in 1..5_000 {
        guest.set(count_of(0), deadline).unwrap();
    }
    over.store(true, Ordering::SeqCst);
    timers.join().unwrap();
    let told = vm.host.take_deadlines();
    assert_eq!(told.last(), Some(&(VP, Some(4_999))));
}

#[test]
fn restore_where_the_hypervisor_has_the_timers_hands_them_over_and_back() {
    let (vm, _guest, state) = saved();
    let theirs = vm.successor(Config {
        timers: Some(Provider::Hypervisor),
        ..config_with_timers()
    });
    vm.host.take_calls();
    theirs.manager.restore(&state).unwrap();
    theirs.manager.resume();
    theirs.host.set_time(10 * PERIOD);
    theirs.manager.pre_run(VP);
    theirs.manager.timer_due(VP);
    let timer_calls = theirs
        .host
        .take_calls()
        .into_iter()
        .filter(|call| matches!(call, HostCall::SetTimer(..) | HostCall::AssertVector(..)));
    assert_eq!(timer_calls.count(), 0, "they are not the manager's");
    let config = 0x4000_00B0;
    assert_eq!(
        theirs.manager.read_msr(VP, config),
        Err(MsrError::NotMine(config))
    );
    assert!(theirs.manager.snapshot().vps[0].plain.balances());

    theirs.manager.pause();
    let handed_over = theirs.manager.save().unwrap();
    let [before, after] = [&state, &handed_over].map(|state| state.vps[0].plain.timers[2]);
    let fate = |timer: TimerState| (timer.expiration, timer.is_undelivered);
    assert_eq!(fate(before), (Some(1), true));
    assert_eq!(
        fate(after),
        (Some(1), false),
        "it is late, and sends its message anew"
    );

    let back = vm.successor(config_with_timers());
    back.manager.restore(&handed_over).unwrap();
    assert_eq!(back.manager.save().unwrap(), handed_over);
}
