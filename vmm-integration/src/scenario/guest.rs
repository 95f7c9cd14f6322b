// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! All that a guest has reported, by the kernel that did.

use std::collections::BTreeMap;

use serde::Serialize;

use super::event::Event;

/// What was reported from power-on to power-off.
#[derive(Clone, Debug, Default, Serialize)]
pub struct GuestReport {
    /// The kernels that ran, in order.
    pub boots: Vec<Boot>,
    /// What went wrong, in the guest's words.
    pub failures: Vec<String>,
    /// Whether the guest says that it has done all that it was to do.
    pub done: bool,
}

/// What one kernel reported.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Boot {
    /// How the guest counts its kernels, from 1.
    pub number: u32,
    /// The kernel's release.
    pub kernel: String,
    /// How many CPUs it has.
    pub cpus: usize,
    /// The VMBus version of its latest connection.
    pub vmbus: String,
    /// Clock event device and clock source.
    pub clocks: [String; 2],
    /// Channels, by relid and CPU.
    pub channels: Vec<Channel>,
    /// The latest counts of the hypervisor's callback, by CPU.
    pub callbacks: BTreeMap<usize, u64>,
    /// The latest counts of synthetic timers in direct mode, by CPU.
    pub timers: BTreeMap<usize, u64>,
    /// Echo traffic that has ended.
    pub echoes: Vec<Echo>,
    /// The modules of each reload.
    pub reloads: Vec<String>,
    /// What became of the CPUs, where that is the scenario.
    pub hotplug: Option<Hotplug>,
    /// Whether it takes itself for an L1VH partition, and its MSHV driver works.
    pub l1vh: bool,
    /// Reloads of the MSHV driver.
    pub mshv: MshvReloads,
    /// Runs of the program that uses its device.
    pub programs: Vec<Program>,
    /// What the kernel complains about.
    pub complaints: Vec<String>,
    /// How many exits there had been when the echo under way began.
    #[serde(skip)]
    begun: Option<u64>,
}

/// A channel as sysfs shows it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Channel {
    /// Its number on the bus.
    pub relid: u32,
    /// The CPU that the host interrupts.
    pub cpu: usize,
    /// How often the host has.
    pub interrupts: u64,
    /// How often the guest has signalled the host.
    pub signals: u64,
    /// The driver, or `none`.
    pub driver: String,
}

/// Echo traffic.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Echo {
    /// How many connections carried it.
    pub connections: u64,
    /// Packets sent, and as many came back.
    pub packets: u64,
    /// Bytes sent, and as many came back.
    pub bytes: u64,
    /// Packets in which they came back.
    pub arrivals: u64,
    /// How long it took, by the guest's clock.
    pub seconds: f64,
    /// Exits of all vCPUs to this VMM meanwhile.
    pub exits: u64,
}

/// Taking CPUs away and back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Hotplug {
    /// How often a CPU went and came back.
    pub cycles: u64,
    /// How often the kernel refused at first, because of a channel on that CPU.
    pub refusals: u64,
    /// Packets that were echoed meanwhile.
    pub packets: u64,
}

/// Unloading and loading the MSHV driver under traffic.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct MshvReloads {
    /// How often.
    pub cycles: u64,
    /// Packets that were echoed meanwhile.
    pub packets: u64,
}

/// One run of a program.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Program {
    /// What it has printed.
    pub lines: Vec<String>,
    /// Its exit status, once it has ended.
    pub status: Option<i32>,
}

impl GuestReport {
    /// Takes one report; `exits` is how many exits there have been so far.
    pub fn add(&mut self, event: &Event, exits: u64) {
        match event.name.as_str() {
            "boot" => self.boots.push(Boot::new(event)),
            "done" => self.done = true,
            "FAILED" => self
                .failures
                .push(format!("{}: {}", event.get("what"), event.text)),
            _ => {
                if let Some(boot) = self.boots.last_mut() {
                    boot.add(event, exits);
                }
            }
        }
    }

    /// Echo traffic of all kernels.
    pub fn echoes(&self) -> impl Iterator<Item = &Echo> {
        self.boots.iter().flat_map(|boot| &boot.echoes)
    }

    /// Packets of all traffic that the guest has an account of, and their bytes.
    pub fn packets_and_bytes(&self) -> (u64, u64) {
        let hotplug = self.boots.iter().filter_map(|boot| boot.hotplug);
        let hotplug: u64 = hotplug.map(|hotplug| hotplug.packets).sum();
        let mshv: u64 = self.boots.iter().map(|boot| boot.mshv.packets).sum();
        let packets: u64 = self.echoes().map(|echo| echo.packets).sum();
        let bytes: u64 = self.echoes().map(|echo| echo.bytes).sum();
        let in_background = hotplug + mshv;
        (packets + in_background, bytes + in_background * PACKET)
    }
}

