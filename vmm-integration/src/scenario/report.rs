// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! The account of a scenario, for people and for programs.

use std::collections::BTreeMap;
use std::fmt::Write;

use serde_json::{Value, json};

use super::guest::{Boot, Echo, MshvReloads};
use super::played::Played;
use super::relay::Handovers;
use super::{LinuxArgs, Scenario};
use crate::backend::Irqchip;

/// As a few lines; with all that was seen, if the guest has failed.
pub fn text(played: &Played) -> String {
    let faults = played.faults();
    let mut text = headline(played, faults.is_empty());
    for boot in &played.guest.boots {
        text += &of_boot(boot);
    }
    text += &of_host(played);
    if let Some(handovers) = &played.handovers {
        text += &of_handovers(handovers);
    }
    for fault in &faults {
        // Writing to a String cannot fail.
        let _ = write!(text, "\n  FAILED: {fault}");
    }
    if !faults.is_empty() {
        let _ = write!(
            text,
            "\n{}\nConsole:\n{}",
            played.synic,
            played.console.trim_end()
        );
    }
    text
}

/// As one JSON object.
pub fn json(args: &LinuxArgs, all: &[Played], skipped: &[Scenario]) -> Value {
    json!({
        "ok": all.iter().all(Played::is_ok),
        "role": format!("{:?}", args.role).to_lowercase(),
        "policy": format!("{:?}", args.policy).to_lowercase(),
        "vcpus": args.vcpus,
        "backend": all.first().map(|played| &played.backend),
        "irqchip": Irqchip::from(args.irqchip).to_string(),
        "scenarios": all.iter().map(one_json).collect::<Vec<_>>(),
        "skipped": skipped,
    })
}

fn one_json(played: &Played) -> Value {
    let echoes: Vec<_> = played.guest.echoes().map(Rates::of).collect();
    json!({
        "scenario": played.scenario,
        "ok": played.is_ok(),
        "faults": played.faults(),
        "timeout": played.timed_out(),
        "seconds": played.elapsed.as_secs_f64(),
        "echo": echoes.iter().map(|rates| json!({
            "packets_per_second": rates.packets_per_second,
            "exits_per_packet": rates.exits_per_packet,
        })).collect::<Vec<_>>(),
        "handovers": played.handovers,
        "guest": played.guest,
        "vmbus": played.vmbus,
        "synic": played.synic.to_json(),
    })
}

fn headline(played: &Played, ok: bool) -> String {
    format!(
        "{}: {} in {:.1} s; {} vCPUs, backend {}",
        played.scenario,
        if ok { "OK" } else { "FAILED" },
        played.elapsed.as_secs_f64(),
        played.vcpus,
        played.backend,
    )
}

fn of_boot(boot: &Boot) -> String {
    let [event, source] = &boot.clocks;
    let mut text = format!(
        "\n  kernel {} ({}): VMBus {}, {} CPUs, clock event {event}, clock source {source}\n    \
         interrupts by CPU: callback {}, timer {}",
        boot.number,
        boot.kernel,
        boot.vmbus,
        boot.cpus,
        counts(&boot.callbacks),
        counts(&boot.timers),
    );
    for echo in &boot.echoes {
        text += &of_echo(echo);
    }
    if let Some(hotplug) = boot.hotplug {
        // Writing to a String cannot fail.
        let _ = write!(
            text,
            "\n    {} times a CPU away and back, {} refusals, {} packets meanwhile",
            hotplug.cycles, hotplug.refusals, hotplug.packets
        );
    }
    if boot.mshv.cycles > 0 {
        let MshvReloads { cycles, packets } = boot.mshv;
        // Writing to a String cannot fail.
        let _ = write!(
            text,
            "\n    {cycles} times the MSHV driver away and back, {packets} packets meanwhile"
        );
    }
    for line in boot.programs.iter().flat_map(|program| &program.lines) {
        let _ = write!(text, "\n    program: {line}");
    }
    for modules in &boot.reloads {
        let _ = write!(text, "\n    reloaded {modules}");
    }
    text
}

fn of_echo(echo: &Echo) -> String {
    let Rates {
        packets_per_second,
        exits_per_packet,
    } = Rates::of(echo);
    format!(
        "\n    echo of {} packets, {} bytes, over {} connections in {:.1} s: \
         {packets_per_second:.0} packets/s, {exits_per_packet:.4} exits to the VMM per packet",
        echo.packets, echo.bytes, echo.connections, echo.seconds,
    )
}

fn of_host(played: &Played) -> String {
    let (heartbeat, channels) = (&played.vmbus.heartbeat, &played.vmbus.channels);
    format!(
        "\n  host: {} contacts, {} unloads; {} channels opened, {} moved; {} heartbeats, {} \
         answered, the last with sequence number {}",
        played.vmbus.contacts,
        played.vmbus.unloads,
        channels.opened,
        channels.moved,
        heartbeat.sent,
        heartbeat.answered,
        heartbeat.last_sequence,
    )
}

fn of_handovers(handovers: &Handovers) -> String {
    format!(
        "\n  saved and restored {} times ({}): {:.1} s to save, {:.1} s to go on, {} MiB",
        handovers.count,
        handovers.backends.join(", "),
        handovers.seconds_to_save,
        handovers.seconds_to_go_on,
        handovers.file_bytes >> 20,
    )
}

fn counts(counts: &BTreeMap<usize, u64>) -> String {
    match counts.is_empty() {
        true => "none".into(),
        false => counts
            .values()
            .map(u64::to_string)
            .collect::<Vec<_>>()
            .join(" "),
    }
}

/// What traffic costs; packets are counted in both directions.
struct Rates {
    packets_per_second: f64,
    exits_per_packet: f64,
}

impl Rates {
    fn of(echo: &Echo) -> Self {
        let packets = (echo.packets + echo.arrivals) as f64;
        let per = |quantity: f64| {
            if quantity > 0.0 {
                packets / quantity
            } else {
                0.0
            }
        };
        Self {
            packets_per_second: per(echo.seconds),
            exits_per_packet: if packets > 0.0 {
                echo.exits as f64 / packets
            } else {
                0.0
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_when_traffic_went_both_ways_count_both() {
        let echo = Echo {
            packets: 100,
            arrivals: 100,
            seconds: 0.5,
            exits: 50,
            ..Echo::default()
        };
        let rates = Rates::of(&echo);
        assert_eq!(rates.packets_per_second, 400.0);
        assert_eq!(rates.exits_per_packet, 0.25);
        assert_eq!(Rates::of(&Echo::default()).exits_per_packet, 0.0);
    }
}
