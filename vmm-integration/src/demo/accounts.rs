// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! The totals: what was sent must be what was seen, for each VP and each kind.

use super::fault::{Fault, Kind, What};
use super::guest::Account;
use super::inbound::Received;
use super::plan::Plan;
use super::protocol::{RING_REPEATS, STATE_DONE};

/// Everything that is known of one VP's traffic at the end.
#[derive(Clone, Copy, Debug, Default)]
pub struct Totals {
    pub vp: u32,
    pub guest: Account,
    pub sent: SentTotals,
    pub received: Received,
    /// What the manager counted.
    pub manager: ManagerTotals,
}

/// What the host sent.
#[derive(Clone, Copy, Debug, Default)]
pub struct SentTotals {
    pub messages: u64,
    pub flags: u64,
}

/// The manager's own account of a VP.
#[derive(Clone, Copy, Debug, Default)]
pub struct ManagerTotals {
    /// The ring's doorbells.
    pub rung: u64,
    /// Ring entries that the guest was left with: written and not taken back.
    pub entered: u64,
    /// Rings of a port that already waited.
    pub coalesced: u64,
    /// `None` where KVM takes the guest's EOMs and the manager does not see them.
    pub eoms: Option<u64>,
    /// Register writes that broke an ownership rule.
    pub violations: u64,
}

/// Every total that differs from the plan. It tells what is missing when the guest hangs, too.
pub fn check(plan: &Plan, totals: &Totals) -> Vec<Fault> {
    let groups = [
        (Some(2), to_guest(plan, totals).to_vec()),
        (None, from_guest(plan, totals).to_vec()),
        (Some(5), in_ring(plan, totals).to_vec()),
        (None, of_drivers(totals).to_vec()),
    ];
    let rows = groups
        .into_iter()
        .flat_map(|(sint, rows)| rows.into_iter().map(move |row| (sint, row)));
    rows.filter(|(_, row)| row.expected != row.got)
        .map(|(sint, row)| row.fault(totals.vp, sint))
        .collect()
}

/// Two numbers that must be the same.
#[derive(Clone, Copy)]
struct Row {
    what: What,
    expected: u64,
    got: u64,
}

fn to_guest(plan: &Plan, totals: &Totals) -> [Row; 4] {
    let Totals { guest, sent, .. } = totals;
    [
        row(What::Message, plan.messages, sent.messages),
        row(What::Message, sent.messages, guest.messages_seen),
        row(What::EventFlag, plan.flags, sent.flags),
        row(What::EventFlag, sent.flags, guest.flags_seen),
    ]
}

fn from_guest(plan: &Plan, totals: &Totals) -> [Row; 7] {
    let (guest, arrived) = (&totals.guest, &totals.received);
    [
        row(What::Message, plan.messages, guest.messages_sent),
        row(What::Message, guest.messages_sent, arrived.messages),
        row(What::Refusal, arrived.refused, guest.messages_refused),
        row(What::EventFlag, plan.flags, guest.flags_sent),
        row(What::EventFlag, guest.flags_sent, arrived.flags),
        row(What::VmmDoorbell, plan.vmm_rings, guest.vmm_rings_sent),
        row(What::VmmDoorbell, guest.vmm_rings_sent, arrived.doorbells),
    ]
}

fn in_ring(plan: &Plan, totals: &Totals) -> [Row; 4] {
    let (guest, manager) = (&totals.guest, &totals.manager);
    let entries = plan.ring_entries();
    [
        row(What::Doorbell, entries + RING_REPEATS, manager.rung),
        row(What::Coalesced, RING_REPEATS, manager.coalesced),
        row(What::RingEntry, entries, manager.entered),
        row(What::RingEntry, manager.entered, guest.rings_seen),
    ]
}

fn of_drivers(totals: &Totals) -> [Row; 4] {
    let (guest, manager) = (&totals.guest, &totals.manager);
    let eoms = guest.eoms_intercept.saturating_add(guest.eoms_vmbus);
    [
        row(What::Eom, eoms, manager.eoms.unwrap_or(eoms)),
        row(What::OwnershipViolation, 0, manager.violations),
        row(What::MshvInit, 2, guest.mshv_inits),
        row(What::FinalState, STATE_DONE, guest.state),
    ]
}

