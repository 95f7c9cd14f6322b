// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! Judges a guest: its own reports, what the host saw of it, and the SynIC's counters.

use std::collections::BTreeSet;

use vm_synic::{Role, Snapshot};

use super::Scenario;
use super::guest::{Boot, GuestReport};
use super::ownership;
use crate::vmbus::VmbusReport;

/// Everything that is known about a guest that has ended.
#[derive(Debug)]
pub struct Evidence<'a> {
    /// What the guest was to do.
    pub scenario: Scenario,
    /// What it is.
    pub role: Role,
    /// With how many vCPUs.
    pub vcpus: u32,
    /// What it says.
    pub guest: &'a GuestReport,
    /// What VMBus's other end says.
    pub vmbus: &'a VmbusReport,
    /// What the SynIC says.
    pub synic: &'a Snapshot,
}

impl Evidence<'_> {
    /// What is wrong, in words; nothing, if all rules hold.
    pub fn faults(&self) -> Vec<String> {
        let mut faults = self.guest.failures.clone();
        if faults.is_empty() {
            let rules = RULES.iter().chain(ownership::rules(self.role));
            rules.for_each(|rule| rule(self, &mut faults));
        } else {
            // The failure explains all that is missing.
            nobody_complains(self, &mut faults);
        }
        faults
    }

    /// How often a driver has connected.
    fn connections(&self) -> usize {
        let reloads = self.guest.boots.iter().flat_map(|boot| &boot.reloads);
        let with_vmbus =
            reloads.filter(|modules| modules.split(',').any(|name| name == "hv_vmbus"));
        self.scenario.boots() + with_vmbus.count()
    }
}

