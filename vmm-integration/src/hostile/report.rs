// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! The account of an attack, for people and for programs.

use serde_json::{Value, json};

use super::attack::Outcome;
use super::counts::Counts;
use super::verdict::{GROWTH, LOG_LINES};

/// As one JSON object.
pub fn json(outcome: &Outcome) -> Value {
    json!({
        "ok": outcome.failures.is_empty(),
        "seed": outcome.seed,
        "backend": outcome.backend.to_string(),
        "irqchip": outcome.irqchip.to_string(),
        "seconds": outcome.elapsed.as_secs_f64(),
        "failures": outcome.failures,
        "guest": total(outcome),
        "vps": outcome.counts,
        "host": outcome.meddled,
        "witness": {
            "sent": outcome.witness.sent,
            "guest": outcome.witness.guest,
            "received": outcome.witness.received,
            "longest_wait_ms": longest_wait_ms(outcome),
        },
        "memory": {
            "warm_bytes": outcome.memory.warm,
            "end_bytes": outcome.memory.end,
            "bound_bytes": GROWTH,
        },
        "log_lines": outcome.log_lines,
        "synic": outcome.snapshot.to_json(),
    })
}

/// As lines and a verdict.
pub fn text(outcome: &Outcome) -> String {
    let lines = [headline(outcome), guest(outcome), host(outcome)];
    let lines = lines
        .into_iter()
        .chain([witness(outcome), process(outcome)]);
    let verdict = match outcome.failures.as_slice() {
        [] => vec!["OK: alive, flat, and the witness missed nothing".to_owned()],
        failures => failures.iter().map(|f| format!("FAILED: {f}")).collect(),
    };
    lines.chain(verdict).collect::<Vec<_>>().join("\n")
}

fn headline(outcome: &Outcome) -> String {
    format!(
        "{} VPs, backend {}, irqchip {}, seed {}: {:.1} s",
        outcome.vcpus,
        outcome.backend,
        outcome.irqchip,
        outcome.seed,
        outcome.elapsed.as_secs_f64(),
    )
}

fn guest(outcome: &Outcome) -> String {
    let all = total(outcome);
    let statuses = all.statuses.iter();
    let statuses: Vec<_> = statuses.map(|(s, n)| format!("{n} x {s:#x}")).collect();
    format!(
        "Guest: {} MSR reads, {} MSR writes ({} to timers), {} #GP, {} EOMs in storms, {} words of \
         pages, {} doorbells, {} IPIs, {} local APIC resets, {} interrupts taken\n\
         Hypercalls by status: {}; {} unanswered",
        all.msr_reads,
        all.msr_writes,
        all.timer_writes,
        all.msr_faults,
        all.eoms,
        all.page_words,
        all.doorbells,
        all.ipis,
        all.apic_resets,
        all.interrupts,
        statuses.join(", "),
        all.calls_unanswered,
    )
}

fn host(outcome: &Outcome) -> String {
    let done = &outcome.meddled;
    format!(
        "Host: {} messages ({} accepted), {} events ({} accepted), {} doorbells, {} registrations, \
         {} snapshots, {} saves",
        done.posts,
        done.posts_accepted,
        done.signals,
        done.signals_accepted,
        done.rings,
        done.registrations,
        done.snapshots,
        done.saves,
    )
}

fn witness(outcome: &Outcome) -> String {
    let witness = &outcome.witness;
    format!(
        "Witness: saw {} of {} messages, {} of {} flags, {} of {} doorbells, each in its turn; sent \
         {} messages, {} flags, {} doorbells; waited {} ms at most",
        witness.guest.messages_seen,
        witness.sent.messages,
        witness.guest.flags_seen,
        witness.sent.flags,
        witness.guest.rings_seen,
        witness.sent.rings,
        witness.received.messages,
        witness.received.flags,
        witness.received.doorbells,
        longest_wait_ms(outcome),
    )
}

fn process(outcome: &Outcome) -> String {
    format!(
        "Process: {} KiB resident after the warm-up, {} KiB at the end (growth bound {} KiB), {} \
         lines of log (bound {LOG_LINES})",
        outcome.memory.warm >> 10,
        outcome.memory.end >> 10,
        GROWTH >> 10,
        outcome.log_lines,
    )
}

fn total(outcome: &Outcome) -> Counts {
    let counts = outcome.counts.iter();
    counts.fold(Counts::default(), |sum, counts| sum.plus(counts))
}

fn longest_wait_ms(outcome: &Outcome) -> u128 {
    outcome.witness.sent.longest_wait.as_millis()
}