impl Boot {
    fn new(event: &Event) -> Self {
        Self {
            number: event.number("n").unwrap_or(0),
            kernel: event.get("kernel").to_owned(),
            cpus: event.number("cpus").unwrap_or(0),
            ..Self::default()
        }
    }

    fn add(&mut self, event: &Event, exits: u64) {
        match event.name.as_str() {
            "vmbus" => self.vmbus = event.get("version").to_owned(),
            "clocks" => self.clocks = ["event", "source"].map(|key| event.get(key).to_owned()),
            "channel" => self.channels.extend(channel(event)),
            "interrupts" if event.get("name") == "HYP" => self.callbacks = event.numbered("cpu"),
            "interrupts" if event.get("name") == "HVS" => self.timers = event.numbered("cpu"),
            "echo-begin" => self.begun = Some(exits),
            "echo-end" => self.end_echo(event, exits),
            "reload" => self.reloads.push(event.get("modules").to_owned()),
            "hotplug" => self.hotplug = hotplug(event),
            "l1vh" => self.l1vh = true,
            "mshv-reload" => self.mshv.add(event),
            "program" => self.with_program(|program| program.lines.push(event.text.clone())),
            "program-end" => self.with_program(|program| program.status = event.number("status")),
            "complaint" => self.complaints.push(event.text.clone()),
            _ => {}
        }
    }

    /// Adds to the run that has not ended, or to a new one.
    fn with_program(&mut self, add: impl Fn(&mut Program)) {
        if self
            .programs
            .last()
            .is_none_or(|last| last.status.is_some())
        {
            self.programs.push(Program::default());
        }
        self.programs.last_mut().into_iter().for_each(add);
    }

    fn end_echo(&mut self, event: &Event, exits: u64) {
        let begun = self.begun.take().unwrap_or(exits);
        let number = |key| event.number(key).unwrap_or(0);
        self.echoes.push(Echo {
            connections: number("connections"),
            packets: number("packets"),
            bytes: number("bytes"),
            arrivals: number("arrivals"),
            seconds: event.number("seconds").unwrap_or(0.0),
            exits: exits.saturating_sub(begun),
        });
    }
}

impl MshvReloads {
    fn add(&mut self, event: &Event) {
        self.cycles += event.number("cycles").unwrap_or(0);
        self.packets += event.number("packets").unwrap_or(0);
    }
}

fn channel(event: &Event) -> Option<Channel> {
    Some(Channel {
        relid: event.number("relid")?,
        cpu: event.number("cpu")?,
        interrupts: event.number("interrupts")?,
        signals: event.number("signals")?,
        driver: event.get("driver").to_owned(),
    })
}

fn hotplug(event: &Event) -> Option<Hotplug> {
    Some(Hotplug {
        cycles: event.number("cycles")?,
        refusals: event.number("refusals")?,
        packets: event.number("packets")?,
    })
}

/// Bytes in a packet of the guest's traffic.
const PACKET: u64 = 10;

#[cfg(test)]
pub mod tests {
    use super::*;

    /// The report of a guest that said this.
    pub fn report(lines: &[&str]) -> GuestReport {
        let mut report = GuestReport::default();
        for (line, exits) in lines.iter().zip((0..).step_by(100)) {
            let event = Event::parse(&format!("synic-guest: {line}")).unwrap();
            report.add(&event, exits);
        }
        report
    }

    #[test]
    fn add_when_a_second_kernel_boots_keeps_the_reports_apart() {
        let report = report(&[
            "boot n=1 kernel=6.1 cpus=2",
            "vmbus version=5.2",
            "boot n=2 kernel=6.1 cpus=1",
            "vmbus version=5.3",
            "done",
        ]);
        let versions: Vec<_> = report
            .boots
            .iter()
            .map(|b| (b.number, b.vmbus.as_str()))
            .collect();
        assert_eq!(versions, [(1, "5.2"), (2, "5.3")]);
        assert!(report.done);
    }

    #[test]
    fn add_when_an_echo_ends_counts_the_exits_since_it_began() {
        let report = report(&[
            "boot n=1",
            "echo-begin packets=7",
            "interrupts name=HYP cpu0=1",
            "echo-end connections=1 packets=7 bytes=70 arrivals=8 seconds=0.5",
        ]);
        let echo = report.echoes().next().unwrap();
        assert_eq!((echo.exits, echo.arrivals, echo.seconds), (200, 8, 0.5));
        assert_eq!(report.packets_and_bytes(), (7, 70));
    }

    #[test]
    fn add_when_a_channel_has_no_cpu_leaves_it_out() {
        let report = report(&[
            "boot n=1",
            "channel relid=1 interrupts=2 signals=3 driver=none",
            "channel relid=2 cpu=1 interrupts=2 signals=3 driver=hv_utils",
        ]);
        let relids: Vec<_> = report.boots[0].channels.iter().map(|c| c.relid).collect();
        assert_eq!(relids, [2]);
    }
}
