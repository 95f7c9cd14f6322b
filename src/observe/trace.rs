// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! A timeline in the Chrome trace format, for Perfetto and chrome://tracing.
//!
//! Each VP is a process, with a lane for each driver that owns registers, one for registers of
//! nobody, and one for deliveries. A register write is an instant on the lane of its owner; from
//! the write that turned a register on to the one that turned it off is a span. A write that broke
//! a rule is also an event of its own, across all lanes.

use super::{TimelineEvent, TimelineKind};
use crate::abi::{RegisterId, VpIndex};
use crate::ownership::Owner;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::Duration;

/// The last events of each VP, in order of time, and how many earlier ones are lost, by VP.
pub(crate) fn chrome_trace(events: &[TimelineEvent], evicted: &[(VpIndex, u64)]) -> Value {
    let mut trace = Trace {
        start: events.first().map_or(Duration::ZERO, |event| event.at),
        ..Trace::default()
    };
    for (vp, evicted) in evicted {
        trace.name_lanes(*vp, *evicted);
    }
    events.iter().for_each(|event| trace.add(event));
    let end = events.last().map_or(Duration::ZERO, |event| event.at);
    trace.end_spans(end);
    json!({ "displayTimeUnit": "ns", "traceEvents": trace.out })
}

#[derive(Default)]
struct Trace {
    out: Vec<Value>,
    /// When the first event was.
    start: Duration,
    /// Registers that are on, each with the number of its span.
    on: BTreeMap<(VpIndex, RegisterId), u64>,
    spans: u64,
}

/// One row of a VP.
#[derive(Clone, Copy)]
enum Lane {
    VmBus = 1,
    Mshv = 2,
    Nobody = 3,
    Deliveries = 4,
}

impl Lane {
    fn of(owner: Option<Owner>) -> Self {
        match owner {
            Some(Owner::VmBus) => Self::VmBus,
            Some(Owner::Mshv) => Self::Mshv,
            None => Self::Nobody,
        }
    }
}

impl Trace {
    fn name_lanes(&mut self, vp: VpIndex, evicted: u64) {
        let label = match evicted {
            0 => vp.to_string(),
            // Nobody must take a part for the whole.
            evicted => format!("{vp} ({evicted} earlier events are lost)"),
        };
        self.metadata(vp, 0, "process_name", &json!({ "name": label }));
        for (lane, name) in [
            (Lane::VmBus, "vmbus"),
            (Lane::Mshv, "mshv"),
            (Lane::Nobody, "other registers"),
            (Lane::Deliveries, "deliveries"),
        ] {
            let tid = lane as u32;
            self.metadata(vp, tid, "thread_name", &json!({ "name": name }));
            self.metadata(vp, tid, "thread_sort_index", &json!({ "sort_index": tid }));
        }
    }

    fn metadata(&mut self, vp: VpIndex, tid: u32, name: &str, args: &Value) {
        self.out.push(json!({
            "ph": "M", "pid": vp.get(), "tid": tid, "name": name, "args": args,
        }));
    }

    fn add(&mut self, event: &TimelineEvent) {
        let (name, details) = event.describe();
        let lane = match event.kind {
            TimelineKind::Write { owner, .. } => Lane::of(owner),
            _ => Lane::Deliveries,
        };
        let args = json!({ "details": details });
        self.out.push(instant(event, lane, &name, "t", &args));
        self.add_violation(event);
        self.add_span(event);
    }

    fn add_violation(&mut self, event: &TimelineEvent) {
        let TimelineKind::Write {
            owner,
            before,
            value,
            took_effect,
            violation: Some(violation),
            ..
        } = event.kind
        else {
            return;
        };
        let args = json!({
            "vp": event.vp.get(),
            "register": violation.register.to_string(),
            "owner": owner.map(Owner::name),
            "writer": violation.writer.map(Owner::name),
            "victim": violation.victim.map(Owner::name),
            "kind": format!("{:?}", violation.kind),
            "before": format!("{before:#x}"),
            "written": format!("{value:#x}"),
            "took effect": took_effect,
        });
        let name = format!("VIOLATION: {violation}");
        self.out
            .push(instant(event, Lane::of(owner), &name, "g", &args));
    }