fn row(what: What, expected: u64, got: u64) -> Row {
    Row {
        what,
        expected,
        got,
    }
}

impl Row {
    fn fault(self, vp: u32, sint: Option<u8>) -> Fault {
        let Self {
            what,
            expected,
            got,
        } = self;
        Fault {
            vp,
            sint,
            what,
            kind: kind(expected, got),
            expected,
            got,
        }
    }
}

fn kind(expected: u64, got: u64) -> Kind {
    if got < expected {
        Kind::Missing
    } else {
        Kind::Surplus
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan() -> Plan {
        Plan::new(2, 1_000).unwrap()
    }

    fn right() -> Totals {
        let plan = plan();
        Totals {
            vp: 1,
            guest: guest(&plan),
            sent: SentTotals {
                messages: plan.messages,
                flags: plan.flags,
            },
            received: Received {
                messages: plan.messages,
                refused: 0,
                flags: plan.flags,
                doorbells: plan.vmm_rings,
            },
            manager: ManagerTotals {
                rung: plan.ring_entries() + RING_REPEATS,
                entered: plan.ring_entries(),
                coalesced: RING_REPEATS,
                ..Default::default()
            },
        }
    }

    fn guest(plan: &Plan) -> Account {
        Account {
            state: STATE_DONE,
            messages_seen: plan.messages,
            messages_sent: plan.messages,
            flags_seen: plan.flags,
            flags_sent: plan.flags,
            rings_seen: plan.ring_entries(),
            vmm_rings_sent: plan.vmm_rings,
            mshv_inits: 2,
            ..Default::default()
        }
    }

    /// The faults after `change` made one total wrong.
    fn faults(change: impl FnOnce(&mut Totals)) -> Vec<(What, Option<u8>, Kind)> {
        let mut totals = right();
        change(&mut totals);
        let faults = check(&plan(), &totals);
        faults.iter().map(|f| (f.what, f.sint, f.kind)).collect()
    }

    #[test]
    fn check_when_all_totals_agree_finds_nothing() {
        assert_eq!(faults(|_| ()), []);
    }

    #[test]
    fn check_when_the_last_message_was_lost_says_so() {
        let lost = faults(|t| t.guest.messages_seen -= 1);
        assert_eq!(lost, [(What::Message, Some(2), Kind::Missing)]);
    }

    #[test]
    fn check_when_a_flag_came_once_too_often_says_so() {
        let twice = faults(|t| t.guest.flags_seen += 1);
        assert_eq!(twice, [(What::EventFlag, Some(2), Kind::Surplus)]);
    }

    #[test]
    fn check_when_a_ring_entry_was_lost_says_so() {
        let lost = faults(|t| t.guest.rings_seen -= 1);
        assert_eq!(lost, [(What::RingEntry, Some(5), Kind::Missing)]);
    }

    #[test]
    fn check_when_a_doorbell_was_coalesced_that_should_not_be_says_so() {
        let coalesced = faults(|t| t.manager.coalesced += 1);
        assert_eq!(coalesced, [(What::Coalesced, Some(5), Kind::Surplus)]);
    }

    #[test]
    fn check_when_an_ownership_rule_was_broken_says_so() {
        let broken = faults(|t| t.manager.violations = 1);
        assert_eq!(broken, [(What::OwnershipViolation, None, Kind::Surplus)]);
    }

    #[test]
    fn check_when_the_event_loop_missed_a_doorbell_says_so() {
        let missed = faults(|t| t.received.doorbells -= 1);
        assert_eq!(missed, [(What::VmmDoorbell, None, Kind::Missing)]);
    }

    #[test]
    fn check_when_a_guest_message_was_lost_says_so() {
        let lost = faults(|t| t.received.messages -= 1);
        assert_eq!(lost, [(What::Message, None, Kind::Missing)]);
    }
}
