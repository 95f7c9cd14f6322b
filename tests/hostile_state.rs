// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! A saved state that somebody has tampered with is refused by name, or harmless.

use serde_json::{Value, json};
use vm_synic::state::State;
use vm_synic::test_utils::MockVm;
use vm_synic::{
    Config, DoorbellTarget, Error, EventFlag, Message, MessageType, PortId, Posted, SintAddr,
    SintIndex, VpIndex,
};

const VP: VpIndex = VpIndex::new(0);
const SINT: SintIndex = SintIndex::VMBUS;
const RING: SintIndex = SintIndex::DOORBELL;
const ADDR: SintAddr = SintAddr::new(VP, SINT);
const DEPTH: u64 = 2;

fn config() -> Config {
    Config {
        queue_depth: DEPTH as u16,
        ..Config::new(2)
    }
}

fn message(body: u8) -> Message {
    Message::new(MessageType::VMBUS, &[body]).unwrap()
}

/// Posts, signals and rings as often as there is room, and more.
fn use_it(vm: &MockVm) {
    for round in 1..=70 {
        let _ = vm.manager.post_message(ADDR, &message(1));
        let _ = vm
            .manager
            .signal_event(ADDR, EventFlag::new(round).unwrap());
        let (target, port) = (DoorbellTarget::Vp(VP), PortId::new(round.into()).unwrap());
        let _ = vm.manager.ring_doorbell(target, RING, port);
    }
}

/// A paused manager with something in every field of its state, and that state.
fn saved() -> (MockVm, Value) {
    let vm = MockVm::new(config(), 1);
    let mut guest = vm.guest(VP);
    guest.enable_all();
    guest.unmask(SINT, 0xF3);
    guest.unmask(RING, 0xF5);
    use_it(&vm);
    guest.end_of_message();
    vm.manager.pause();
    vm.manager
        .signal_event(ADDR, EventFlag::new(2000).unwrap())
        .unwrap();
    let state = serde_json::to_value(vm.manager.save().unwrap()).unwrap();
    (vm, state)
}

/// Changes one place of a state.
fn with(state: &Value, path: &str, value: Value) -> Value {
    let mut state = state.clone();
    *state
        .pointer_mut(path)
        .unwrap_or_else(|| panic!("no {path}")) = value;
    state
}

/// Restores into a fresh manager; the field that is refused, or "json" where it is no state.
fn refused(vm: &MockVm, state: &Value) -> Option<String> {
    let next = vm.successor(config());
    let Ok(state) = serde_json::from_value::<State>(state.clone()) else {
        return Some("json".into());
    };
    match next.manager.restore(&state) {
        Ok(()) => None,
        Err(Error::State { field, .. }) => Some(field),
        Err(other) => panic!("{other}"),
    }
}

#[test]
fn state_that_nobody_touched_is_taken() {
    let (vm, state) = saved();
    assert_eq!(refused(&vm, &state), None);
}

