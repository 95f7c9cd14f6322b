// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! Each rule holds for a good guest, and each can fail.

use vm_synic::{SintCounters, SynicSnapshot, VpIndex, VpSnapshot};

use super::*;
use crate::scenario::guest::tests::report;
use crate::vmbus::{EchoReport, HeartbeatReport, Mistake};

const ECHO: [&str; 9] = [
    "boot n=1 kernel=6.1 cpus=2 scenario=echo",
    "echo-begin connections=2 packets=100",
    "echo-end connections=2 packets=100 bytes=1000 arrivals=100 seconds=0.1",
    "vmbus version=5.3",
    "clocks event=lapic source=hyperv_clocksource_tsc_page",
    "channel relid=1 cpu=0 interrupts=9 signals=3 driver=hv_utils",
    "channel relid=2 cpu=1 interrupts=7 signals=3 driver=hv_sock",
    "interrupts name=HYP cpu0=12 cpu1=8",
    "done",
];

fn vmbus() -> VmbusReport {
    VmbusReport {
        contacts: 1,
        version: Some("5.3".into()),
        heartbeat: HeartbeatReport {
            sent: 5,
            answered: 4,
            last_sequence: 5,
            ..HeartbeatReport::default()
        },
        echo: EchoReport {
            packets_in: 101,
            packets_out: 100,
            bytes_in: 1000,
            bytes_out: 1000,
            ..EchoReport::default()
        },
        ..VmbusReport::default()
    }
}

/// One VP, to whose SINT2 this was posted and delivered.
fn synic(posted: u64, delivered: u64) -> Snapshot {
    let mut counters = [SintCounters::default(); 16];
    counters[2].messages.posted = posted;
    counters[2].messages.delivered = delivered;
    let plain = SynicSnapshot {
        scontrol: 1,
        simp: 1,
        siefp: 1,
        sirbp: 0,
        sints: [0; 16],
        eoms: 0,
        counters,
        timers: Vec::new(),
    };
    Snapshot {
        vps: vec![VpSnapshot {
            index: VpIndex::new(3),
            plain,
            nested: None,
            ledger: Vec::new(),
            ledger_evicted: 0,
            violations: Vec::new(),
            violation_count: 0,
        }],
    }
}

fn faults(scenario: Scenario, lines: &[&str], vmbus: &VmbusReport) -> Vec<String> {
    judge(scenario, lines, vmbus, &synic(7, 7))
}

fn judge(scenario: Scenario, lines: &[&str], vmbus: &VmbusReport, synic: &Snapshot) -> Vec<String> {
    let guest = report(lines);
    Evidence {
        scenario,
        role: Role::Guest,
        vcpus: 2,
        guest: &guest,
        vmbus,
        synic,
    }
    .faults()
}

/// The faults of a good echo in which one line reads differently.
fn with_line(old: &str, new: &str) -> Vec<String> {
    let lines = ECHO.map(|line| line.replace(old, new));
    let lines: Vec<_> = lines.iter().map(String::as_str).collect();
    faults(Scenario::Echo, &lines, &vmbus())
}

/// The faults of a good echo that the host saw differently.
fn with_host(change: impl FnOnce(&mut VmbusReport)) -> Vec<String> {
    let mut vmbus = vmbus();
    change(&mut vmbus);
    faults(Scenario::Echo, &ECHO, &vmbus)
}

#[track_caller]
fn assert_fault(faults: &[String], text: &str) {
    assert!(
        faults.iter().any(|fault| fault.contains(text)),
        "no {text:?} in {faults:?}"
    );
}

#[test]
fn faults_when_all_is_well_are_none() {
    assert_eq!(
        faults(Scenario::Echo, &ECHO, &vmbus()),
        Vec::<String>::new()
    );
}

#[test]
fn faults_when_the_guest_reports_a_failure_leave_out_what_follows_from_it() {
    let faults = with_line("done", "FAILED what=connect -- AF_VSOCK: timed out");
    assert_eq!(faults, ["connect: AF_VSOCK: timed out"]);
}

#[test]
fn faults_when_the_guest_is_not_done_say_so() {
    assert_fault(&with_line("done", "dome"), "not reported that it is done");
}

#[test]
fn faults_when_a_cpu_is_missing_say_so() {
    assert_fault(
        &with_line("cpus=2", "cpus=1"),
        "The guest has 1 CPUs, not 2",
    );
}

