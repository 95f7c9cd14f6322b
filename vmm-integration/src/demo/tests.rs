// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! The whole demo on /dev/kvm, also with a host that sends what it should not.

use std::io::{Write, stderr};
use std::time::Duration;

use super::fault::{Fault, Kind, What};
use super::outbound::Script;
use super::plan::Plan;
use super::play::{Demo, Outcome};
use crate::vm::open_kvm;

/// Plays a small demo; `None`, with a word about it, where there is no KVM.
fn play(vps: u32, script: Script) -> Option<Outcome> {
    if let Err(error) = open_kvm() {
        // Not eprintln!, which the test harness captures.
        let _ = writeln!(stderr(), "skipped: no /dev/kvm: {error:#}");
        return None;
    }
    let demo = Demo {
        script,
        patience: Duration::from_secs(3),
        ..Demo::new(Plan::new(vps, 600).unwrap())
    };
    Some(demo.play().unwrap())
}

/// The fault that the demo ends with.
fn fault(script: Script) -> Option<Fault> {
    Some(play(2, script)?.faults.first().cloned().unwrap())
}

fn fault_of_message(message: fn(u32, u64) -> (u32, u64)) -> Option<Fault> {
    fault(Script {
        message,
        ..Script::default()
    })
}

fn assert_fault(fault: Option<Fault>, sint: u8, what: What, kind: Kind) {
    let Some(fault) = fault else {
        return;
    };
    let found = (fault.vp, fault.sint, fault.what, fault.kind);
    assert_eq!(found, (1, Some(sint), what, kind), "{fault}");
}

#[test]
fn play_when_all_is_well_finds_no_fault() {
    for vps in [2, 3] {
        if let Some(outcome) = play(vps, Script::default()) {
            assert_eq!(outcome.faults, []);
        }
    }
}

#[test]
fn play_when_a_message_is_left_out_says_lost() {
    let fault = fault_of_message(|vp, seq| (vp, seq + u64::from(vp == 1 && seq >= 50)));
    assert_fault(fault, 2, What::Message, Kind::Lost);
}

#[test]
fn play_when_a_message_is_sent_twice_says_so() {
    let fault = fault_of_message(|vp, seq| (vp, seq - u64::from(vp == 1 && seq == 50)));
    assert_fault(fault, 2, What::Message, Kind::DuplicatedOrReordered);
}

#[test]
fn play_when_two_messages_are_swapped_says_so() {
    let fault = fault_of_message(|vp, seq| match (vp, seq) {
        (1, 50) => (1, 51),
        (1, 51) => (1, 50),
        as_planned => as_planned,
    });
    assert_fault(fault, 2, What::Message, Kind::Lost);
}

#[test]
fn play_when_a_message_goes_to_the_wrong_vp_says_misrouted_or_lost() {
    // VP 0 gets what is VP 1's, or VP 1 misses it first.
    let fault = fault_of_message(|vp, seq| (u32::from(vp == 1 && seq != 50), seq));
    let Some(fault) = fault else {
        return;
    };
    let expected = if fault.vp == 0 {
        Kind::Misrouted
    } else {
        Kind::Lost
    };
    assert_eq!(
        (fault.what, fault.kind),
        (What::Message, expected),
        "{fault}"
    );
}

#[test]
fn play_when_a_flag_is_left_out_says_lost() {
    let fault = fault(Script {
        flag: |vp, seq| (vp, seq + u64::from(vp == 1 && seq >= 50)),
        ..Script::default()
    });
    assert_fault(fault, 2, What::EventFlag, Kind::Lost);
}

#[test]
fn play_when_a_doorbell_rings_another_port_says_lost() {
    let fault = fault(Script {
        ring: |vp, index| (vp, index + u64::from(vp == 1 && index == 50)),
        ..Script::default()
    });
    assert_fault(fault, 5, What::RingEntry, Kind::Lost);
}

#[test]
fn play_when_a_doorbell_rings_in_another_vps_ring_says_misrouted_or_lost() {
    // VP 1 gets what is VP 0's, or VP 0 misses it first.
    let fault = fault(Script {
        ring: |vp, index| (u32::from(vp == 1 || index == 50), index),
        ..Script::default()
    });
    let Some(fault) = fault else {
        return;
    };
    let expected = if fault.vp == 1 {
        Kind::Misrouted
    } else {
        Kind::Lost
    };
    assert_eq!(
        (fault.what, fault.kind),
        (What::RingEntry, expected),
        "{fault}"
    );
}