#[test]
fn field_that_cannot_be_is_named() {
    let (vm, state) = saved();
    let ring_twice = json!([
        state.pointer("/vps/0/plain/rings/0"),
        state.pointer("/vps/0/plain/rings/0")
    ]);
    let queue_twice = json!([
        state.pointer("/vps/0/plain/queues/0"),
        state.pointer("/vps/0/plain/queues/0")
    ]);
    let vp_twice = json!([state.pointer("/vps/0"), state.pointer("/vps/0")]);
    let too_many = vec![message(1); DEPTH as usize + 17];
    for (path, value, field) in [
        ("/version", json!(2), "version"),
        ("/version", json!(0), "version"),
        ("/vps/0/index", json!(2), "vps"),
        ("/vps/0/index", json!(u32::MAX), "vps"),
        ("/vps", vp_twice, "vps"),
        (
            "/vps/0/nested",
            state["vps"][0]["plain"].clone(),
            "vps[0].nested",
        ),
        (
            "/vps/0/plain/sints",
            json!(vec![0x10000; 15]),
            "vps[0].plain.sints",
        ),
        (
            "/vps/0/plain/sints",
            json!(vec![0x10000; 17]),
            "vps[0].plain.sints",
        ),
        ("/vps/0/plain/sints/7", json!(15), "vps[0].plain.sints[7]"),
        ("/vps/0/plain/simp", json!(0x100_0001), "vps[0].plain.simp"),
        ("/vps/0/plain/simp", json!(u64::MAX), "vps[0].plain.simp"),
        (
            "/vps/0/plain/siefp",
            json!(0x100_0001),
            "vps[0].plain.siefp",
        ),
        (
            "/vps/0/plain/sirbp",
            json!(0x100_0001),
            "vps[0].plain.sirbp",
        ),
        ("/vps/0/plain/queues", queue_twice, "vps[0].plain.queues"),
        (
            "/vps/0/plain/queues/0/messages",
            json!(too_many),
            "vps[0].plain.queues[0].messages",
        ),
        ("/vps/0/plain/rings", ring_twice, "vps[0].plain.rings"),
        (
            "/vps/0/plain/rings/0/head",
            json!(63),
            "vps[0].plain.rings[0]",
        ),
        (
            "/vps/0/plain/rings/0/head",
            json!(200),
            "vps[0].plain.rings[0]",
        ),
        (
            "/vps/0/plain/rings/0/unread",
            json!(64),
            "vps[0].plain.rings[0]",
        ),
        (
            "/vps/0/plain/rings/0/waiting",
            json!([64, 64]),
            "vps[0].plain.rings[0]",
        ),
        ("/vps/0/plain/counters", json!([]), "vps[0].plain.counters"),
        ("/vps/0/plain/eoms", json!(u64::MAX), "vps[0].plain.eoms"),
    ] {
        let refused = refused(&vm, &with(&state, path, value));
        assert_eq!(refused.as_deref(), Some(field), "{path}");
    }
}

#[test]
fn value_that_its_type_cannot_hold_is_no_state() {
    let (vm, state) = saved();
    let message = |len: usize, message_type: u32| json!({ "message_type": message_type, "sender": 0, "payload": vec![0; len] });
    for (path, value) in [
        ("/version", json!(-1)),
        ("/vps/0/index", json!("0")),
        ("/vps/0/plain/queues/0/sint", json!(16)),
        ("/vps/0/plain/queues/0/messages/0", message(241, 1)),
        ("/vps/0/plain/queues/0/messages/0", message(300, 1)),
        ("/vps/0/plain/queues/0/messages/0", message(0, 0)),
        ("/vps/0/plain/held_events/0/0", json!(16)),
        ("/vps/0/plain/held_events/0/1", json!(2048)),
        ("/vps/0/plain/rings/0/head", json!(256)),
        ("/vps/0/plain/rings/0/sint", json!(16)),
        ("/vps/0/plain/rings/0/waiting/0", json!(0)),
        ("/vps/0/plain/rings/0/waiting/0", json!(0x100_0000)),
        ("/vps/0/plain/scontrol", json!(18446744073709551616.0)),
    ] {
        let refused = refused(&vm, &with(&state, path, value));
        assert_eq!(refused.as_deref(), Some("json"), "{path}");
    }
}

#[test]
fn counter_that_would_overflow_or_not_balance_is_refused_by_the_name_of_its_sint() {
    let (vm, state) = saved();
    let sint2 = "/vps/0/plain/counters/2";
    let counters = state.pointer(sint2).unwrap();
    let mut paths = Vec::new();
    leaves(counters, sint2, &mut paths);
    assert!(paths.len() > 20, "{paths:?}");
    for path in &paths {
        let refused = refused(&vm, &with(&state, path, json!(u64::MAX)));
        assert_eq!(
            refused.as_deref(),
            Some("vps[0].plain.counters[2]"),
            "{path}"
        );
    }
    for (path, field) in [
        ("messages/posted", ".messages"),
        ("messages/delivered", ".messages"),
        ("messages/waiting", ".messages"),
        ("messages/dropped/full", ".messages"),
        ("ring/rung", ".ring"),
        ("ring/entered", ".ring"),
        ("ring/forgotten", ".ring"),
    ] {
        let refused = refused(&vm, &with(&state, &format!("{sint2}/{path}"), json!(1000)));
        let field = format!("vps[0].plain.counters[2]{field}");
        assert_eq!(refused, Some(field), "{path}");
    }
}