#[test]
fn faults_when_a_kernel_did_not_come_back_say_so() {
    assert_fault(
        &faults(Scenario::Kexec, &ECHO, &vmbus()),
        "1 kernels reported, not 2",
    );
}

#[test]
fn faults_when_the_newest_version_was_refused_count_the_contacts() {
    let faults = with_host(|vmbus| vmbus.contacts = 2);
    assert_fault(&faults, "2 contacts for 1 connections");
}

#[test]
fn faults_when_guest_and_host_disagree_on_the_version_name_both() {
    let faults = with_line("version=5.3", "version=5.2");
    assert_fault(&faults, "VMBus \"5.2\", the host 5.3");
}

#[test]
fn faults_when_a_cpu_with_a_channel_has_no_interrupt_name_it() {
    let text = "CPU 1 of kernel 1 has a channel, but no interrupt";
    assert_fault(&with_line("cpu1=8", "cpu1=0"), text);
    assert_fault(&with_line("interrupts=7", "interrupts=0"), text);
}

#[test]
fn faults_when_a_cpu_has_no_channel_in_an_echo_say_so() {
    assert_fault(&with_line("cpu=1", "cpu=0"), "Channels on 1 of 2 CPUs");
    assert_fault(&with_line("channel", "chanel"), "has no channel");
}

#[test]
fn faults_when_heartbeats_stay_unanswered_count_them() {
    let faults = with_host(|vmbus| vmbus.heartbeat.sent = 6);
    assert_fault(&faults, "6 heartbeats sent, 4 answered");
    assert_fault(
        &with_host(|vmbus| vmbus.heartbeat.answered = 1),
        "1 answered",
    );
}

#[test]
fn faults_when_the_sequence_does_not_rise_say_so() {
    assert_fault(
        &with_host(|vmbus| vmbus.heartbeat.last_sequence = 0),
        "has not risen",
    );
}

#[test]
fn faults_when_bytes_or_packets_are_missing_give_both_accounts() {
    let text = "The guest's echo has 100 packets of 1000 bytes";
    assert_fault(&with_host(|vmbus| vmbus.echo.bytes_in = 999), text);
    assert_fault(&with_host(|vmbus| vmbus.echo.bytes_out = 1001), text);
    assert_fault(&with_host(|vmbus| vmbus.echo.packets_in = 99), text);
    assert_fault(&with_host(|vmbus| vmbus.echo.packets_out = 99), text);
    assert_fault(&with_line("echo-end", "echo-ended"), "Nothing was echoed");
}

#[test]
fn faults_when_traffic_died_with_its_kernel_allow_the_host_more() {
    let mut vmbus = vmbus();
    vmbus.echo.bytes_in = 5000;
    let faults = faults(Scenario::Crash, &ECHO, &vmbus);
    assert!(
        !faults.iter().any(|fault| fault.contains("echo")),
        "{faults:?}"
    );
}

#[test]
fn faults_when_no_cpu_went_or_no_module_say_so() {
    assert_fault(
        &faults(Scenario::Hotplug, &ECHO, &vmbus()),
        "No CPU went and came back",
    );
    assert_fault(
        &faults(Scenario::Reload, &ECHO, &vmbus()),
        "No module was reloaded",
    );
}

#[test]
fn faults_when_vmbus_was_reloaded_expect_a_contact_for_each() {
    let mut lines = ECHO.to_vec();
    lines.insert(8, "reload cycle=1 modules=hv_vmbus,hv_utils");
    let faults = faults(Scenario::Reload, &lines, &vmbus());
    assert_fault(&faults, "1 contacts for 2 connections");
}

#[test]
fn faults_when_somebody_complains_repeat_it() {
    let complaint = "complaint level=3 -- hv_vmbus: unknown message";
    assert_fault(&with_line("clocks event", complaint), "unknown message");
    let faults = with_host(|vmbus| {
        vmbus.mistakes.insert(Mistake::NoChannel, 3);
    });
    assert_fault(
        &faults,
        "The host complains 3 times: there is no such channel",
    );
}

#[test]
fn faults_when_a_message_is_unaccounted_for_name_the_vp() {
    let faults = judge(Scenario::Echo, &ECHO, &vmbus(), &synic(7, 6));
    assert_fault(&faults, "The counters of VP 3 do not balance");
}
