// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

use super::*;
use crate::abi::{Bank, Register, SintIndex};
use crate::ownership::{Violation, ViolationKind};

const VP: VpIndex = VpIndex::new(1);
const SIMP: RegisterId = RegisterId::plain(Register::Simp);

fn write(at: u64, before: u64, value: u64) -> TimelineEvent {
    TimelineEvent {
        at: Duration::from_micros(at),
        vp: VP,
        kind: TimelineKind::Write {
            register: SIMP,
            owner: Some(Owner::VmBus),
            before,
            value,
            took_effect: true,
            violation: None,
        },
    }
}

/// MSHV disables SIMP under VMBus.
fn violation(at: u64, effect: bool) -> TimelineEvent {
    let mut event = write(at, 0x5001, 0x5000);
    if let TimelineKind::Write {
        took_effect,
        violation,
        ..
    } = &mut event.kind
    {
        *took_effect = effect;
        *violation = Some(Violation {
            kind: ViolationKind::PageDisabled(SintIndex::VMBUS),
            register: SIMP,
            writer: Some(Owner::Mshv),
            victim: Some(Owner::VmBus),
        });
    }
    event
}

fn context(evicted: u64) -> TraceContext {
    TraceContext {
        vp: VP,
        evicted,
        on: Vec::new(),
    }
}

fn event(at: u64, vp: VpIndex, kind: TimelineKind) -> TimelineEvent {
    let at = Duration::from_micros(at);
    TimelineEvent { at, vp, kind }
}

/// Events of a phase: name, time, lane.
fn phase(events: &[TimelineEvent], phase: &str) -> Vec<(String, f64, u64)> {
    let trace = chrome_trace(events, &[context(0)]);
    let all = trace["traceEvents"].as_array().unwrap().iter();
    all.filter(|event| event["ph"] == phase)
        .map(|event| {
            let name = event["name"].as_str().unwrap().to_owned();
            let time = event["ts"].as_f64().unwrap_or_default();
            (name, time, event["tid"].as_u64().unwrap() % LANES)
        })
        .collect()
}

#[test]
fn trace_of_a_register_that_goes_on_and_off_has_a_span_on_its_owners_lane() {
    let events = [write(3, 0, 0x5001), write(9, 0x5001, 0)];
    assert_eq!(phase(&events, "b"), [("SIMP on".into(), 3.0, 1)]);
    assert_eq!(phase(&events, "e")[0].1, 9.0);
    let writes: Vec<_> = phase(&events, "i")
        .into_iter()
        .map(|e| (e.0, e.2))
        .collect();
    assert_eq!(writes, [("SIMP".into(), 1), ("SIMP".into(), 1)]);
}

#[test]
fn trace_that_was_cut_has_a_span_from_its_start_and_says_how_much_is_lost() {
    let eom = TimelineKind::EndOfMessage(Bank::Plain);
    let other = VpIndex::new(2);
    let events = [event(1, other, eom), event(2, VP, eom), write(9, 0x5001, 0)];
    assert_eq!(phase(&events, "b"), [("SIMP on".into(), 2.0, 1)]);
    assert_eq!(phase(&events, "i")[1], ("EOM".into(), 2.0, 4));
    let name = &chrome_trace(&events, &[context(7)])["traceEvents"][0]["args"]["name"];
    assert_eq!(name, "VP 1 (7 earlier events are lost)");
}

#[test]
fn trace_of_a_violation_names_writer_and_victim_across_all_lanes() {
    let trace = chrome_trace(&[violation(5, true)], &[]);
    let events = trace["traceEvents"].as_array().unwrap();
    let found = events.iter().find(|event| event["cat"] == "violation");
    let event = found.unwrap();
    let name = "VIOLATION: mshv disabled SIMP while SINT2 of vmbus is unmasked";
    assert_eq!((&event["name"], &event["s"]), (&json!(name), &json!("g")));
    let args = &event["args"];
    let who = [&args["writer"], &args["victim"], &args["owner"]];
    assert_eq!(who, [&json!("mshv"), &json!("vmbus"), &json!("vmbus")]);
    assert_eq!(args["kind"], json!({ "PageDisabled": 2 }));
    assert_eq!(
        (&args["vp"], &args["took effect"]),
        (&json!(1), &json!(true))
    );
}

#[test]
fn trace_of_a_write_that_took_no_effect_leaves_the_span_open_to_the_end() {
    let events = [
        write(1, 0, 0x5001),
        violation(5, false),
        write(8, 0x5001, 0x5001),
    ];
    assert_eq!(phase(&events, "b").len(), 1);
    assert_eq!(phase(&events, "e"), [("SIMP on".into(), 8.0, 3)]);
}

#[test]
fn trace_of_a_register_that_stays_on_unwritten_has_a_span_all_the_way() {
    let events = [3, 8].map(|at| event(at, VP, TimelineKind::EndOfMessage(Bank::Plain)));
    let mut vp = context(5);
    vp.on = vec![(SIMP, Some(Owner::VmBus))];
    let trace = chrome_trace(&events, &[vp]);
    let all = trace["traceEvents"].as_array().unwrap().iter();
    let spans = all.filter(|event| event["cat"] == "register");
    let spans: Vec<_> = spans.map(|event| (&event["ph"], &event["ts"])).collect();
    let expected = [(&json!("b"), &json!(3.0)), (&json!("e"), &json!(8.0))];
    assert_eq!(spans, expected);
}

#[test]
fn trace_of_a_reset_ends_the_spans_of_its_vp_alone() {
    let other = VpIndex::new(2);
    let mut elsewhere = write(2, 0, 0x6001);
    elsewhere.vp = other;
    let events = [
        write(1, 0, 0x5001),
        elsewhere,
        event(4, VP, TimelineKind::Reset),
        write(6, 0, 0x5001),
    ];
    let ends: Vec<_> = phase(&events, "e").into_iter().map(|end| end.1).collect();
    assert_eq!(ends, [4.0, 6.0, 6.0]);
}

#[test]
fn trace_of_nothing_has_no_event() {
    assert_eq!(chrome_trace(&[], &[])["traceEvents"], json!([]));
}
