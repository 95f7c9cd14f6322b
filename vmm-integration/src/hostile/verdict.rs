// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! What must be true after an attack.

use std::time::Duration;

use vm_synic::{SintIndex, Snapshot};

use super::attack::{Growth, Outcome, Witness};

/// Everything that is not as it must be.
pub fn of(outcome: &Outcome) -> Vec<String> {
    let mut failures = of_witness(&outcome.witness);
    failures.extend(of_memory(outcome.memory));
    failures.extend(of_log(outcome.log_lines));
    failures.extend(of_counters(&outcome.snapshot));
    failures
}

/// Messages delivered to SINT2, flags set there, and entries of the doorbell ring that the VP was
/// left with.
pub fn delivered(snapshot: &Snapshot, vp: u32) -> [u64; 3] {
    let vp = snapshot.vps.iter().find(|found| found.index.get() == vp);
    let Some(vp) = vp else {
        return [0; 3];
    };
    let vmbus = vp.plain.counters(SintIndex::VMBUS);
    let ring = vp.plain.counters(SintIndex::DOORBELL).ring;
    [
        vmbus.messages.delivered,
        vmbus.events.fresh,
        ring.entered.saturating_sub(ring.reclaimed),
    ]
}

fn of_witness(witness: &Witness) -> Vec<String> {
    let Witness {
        sent,
        guest,
        received,
        manager: [delivered, set, entered],
    } = witness;
    let equal = [
        ("messages, sent and delivered", sent.messages, *delivered),
        (
            "messages, sent and seen",
            sent.messages,
            guest.messages_seen,
        ),
        ("flags, sent and set", sent.flags, *set),
        ("flags, sent and seen", sent.flags, guest.flags_seen),
        ("doorbells, rung and entered", sent.rings, *entered),
        ("doorbells, rung and seen", sent.rings, guest.rings_seen),
    ];
    let mut failures: Vec<_> = equal
        .iter()
        .filter(|(_, a, b)| a != b)
        .map(|(what, a, b)| format!("The witness's {what}: {a} and {b}"))
        .collect();
    // It goes on sending while this is counted.
    if received.messages < guest.messages_sent || received.flags < guest.flags_sent {
        failures.push(format!(
            "The witness sent {} messages and {} flags; {} and {} arrived",
            guest.messages_sent, guest.flags_sent, received.messages, received.flags
        ));
    }
    if [sent.messages, sent.flags, sent.rings, received.messages].contains(&0) {
        failures.push("The witness was not tested".into());
    }
    if sent.longest_wait > LONGEST_WAIT {
        let wait = sent.longest_wait.as_millis();
        failures.push(format!("The witness saw nothing for {wait} ms"));
    }
    failures
}

fn of_memory(memory: Growth) -> Option<String> {
    let grown = memory.end.saturating_sub(memory.warm);
    (grown > GROWTH).then(|| format!("This process grew by {} KiB", grown >> 10))
}

fn of_log(lines: u64) -> Option<String> {
    (lines > LOG_LINES).then(|| format!("The guest caused {lines} lines of log"))
}

/// The SINTs whose messages or doorbells are not all accounted for.
pub fn of_counters(snapshot: &Snapshot) -> impl Iterator<Item = String> {
    snapshot.vps.iter().flat_map(|vp| {
        let banks = std::iter::once(&vp.plain).chain(&vp.nested);
        let sints = banks.flat_map(|bank| SintIndex::all().zip(&bank.counters));
        let wrong = sints.filter(|(_, c)| !(c.messages.balances() && c.ring.balances()));
        wrong.map(move |(sint, counters)| {
            format!(
                "The counters of {sint} of {} do not balance: {counters:?}",
                vp.index
            )
        })
    })
}

/// Resident memory may grow by this much after the warm-up: allocator slack, and stacks that
/// reach a page further. One small allocation leaked per exit is several times as much in a minute.
pub const GROWTH: u64 = 2 << 20;
/// For all that happens in one attack.
pub const LOG_LINES: u64 = 64;
/// For a VP that shares a CPU with several fuzzers.
const LONGEST_WAIT: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo::guest::Account;
    use crate::demo::inbound::Received;
    use crate::hostile::sender::Sent;

    fn witness() -> Witness {
        Witness {
            sent: Sent {
                messages: 5,
                flags: 6,
                rings: 7,
                ..Sent::default()
            },
            guest: Account {
                messages_seen: 5,
                flags_seen: 6,
                rings_seen: 7,
                messages_sent: 5,
                flags_sent: 5,
                ..Account::default()
            },
            received: Received {
                messages: 5,
                flags: 5,
                ..Received::default()
            },
            manager: [5, 6, 7],
        }
    }

    fn failures_after(change: impl FnOnce(&mut Witness)) -> Vec<String> {
        let mut witness = witness();
        change(&mut witness);
        of_witness(&witness)
    }

    #[test]
    fn of_witness_when_all_was_seen_is_content() {
        assert_eq!(failures_after(|_| ()), [""; 0]);
    }

    #[test]
    fn of_witness_when_something_is_missing_says_what() {
        let lost = failures_after(|witness| witness.guest.rings_seen = 6);
        assert_eq!(lost, ["The witness's doorbells, rung and seen: 7 and 6"]);
        let unset = failures_after(|witness| witness.manager[1] = 5);
        assert_eq!(unset, ["The witness's flags, sent and set: 6 and 5"]);
        assert_eq!(
            failures_after(|witness| witness.received.flags = 4).len(),
            1
        );
    }

    #[test]
    fn of_witness_when_nothing_was_sent_is_not_content() {
        assert_eq!(
            of_witness(&Witness::default()),
            ["The witness was not tested"]
        );
    }

    #[test]
    fn of_witness_when_it_waited_long_says_how_long() {
        let late = failures_after(|witness| witness.sent.longest_wait = Duration::from_secs(6));
        assert_eq!(late, ["The witness saw nothing for 6000 ms"]);
    }

    #[test]
    fn of_memory_and_of_log_when_over_the_bound_say_so() {
        let grown = |by| {
            of_memory(Growth {
                warm: 1,
                end: 1 + by,
            })
        };
        assert_eq!((grown(GROWTH), of_log(LOG_LINES)), (None, None));
        assert!(grown(GROWTH + 1).is_some() && of_log(LOG_LINES + 1).is_some());
    }
}
