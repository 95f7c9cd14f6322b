// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! A state in the one form that all have which say the same.

use serde_json::Value;
use vm_synic::Provider;
use vm_synic::state::{LedgerState, State, SynicState, TimerState};
use vm_synic::{RingCounters, SintCounters, TimerCounters};

/// Where two states do not say the same.
pub fn difference(one: &State, other: &State) -> Option<String> {
    let [one, other] = [one, other].map(|state| serde_json::to_value(normal(state)));
    let states = one.ok().zip(other.ok());
    let (one, other) = states.expect("a state has no maps");
    let place = place_of_difference(&one, &other)?;
    let values = [one, other].map(|state| state.pointer(&place).cloned());
    Some(format!("{place}: {values:?}"))
}

fn place_of_difference(one: &Value, other: &Value) -> Option<String> {
    let inside = |name: String, one, other| {
        let place = place_of_difference(one, other);
        place.map(|place| format!("/{name}{place}"))
    };
    match (one, other) {
        (Value::Array(ones), Value::Array(others)) if ones.len() == others.len() => {
            let pairs = ones.iter().zip(others).enumerate();
            pairs
                .into_iter()
                .find_map(|(at, (one, other))| inside(at.to_string(), one, other))
        }
        (Value::Object(ones), Value::Object(others)) => {
            let pairs = ones.iter().zip(others.values());
            pairs
                .into_iter()
                .find_map(|((name, one), other)| inside(name.clone(), one, other))
        }
        _ => (one != other).then(String::new),
    }
}

/// Everything in order, and without what is as good as nothing. The ledger is left out: how much of
/// it a manager keeps is its own affair, and so is who has a hypercall page that is off.
fn normal(state: &State) -> State {
    let mut state = state.clone();
    state.hypercall_page = Provider::Manager;
    state.vps.sort_by_key(|vp| vp.index);
    for vp in &mut state.vps {
        vp.ledger = LedgerState::default();
        normalize(&mut vp.plain);
        vp.nested.iter_mut().for_each(normalize);
        // A state without it goes into a manager that has it, too.
        vp.nested.take_if(|nested| *nested == unused());
    }
    state.guest_ports.sort_by_key(|port| port.id);
    (state.guest_connections).sort_by_key(|connection| (connection.child, connection.id));
    state
}

fn normalize(synic: &mut SynicState) {
    synic.queues.sort_by_key(|queue| queue.sint);
    (synic.queues).retain(|queue| queue.has_refused || !queue.messages.is_empty());
    synic.held_events.sort();
    synic.held_events.dedup();
    synic.rings.sort_by_key(|ring| ring.sint);
    synic.timers.sort_by_key(|timer| timer.index.get());
    synic.timers.retain(is_used);
    for (sint, counters) in synic.counters.iter_mut().enumerate() {
        // Counts of a ring go where the ring is, and what is held is counted where it is.
        if !synic.rings.iter().any(|ring| ring.sint.index() == sint) {
            counters.ring = RingCounters {
                waiting: counters.ring.waiting,
                ..RingCounters::default()
            };
        }
        let held = synic.held_events.iter();
        let held = held.filter(|(of, _)| of.index() == sint).count();
        counters.events.held = held as u64;
    }
}

fn is_used(timer: &TimerState) -> bool {
    let is_set = (timer.config, timer.count, timer.expiration) != (0, 0, None);
    is_set || timer.counters != TimerCounters::default()
}

/// As after power-on.
fn unused() -> SynicState {
    SynicState {
        scontrol: 0,
        siefp: 0,
        simp: 0,
        sirbp: 0,
        sints: vec![MASKED; 16],
        queues: Vec::new(),
        held_events: Vec::new(),
        rings: Vec::new(),
        rings_abandoned: false,
        timers: Vec::new(),
        counters: vec![SintCounters::default(); 16],
        eoms: 0,
    }
}

const MASKED: u64 = 1 << 16;