/// Adds what breaks it.
pub type Rule = fn(&Evidence<'_>, &mut Vec<String>);

const RULES: [Rule; 9] = [
    the_guest_has_done_it_all,
    each_kernel_got_the_newest_version,
    each_cpu_with_a_channel_was_interrupted,
    heartbeats_were_answered,
    the_echo_is_complete,
    the_cpus_came_back,
    the_modules_were_reloaded,
    nobody_complains,
    the_counters_balance,
];

fn the_guest_has_done_it_all(evidence: &Evidence<'_>, faults: &mut Vec<String>) {
    let (guest, scenario) = (evidence.guest, evidence.scenario);
    let boots = guest.boots.len();
    if boots != scenario.boots() {
        faults.push(format!(
            "{boots} kernels reported, not {}",
            scenario.boots()
        ));
    }
    if !guest.done {
        faults.push("The guest has not reported that it is done".into());
    }
    // A crash kernel has one CPU.
    let all = guest.boots.first().map_or(0, |boot| boot.cpus);
    if all != evidence.vcpus as usize {
        faults.push(format!("The guest has {all} CPUs, not {}", evidence.vcpus));
    }
}

/// A driver tries its newest version first, and one more message for each version after it.
fn each_kernel_got_the_newest_version(evidence: &Evidence<'_>, faults: &mut Vec<String>) {
    let (vmbus, connections) = (evidence.vmbus, evidence.connections());
    if vmbus.contacts != connections as u64 {
        let contacts = vmbus.contacts;
        faults.push(format!(
            "{contacts} contacts for {connections} connections to VMBus"
        ));
    }
    let agreed = vmbus.version.as_deref().unwrap_or("none");
    for boot in &evidence.guest.boots {
        if boot.vmbus != agreed {
            let (number, version) = (boot.number, &boot.vmbus);
            faults.push(format!(
                "Kernel {number} has VMBus {version:?}, the host {agreed}"
            ));
        }
    }
}

fn each_cpu_with_a_channel_was_interrupted(evidence: &Evidence<'_>, faults: &mut Vec<String>) {
    for boot in &evidence.guest.boots {
        let used: BTreeSet<_> = boot.channels.iter().map(|channel| channel.cpu).collect();
        if used.is_empty() {
            faults.push(format!("Kernel {} has no channel", boot.number));
        }
        if !boot.echoes.is_empty() && used.len() != boot.cpus {
            let (number, cpus) = (boot.number, boot.cpus);
            faults.push(format!(
                "Channels on {} of {cpus} CPUs of kernel {number}",
                used.len()
            ));
        }
        faults.extend(used.iter().filter_map(|cpu| silent(boot, *cpu)));
    }
}

fn silent(boot: &Boot, cpu: usize) -> Option<String> {
    let number = boot.number;
    let interrupted = boot.callbacks.get(&cpu).is_some_and(|count| *count > 0);
    let by_channel = boot
        .channels
        .iter()
        .any(|c| c.cpu == cpu && c.interrupts > 0);
    let silent = !(interrupted && by_channel);
    silent.then(|| format!("CPU {cpu} of kernel {number} has a channel, but no interrupt"))
}

/// Each end of a connection may leave one unanswered.
fn heartbeats_were_answered(evidence: &Evidence<'_>, faults: &mut Vec<String>) {
    let heartbeat = &evidence.vmbus.heartbeat;
    let (sent, answered) = (heartbeat.sent, heartbeat.answered);
    let connections = evidence.connections() as u64;
    if answered < 2 * connections || sent.saturating_sub(answered) > connections {
        faults.push(format!(
            "{sent} heartbeats sent, {answered} answered, in {connections} connections"
        ));
    }
    if heartbeat.last_sequence == 0 {
        faults.push("The heartbeat's sequence number has not risen".into());
    }
}

/// A packet that finds little room is sent as two, so that there can be more packets than sends.
fn the_echo_is_complete(evidence: &Evidence<'_>, faults: &mut Vec<String>) {
    let (guest, host) = (evidence.guest, &evidence.vmbus.echo);
    let (packets, bytes) = guest.packets_and_bytes();
    let by_host = (
        host.bytes_in,
        host.bytes_out,
        host.packets_in,
        host.packets_out,
    );
    let complete = match evidence.scenario.leaves_traffic() {
        // Some of the traffic died with its kernel, and with it the guest's account.
        true => host.bytes_in >= bytes && host.packets_in >= packets,
        false => {
            (host.bytes_in, host.bytes_out) == (bytes, bytes)
                && host.packets_in >= packets
                && host.packets_out >= packets
        }
    };
    if !complete {
        faults.push(format!(
            "The guest's echo has {packets} packets of {bytes} bytes, the host's {by_host:?} \
             (bytes in, out; packets in, out)"
        ));
    }
    if evidence.scenario.has_traffic() && packets == 0 {
        faults.push("Nothing was echoed".into());
    }
}

fn the_cpus_came_back(evidence: &Evidence<'_>, faults: &mut Vec<String>) {
    let hotplug = evidence.guest.boots.iter().find_map(|boot| boot.hotplug);
    let worked = hotplug.is_some_and(|hotplug| hotplug.cycles > 0 && hotplug.packets > 0);
    if evidence.scenario == Scenario::Hotplug && !worked {
        faults.push(format!(
            "No CPU went and came back under traffic: {hotplug:?}"
        ));
    }
}

fn the_modules_were_reloaded(evidence: &Evidence<'_>, faults: &mut Vec<String>) {
    let mut reloads = evidence.guest.boots.iter().flat_map(|boot| &boot.reloads);
    let all_of_them = evidence.scenario == Scenario::Reload && evidence.role == Role::Guest;
    if all_of_them && reloads.next().is_none() {
        faults.push("No module was reloaded".into());
    }
}

/// A stale message or flag would be one that a kernel or the host does not expect.
fn nobody_complains(evidence: &Evidence<'_>, faults: &mut Vec<String>) {
    for boot in &evidence.guest.boots {
        let number = boot.number;
        faults.extend(
            boot.complaints
                .iter()
                .map(|c| format!("Kernel {number} complains: {c}")),
        );
    }
    for (mistake, count) in &evidence.vmbus.mistakes {
        faults.push(format!("The host complains {count} times: {mistake}"));
    }
}

fn the_counters_balance(evidence: &Evidence<'_>, faults: &mut Vec<String>) {
    for vp in &evidence.synic.vps {
        if !vp.plain.balances() {
            faults.push(format!("The counters of {} do not balance", vp.index));
        }
    }
}

#[cfg(test)]
mod tests;
