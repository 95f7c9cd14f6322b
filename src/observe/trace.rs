// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! A timeline in the Chrome trace format, for Perfetto and chrome://tracing.
//!
//! Each VP is a process, with a lane for each driver that owns registers, one for registers of
//! nobody, and one for deliveries. A register write is an instant on the lane of its owner; from
//! the write that turned a register on to the one that turned it off is a span. A write that broke
//! a rule is also an event of its own, across all lanes. A span whose beginning is not kept begins
//! with the first event of its VP that is.

use super::{TimelineEvent, TimelineKind};
use crate::abi::{RegisterId, VpIndex};
use crate::ownership::Owner;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::Duration;

/// What the events of a VP do not tell.
#[derive(Clone, Debug)]
pub(crate) struct TraceContext {
    pub vp: VpIndex,
    /// How many events are no longer kept.
    pub evicted: u64,
    /// The registers that are on now, with their owners.
    pub on: Vec<(RegisterId, Option<Owner>)>,
}

/// The last events of all VPs, in order of time.
pub(crate) fn chrome_trace(events: &[TimelineEvent], vps: &[TraceContext]) -> Value {
    let mut trace = Trace::default();
    for vp in vps {
        trace.name_lanes(vp.vp, vp.evicted);
    }
    events.iter().for_each(|event| trace.add(event));
    for vp in vps {
        vp.on
            .iter()
            .for_each(|(id, owner)| trace.was_on((vp.vp, *id), *owner));
    }
    let end = events.last().map_or(Duration::ZERO, |event| event.at);
    trace.end_spans(end);
    json!({ "displayTimeUnit": "ns", "traceEvents": trace.out })
}

#[derive(Default)]
struct Trace {
    out: Vec<Value>,
    /// From when on a VP's events are kept, or when it was reset last.
    since: BTreeMap<VpIndex, Duration>,
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

    /// Viewers take threads of the same number for one, whatever their processes.
    fn tid(self, vp: VpIndex) -> u64 {
        pid(vp) * LANES + self as u64
    }
}

/// Process 0 is the idle task to viewers.
fn pid(vp: VpIndex) -> u64 {
    u64::from(vp.get()) + 1
}

const LANES: u64 = 8;

impl Trace {
    fn name_lanes(&mut self, vp: VpIndex, evicted: u64) {
        let label = match evicted {
            0 => vp.to_string(),
            // Nobody must take a part for the whole.
            evicted => format!("{vp} ({evicted} earlier events are lost)"),
        };
        self.metadata(
            vp,
            Lane::VmBus.tid(vp),
            "process_name",
            &json!({ "name": label }),
        );
        for (lane, name) in [
            (Lane::VmBus, "vmbus"),
            (Lane::Mshv, "mshv"),
            (Lane::Nobody, "other registers"),
            (Lane::Deliveries, "deliveries"),
        ] {
            let tid = lane.tid(vp);
            self.metadata(vp, tid, "thread_name", &json!({ "name": name }));
            self.metadata(vp, tid, "thread_sort_index", &json!({ "sort_index": tid }));
        }
    }

    fn metadata(&mut self, vp: VpIndex, tid: u64, name: &str, args: &Value) {
        self.out.push(json!({
            "ph": "M", "pid": pid(vp), "tid": tid, "name": name, "args": args,
        }));
    }

    fn add(&mut self, event: &TimelineEvent) {
        self.since.entry(event.vp).or_insert(event.at);
        let (name, details) = event.describe();
        let lane = match event.kind {
            TimelineKind::Write { owner, .. } => Lane::of(owner),
            _ => Lane::Deliveries,
        };
        let args = json!({ "details": details });
        self.out.push(instant(event, lane, &name, "t", &args));
        self.add_violation(event);
        self.add_span(event);
        if event.kind == TimelineKind::Reset {
            self.since.insert(event.vp, event.at);
            let of_vp = |(vp, _): &&(VpIndex, RegisterId)| *vp == event.vp;
            let on: Vec<_> = self.on.keys().filter(of_vp).copied().collect();
            on.into_iter().for_each(|key| self.end(key, event.at));
        }
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
            "kind": violation.kind,
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
        if was_on {
            self.was_on(key, owner);
        }
        match stays_on {
            true if !self.on.contains_key(&key) => self.begin(key, owner, event.at),
            false => self.end(key, event.at),
            true => {}
        }
    }

    /// Begins a span, unless its beginning is in the timeline.
    fn was_on(&mut self, key: (VpIndex, RegisterId), owner: Option<Owner>) {
        if !self.on.contains_key(&key) {
            let since = self.since.get(&key.0).copied().unwrap_or_default();
            self.begin(key, owner, since);
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
        "ph": "i", "s": scope, "pid": pid(event.vp), "tid": lane.tid(event.vp),
        "ts": micros(event.at),
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
        "ph": end, "id": number, "pid": pid(vp), "tid": lane.tid(vp), "ts": micros(at),
        "cat": "register", "name": format!("{register} on"),
    })
}

fn micros(at: Duration) -> f64 {
    at.as_secs_f64() * 1e6
}

#[cfg(test)]
mod tests;