#[test]
fn what_waits_and_is_not_counted_is_refused() {
    let (vm, state) = saved();
    let none = json!([]);
    let refused_for = |path| refused(&vm, &with(&state, path, none.clone()));
    let field = "vps[0].plain.counters[2].messages.waiting".to_owned();
    assert_eq!(refused_for("/vps/0/plain/queues"), Some(field));
    let field = "vps[0].plain.counters[5].ring.waiting".to_owned();
    assert_eq!(refused_for("/vps/0/plain/rings"), Some(field));
}

#[test]
fn state_cut_off_anywhere_is_no_state() {
    let (_vm, state) = saved();
    let text = state.to_string();
    for end in 0..text.len() {
        let cut = text.get(..end).expect("JSON of a state is ASCII");
        assert!(serde_json::from_str::<State>(cut).is_err(), "{end}");
    }
}

#[test]
fn state_of_a_page_that_is_off_may_name_any_address() {
    let (vm, state) = saved();
    let state = with(
        &state,
        "/vps/0/plain/simp",
        json!(0xFFFF_FFFF_FFFF_F000_u64),
    );
    assert_eq!(refused(&vm, &state), None);
}

#[test]
fn manager_that_refused_a_state_is_usable_afterwards() {
    let (vm, good) = saved();
    let bad = with(&good, "/vps/0/plain/rings/0/head", json!(200));
    let [good, bad] = [good, bad].map(|state| serde_json::from_value::<State>(state).unwrap());
    let next = vm.successor(config());
    assert!(next.manager.restore(&bad).is_err());

    // As after a reset: the guest can start anew.
    next.manager.resume();
    next.manager.pre_run(VP);
    let mut guest = next.guest(VP);
    guest.enable_all();
    guest.unmask(SINT, 0xF3);
    let posted = next.manager.post_message(ADDR, &message(7));
    assert_eq!(posted, Ok(Posted::Delivered));
    assert_eq!(guest.take_message(SINT), Some(message(7)));

    // And a good state is taken.
    next.manager.restore(&good).unwrap();
    assert!(next.manager.save().unwrap() == good);
}

#[test]
fn number_replaced_by_an_extreme_one_anywhere_is_refused_or_harmless() {
    let (vm, state) = saved();
    let mut paths = Vec::new();
    leaves(&state, "", &mut paths);
    assert!(paths.len() > 500);
    let mut taken = 0;
    for path in &paths {
        for number in [json!(0), json!(200), json!(u64::MAX)] {
            let Ok(state) = serde_json::from_value::<State>(with(&state, path, number)) else {
                continue;
            };
            let next = vm.successor(config());
            taken += u32::from(next.manager.restore(&state).is_ok());
            next.manager.resume();
            next.manager.pre_run(VP);
            use_it(&next);
            let _ = next.manager.write_msr(VP, 0x4000_0084, 0);
            for vp in next.manager.snapshot().vps {
                assert!(vp.plain.balances(), "{path}");
            }
        }
    }
    assert!(taken > 100, "few states were put to use: {taken}");
}

/// The paths of all numbers.
fn leaves(value: &Value, path: &str, into: &mut Vec<String>) {
    match value {
        Value::Number(_) => into.push(path.into()),
        Value::Array(values) => {
            let values = values.iter().enumerate();
            values.for_each(|(i, value)| leaves(value, &format!("{path}/{i}"), into));
        }
        Value::Object(fields) => {
            let fields = fields.iter();
            fields.for_each(|(name, value)| leaves(value, &format!("{path}/{name}"), into));
        }
        _ => {}
    }
}
