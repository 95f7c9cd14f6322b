// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! The account of the demo, for people and for programs.

use std::fmt::Write;

use comfy_table::TableComponent::{
    HorizontalLines, LeftBorderIntersections, MiddleIntersections, RightBorderIntersections,
};
use comfy_table::{CellAlignment, Table, presets};
use serde_json::{Value, json};
use vm_synic::{EventCounters, RingCounters, SintCounters, SintIndex};

use super::latency::Percentiles;
use super::ownership;
use super::play::{Outcome, VpOutcome};

/// As one JSON object.
pub fn json(outcome: &Outcome) -> Value {
    json!({
        "ok": outcome.faults.is_empty(),
        "seconds": outcome.elapsed.as_secs_f64(),
        "backend": outcome.backend.to_string(),
        "plan": outcome.plan,
        "messages": outcome.messages(),
        "flags": outcome.flags(),
        "doorbells": outcome.doorbells(),
        "stalled": outcome.stalled,
        "faults": outcome.faults,
        "vps": outcome.vps.iter().map(vp_json).collect::<Vec<_>>(),
        "latency_ns": {
            "direct": outcome.latency.direct,
            "queued": outcome.latency.queued,
        },
        "ownership": ownership::timeline(&outcome.snapshot),
        "synic": outcome.snapshot.to_json(),
    })
}

/// As tables and a verdict.
pub fn text(outcome: &Outcome) -> String {
    let sections = [
        (
            "Host to guest: the manager's account, and what the guest handled",
            to_guest(outcome),
        ),
        (
            "Guest to host: the guest's account, and what arrived",
            to_host(outcome),
        ),
        (
            "Who wrote the registers",
            ownership::timeline(&outcome.snapshot).join("\n"),
        ),
        (
            "Message latency from post to interrupt handler",
            latency(outcome),
        ),
    ];
    let mut text = headline(outcome);
    for (title, body) in sections {
        // Writing to a String cannot fail.
        let _ = write!(text, "\n\n{title}\n{body}");
    }
    text + "\n\n" + &verdict(outcome)
}

fn vp_json(vp: &VpOutcome) -> Value {
    json!({
        "vp": vp.vp,
        "sent": {
            "messages": vp.sent.messages,
            "queued": vp.sent.queued,
            "refused": vp.sent.refused,
            "flags": vp.sent.flags,
        },
        "received": vp.received,
        "guest": vp.guest,
    })
}

fn headline(outcome: &Outcome) -> String {
    format!(
        "{} VPs, backend {}: {} messages, {} event flags, {} doorbells in {:.1} s",
        outcome.plan.vps,
        outcome.backend,
        outcome.messages(),
        outcome.flags(),
        outcome.doorbells(),
        outcome.elapsed.as_secs_f64(),
    )
}

fn to_guest(outcome: &Outcome) -> String {
    let mut table = table("VP SINT what sent delivered queued coalesced handled interrupts EOMs");
    for vp in &outcome.vps {
        for row in vp_rows(vp, |sint| outcome.counters(vp.vp, sint)) {
            table.add_row(row);
        }
    }
    table.to_string()
}

/// Interrupts and EOMs stand in the first row of their SINT.
fn vp_rows(vp: &VpOutcome, counters: impl Fn(SintIndex) -> SintCounters) -> [Vec<String>; 4] {
    let row = |sint: SintIndex, what: &str, numbers: &[u64]| {
        let names = [vp.vp.to_string(), sint.get().to_string(), what.into()];
        let numbers = numbers.iter().map(u64::to_string);
        names.into_iter().chain(numbers).collect()
    };
    let intercept = counters(SintIndex::INTERCEPT);
    let vmbus = counters(SintIndex::VMBUS);
    let doorbell = counters(SintIndex::DOORBELL);
    [
        row(SintIndex::INTERCEPT, "notices", &notices(&intercept, vp)),
        row(SintIndex::VMBUS, "messages", &messages(&vmbus, vp)),
        row(SintIndex::VMBUS, "flags", &flags(&vmbus.events, vp)),
        row(
            SintIndex::DOORBELL,
            "doorbells",
            &entries(&doorbell.ring, vp),
        ),
    ]
}

/// Those that had to wait are those that an EOM brought.
fn notices(sint: &SintCounters, vp: &VpOutcome) -> [u64; 7] {
    [
        sint.messages.posted,
        sint.messages.delivered,
        sint.messages.redelivered,
        0,
        vp.guest.notifications,
        sint.interrupts.raised,
        vp.guest.eoms_intercept,
    ]
}

fn messages(sint: &SintCounters, vp: &VpOutcome) -> [u64; 7] {
    [
        vp.sent.messages,
        sint.messages.delivered,
        sint.messages.queued,
        0,
        vp.guest.messages_seen,
        sint.interrupts.raised,
        vp.guest.eoms_vmbus,
    ]
}

fn flags(flags: &EventCounters, vp: &VpOutcome) -> [u64; 5] {
    [
        vp.sent.flags,
        flags.fresh,
        flags.held,
        flags.coalesced,
        vp.guest.flags_seen,
    ]
}

fn entries(ring: &RingCounters, vp: &VpOutcome) -> [u64; 5] {
    [
        ring.rung,
        ring.entered.saturating_sub(ring.reclaimed),
        ring.held,
        ring.coalesced,
        vp.guest.rings_seen,
    ]
}

fn to_host(outcome: &Outcome) -> String {
    let mut table = table("VP messages arrived refused flags arrived doorbells arrived");
    for vp in &outcome.vps {
        let (guest, received) = (&vp.guest, &vp.received);
        table.add_row([
            vp.vp.into(),
            guest.messages_sent,
            received.messages,
            received.refused,
            guest.flags_sent,
            received.flags,
            guest.vmm_rings_sent,
            received.doorbells,
        ]);
    }
    table.to_string()
}

fn latency(outcome: &Outcome) -> String {
    let rows = [
        ("slot free", outcome.latency.direct),
        ("queued", outcome.latency.queued),
    ];
    let mut table = table("µs samples p50 p90 p99 max");
    for (name, percentiles) in rows {
        if let Some(percentiles) = percentiles {
            table.add_row(latency_row(name, &percentiles));
        }
    }
    match table.is_empty() {
        true => {
            "not measured: no message was seen, or this KVM cannot give the guest the host's TSC"
                .into()
        }
        false => table.to_string(),
    }
}

fn latency_row(name: &str, percentiles: &Percentiles) -> [String; 6] {
    let Percentiles {
        samples,
        p50,
        p90,
        p99,
        max,
    } = *percentiles;
    let [p50, p90, p99, max] =
        [p50, p90, p99, max].map(|nanoseconds| format!("{:.1}", nanoseconds as f64 / 1e3));
    [name.into(), samples.to_string(), p50, p90, p99, max]
}

fn verdict(outcome: &Outcome) -> String {
    if outcome.faults.is_empty() {
        return "OK: nothing lost, duplicated, reordered or misrouted".into();
    }
    let faults = outcome
        .faults
        .iter()
        .map(|fault| format!("FAILED: {fault}"));
    faults.collect::<Vec<_>>().join("\n")
}

/// An empty table with these column titles; numbers are aligned by their last digit.
fn table(titles: &str) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::UTF8_HORIZONTAL_ONLY);
    for line in [
        HorizontalLines,
        LeftBorderIntersections,
        MiddleIntersections,
        RightBorderIntersections,
    ] {
        table.remove_style(line);
    }
    table.set_header(titles.split(' '));
    for column in table.column_iter_mut() {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}
