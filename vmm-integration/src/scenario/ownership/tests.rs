// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! Each rule holds for a good L1VH guest, and each can fail.

use std::time::Duration;

use vm_synic::abi::RegisterId;
use vm_synic::ownership::Violation;
use vm_synic::{Snapshot, SynicSnapshot, VpIndex, VpSnapshot};

use super::*;
use crate::scenario::guest::tests::report;
use crate::vmbus::VmbusReport;

const GUEST: [&str; 6] = [
    "boot n=1 kernel=7.2 cpus=1 scenario=mshv",
    "l1vh -- Hyper-V: running as L1VH partition",
    "program-end status=0",
    "mshv-reload cycles=1 packets=5",
    "program-end status=0",
    "done",
];

fn entry(owner: Owner, register: Register, before: u64, after: u64) -> Entry {
    Entry {
        at: Duration::from_millis(3),
        vp: VpIndex::new(0),
        register: RegisterId::plain(register),
        owner: Some(owner),
        before,
        after,
        violation: None,
    }
}

/// One VP after its bring-up and MSHV's exit.
fn synic() -> Snapshot {
    let on = |(owner, register)| match register {
        Register::Sint(_) => entry(owner, register, 0x1_0000, 0xF3),
        _ => entry(owner, register, 0, 0x5001),
    };
    let mut sints = [0x1_0000; 16];
    sints[2] = 0xF3;
    let plain = SynicSnapshot {
        scontrol: 1,
        simp: 0x5001,
        siefp: 0x6001,
        sirbp: 0,
        sints,
        eoms: 0,
        counters: Default::default(),
        timers: Vec::new(),
    };
    let vp = VpSnapshot {
        index: VpIndex::new(0),
        plain,
        nested: None,
        ledger: BRING_UP.map(on).to_vec(),
        ledger_evicted: 0,
        violations: Vec::new(),
        violation_count: 0,
    };
    Snapshot { vps: vec![vp] }
}

fn vp(synic: &mut Snapshot) -> &mut VpSnapshot {
    &mut synic.vps[0]
}

fn violation(kind: ViolationKind) -> Entry {
    let register = RegisterId::plain(Register::Simp);
    Entry {
        violation: Some(Violation {
            kind,
            register,
            writer: Some(Owner::VmBus),
            victim: Some(Owner::Mshv),
        }),
        ..entry(Owner::VmBus, Register::Simp, 0x5001, 0)
    }
}

fn judge(scenario: Scenario, lines: &[&str], synic: &Snapshot) -> Vec<String> {
    let guest = report(lines);
    let evidence = Evidence {
        scenario,
        role: Role::L1vh,
        vcpus: 1,
        guest: &guest,
        vmbus: &VmbusReport::default(),
        synic,
    };
    let mut faults = Vec::new();
    rules(Role::L1vh)
        .iter()
        .for_each(|rule| rule(&evidence, &mut faults));
    faults
}

#[track_caller]
fn assert_fault(faults: &[String], text: &str) {
    assert!(faults.len() == 1 && faults[0].contains(text), "{faults:?}");
}

/// The faults where the guest did not say this line.
fn without_line(line: &str) -> Vec<String> {
    let lines: Vec<_> = GUEST.into_iter().filter(|l| !l.starts_with(line)).collect();
    judge(Scenario::Mshv, &lines, &synic())
}

/// The faults of a SynIC that is not as it should be.
fn with_synic(change: impl FnOnce(&mut VpSnapshot)) -> Vec<String> {
    let mut synic = synic();
    change(vp(&mut synic));
    judge(Scenario::Mshv, &GUEST, &synic)
}

#[test]
fn faults_of_a_good_l1vh_are_none() {
    assert_eq!(
        judge(Scenario::Mshv, &GUEST, &synic()),
        Vec::<String>::new()
    );
    assert!(rules(Role::Guest).is_empty());
}

#[test]
fn faults_when_the_guest_left_something_out_say_what() {
    assert_fault(&without_line("l1vh"), "Kernel 1 does not use MSHV");
    assert_fault(&without_line("mshv-reload"), "was not reloaded");
    assert_fault(
        &without_line("program-end"),
        "The program has ended with []",
    );
}

#[test]
fn faults_when_a_vp_was_claimed_in_another_order_show_it() {
    assert_fault(
        &with_synic(|vp| vp.ledger.swap(3, 4)),
        "VP 0 was claimed so",
    );
    assert_fault(
        &with_synic(|vp| vp.ledger.truncate(6)),
        "VP 0 was claimed so",
    );
    let evicted = with_synic(|vp| vp.ledger_evicted = 1);
    assert_fault(&evicted, "more than its ledger keeps");
}

#[test]
fn faults_when_mshv_has_left_a_register_on_name_it() {
    assert_fault(
        &with_synic(|vp| vp.plain.sirbp = 0x7001),
        "SIRBP of VP 0 on",
    );
    assert_fault(
        &with_synic(|vp| vp.plain.sints[5] = 0xF3),
        "SINT5 of VP 0 on",
    );
}

#[test]
fn faults_when_a_rule_was_broken_are_the_ledgers_lines() {
    let broken = violation(ViolationKind::VmBusLeftFirst);
    let faults = with_synic(|vp| vp.violations.push(broken));
    assert_fault(&faults, "Rule broken: 3.0 ms VP 0 SIMP");
}

#[test]
fn faults_of_a_crash_are_none_only_if_it_was_reported_and_nothing_else_was() {
    let crash = [GUEST[0], GUEST[1], "boot n=2 kernel=7.2 cpus=1", "done"];
    let with = |kinds: &[ViolationKind]| {
        let mut synic = synic();
        vp(&mut synic).violations = kinds.iter().copied().map(violation).collect();
        judge(Scenario::Crash, &crash, &synic)
    };
    assert_fault(&with(&[]), "nothing was reported");
    assert_eq!(with(&[ViolationKind::VmBusLeftFirst]), Vec::<String>::new());
    let both = [ViolationKind::VmBusLeftFirst, ViolationKind::WriteWhileOff];
    assert_fault(&with(&both), "Rule broken");
}