    /// A write that took no effect neither begins nor ends one.
    fn add_span(&mut self, event: &TimelineEvent) {
        let TimelineKind::Write {
            register,
            owner,
            before,
            value,
            took_effect: true,
            ..
        } = event.kind
        else {
            return;
        };
        let (was_on, stays_on) = [before, value]
            .map(|value| register.register.is_on(value))
            .into();
        let key = (event.vp, register);
        if was_on && !self.on.contains_key(&key) {
            // Its beginning is not in the timeline.
            self.begin(key, owner, self.start);
        }
        match stays_on {
            true if !self.on.contains_key(&key) => self.begin(key, owner, event.at),
            false => self.end(key, event.at),
            true => {}
        }
    }

    fn begin(&mut self, key: (VpIndex, RegisterId), owner: Option<Owner>, at: Duration) {
        self.spans += 1;
        self.on.insert(key, self.spans);
        let lane = Lane::of(owner);
        self.out.push(span("b", key, self.spans, lane, at));
    }

    fn end(&mut self, key: (VpIndex, RegisterId), at: Duration) {
        if let Some(number) = self.on.remove(&key) {
            self.out.push(span("e", key, number, Lane::Nobody, at));
        }
    }

    fn end_spans(&mut self, at: Duration) {
        let open: Vec<_> = self.on.keys().copied().collect();
        open.into_iter().for_each(|key| self.end(key, at));
    }
}

/// An event without a duration: of its lane, or of all (`scope` "g").
fn instant(event: &TimelineEvent, lane: Lane, name: &str, scope: &str, args: &Value) -> Value {
    json!({
        "ph": "i", "s": scope, "pid": event.vp.get(), "tid": lane as u32, "ts": micros(event.at),
        "cat": if scope == "g" { "violation" } else { "event" }, "name": name, "args": args,
    })
}

/// One end of a span. They overlap, so they are asynchronous events: those have a row each.
fn span(
    end: &str,
    (vp, register): (VpIndex, RegisterId),
    number: u64,
    lane: Lane,
    at: Duration,
) -> Value {
    json!({
        "ph": end, "id": number, "pid": vp.get(), "tid": lane as u32, "ts": micros(at),
        "cat": "register", "name": format!("{register} on"),
    })
}

fn micros(at: Duration) -> f64 {
    at.as_secs_f64() * 1e6
}

#[cfg(test)]
mod tests {
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

    /// Events of a phase: name, time, lane.
    fn phase(events: &[TimelineEvent], phase: &str) -> Vec<(String, f64, u64)> {
        let trace = chrome_trace(events, &[(VP, 0)]);
        let all = trace["traceEvents"].as_array().unwrap().iter();
        all.filter(|event| event["ph"] == phase)
            .map(|event| {
                let name = event["name"].as_str().unwrap().to_owned();
                let time = event["ts"].as_f64().unwrap_or_default();
                (name, time, event["tid"].as_u64().unwrap())
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
        let delivery = TimelineEvent {
            at: Duration::from_micros(2),
            vp: VP,
            kind: TimelineKind::EndOfMessage(Bank::Plain),
        };
        let events = [delivery, write(9, 0x5001, 0)];
        assert_eq!(phase(&events, "b"), [("SIMP on".into(), 2.0, 1)]);
        assert_eq!(phase(&events, "i")[0], ("EOM".into(), 2.0, 4));
        let name = &chrome_trace(&events, &[(VP, 7)])["traceEvents"][0]["args"]["name"];
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
    fn trace_of_nothing_has_no_event() {
        assert_eq!(chrome_trace(&[], &[])["traceEvents"], json!([]));
    }
}
