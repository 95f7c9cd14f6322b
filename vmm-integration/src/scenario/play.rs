// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! Runs one scenario: the VM, VMBus's host side, and the guest from power-on to power-off.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use vm_synic::{Config, Role, Snapshot};

use super::bell::Bell;
use super::guest::GuestReport;
use super::judge::Evidence;
use super::listener::Listener;
use super::{LinuxArgs, Scenario};
use crate::boot::{TIMELINE_DEPTH, add_vmbus};
use crate::cli::RoleArg;
use crate::devices::Console;
use crate::enlightenments::Timers;
use crate::linux;
use crate::multiboot::Boot;
use crate::vm::{Stop, Vm, VmConfig};
use crate::vmbus::{HEARTBEAT_PERIOD, VmbusReport};

/// A guest that can be run in any scenario.
pub struct Guest<'a> {
    args: &'a LinuxArgs,
    kernel: Vec<u8>,
    initrd: Vec<u8>,
}

/// A scenario that has ended.
#[derive(Debug)]
pub struct Played {
    /// What was to be done.
    pub scenario: Scenario,
    /// What the guest is.
    pub role: Role,
    /// By how many vCPUs.
    pub vcpus: u32,
    /// Who had the SynIC.
    pub backend: String,
    /// What the guest says.
    pub guest: GuestReport,
    /// What VMBus's host side says.
    pub vmbus: VmbusReport,
    /// What the SynIC says.
    pub synic: Snapshot,
    /// Its timeline, if that was asked for.
    pub trace: Option<Value>,
    /// How long it took.
    pub elapsed: Duration,
    /// The end of what the guest wrote.
    pub console: String,
    end: End,
}

#[derive(Debug, PartialEq, Eq)]
enum End {
    PowerOff,
    TimedOut { waiting_for: String },
    Fault(String),
}

impl<'a> Guest<'a> {
    /// Reads kernel and initramfs.
    pub fn new(args: &'a LinuxArgs) -> Result<Self> {
        check_options(&args.cmdline)?;
        Ok(Self {
            args,
            kernel: read(&args.kernel)?,
            initrd: read(&args.initrd)?,
        })
    }

    /// Runs it in a new VM until it is off, cannot go on, or has had its time.
    pub fn play(&self, scenario: Scenario) -> Result<Played> {
        let listener = Listener::new();
        let console = Console::new(Some(Box::new(listener.clone())));
        let mut vm = self.machine(scenario)?;
        let com1 = linux::add_devices(&mut vm, console.clone());
        let vmbus = add_vmbus(&mut vm, self.heartbeat())?;
        let (manager, host) = (vm.manager().clone(), vm.host().clone());
        listener.count_exits(Arc::new(move || host.exits()));
        if let Some(hypervisor) = vm.hypervisor().cloned() {
            let bell = Arc::new(Bell {
                manager: manager.clone(),
                hypervisor,
                com1,
            });
            listener.tell(Arc::new(move |event| bell.hear(event)));
        }
        let (backend, start) = (vm.backend().to_string(), Instant::now());
        let end = match self.run(vm, scenario, start)? {
            Some(stop) => End::of(stop),
            None => End::TimedOut {
                waiting_for: listener.waits_for(),
            },
        };
        Ok(Played {
            scenario,
            role: self.args.role.into(),
            vcpus: self.args.vcpus,
            backend,
            guest: listener.report(),
            vmbus: vmbus.report(),
            synic: manager.snapshot(),
            trace: self.args.trace.is_some().then(|| manager.chrome_trace()),
            elapsed: start.elapsed(),
            console: console.tail(),
            end,
        })
    }

    fn machine(&self, scenario: Scenario) -> Result<Vm> {
        let mut enlightenments = self.args.enlightenments;
        if scenario == Scenario::Reload && enlightenments.timers == Timers::Direct {
            // Linux stops these with hv_vmbus (`hv_stimer_global_cleanup`), and has no other to fall
            // back on: without PIT and HPET, the LAPIC timer of the first CPU is for broadcasts.
            enlightenments.timers = Timers::Off;
        }
        Vm::new(&VmConfig {
            vcpus: self.args.vcpus,
            memory_mib: self.args.memory,
            synic: self.synic_config(),
            backend: self.args.backend.wish()?,
            irqchip: self.args.irqchip.into(),
            enlightenments,
        })
    }

    fn synic_config(&self) -> Config {
        let mut config = Config::new(self.args.vcpus);
        config.role = self.args.role.into();
        config.violations = self.args.policy.into();
        config.ledger_depth = LEDGER_DEPTH;
        if self.args.trace.is_some() {
            config.timeline_depth = TIMELINE_DEPTH;
        }
        config
    }

    /// So that there are many while the MSHV driver comes and goes.
    fn heartbeat(&self) -> Duration {
        match self.args.role {
            RoleArg::L1vh => HEARTBEAT_PERIOD / 10,
            _ => HEARTBEAT_PERIOD,
        }
    }

    /// Loads the kernel as often as the scenario has the guest restart the machine; `None` when
    /// the time is over.
    fn run(&self, mut vm: Vm, scenario: Scenario, start: Instant) -> Result<Option<Stop>> {
        let timeout = Duration::from_secs(self.args.timeout);
        let mut number = 1;
        loop {
            self.load(&mut vm, scenario, number)?;
            let running = vm.start()?;
            let stop = running.wait(Some(timeout.saturating_sub(start.elapsed())));
            vm = running.stop()?;
            match stop {
                Some(Stop::Reset) if number < scenario.loads() => vm.reset()?,
                stop => return Ok(stop),
            }
            number += 1;
        }
    }

    fn load(&self, vm: &mut Vm, scenario: Scenario, number: u32) -> Result<()> {
        let boot = Boot {
            image: &self.kernel,
            cmdline: &self.cmdline(scenario, number),
            module: Some(&self.initrd),
        };
        let kernel = self.args.kernel.display();
        vm.load(boot)
            .with_context(|| format!("Cannot load {kernel}"))
    }

    /// The guest gives up a little earlier than the host, because it can say why.
    fn cmdline(&self, scenario: Scenario, number: u32) -> String {
        let timeout = self.args.timeout.saturating_sub(GRACE).max(GRACE);
        let mut special = String::new();
        if scenario == Scenario::Crash {
            special += CRASH;
        }
        if self.args.role == RoleArg::L1vh {
            special += " synic.role=l1vh";
        }
        let (console, more) = (linux::CMDLINE, &self.args.cmdline);
        format!(
            "{console} {LOG} synic.scenario={scenario} synic.boot={number} \
             synic.timeout={timeout} {special} {more}"
        )
    }
}

impl Played {
    /// What went wrong.
    pub fn faults(&self) -> Vec<String> {
        let end = match &self.end {
            End::PowerOff => {
                return Evidence {
                    scenario: self.scenario,
                    role: self.role,
                    vcpus: self.vcpus,
                    guest: &self.guest,
                    vmbus: &self.vmbus,
                    synic: &self.synic,
                }
                .faults();
            }
            End::TimedOut { waiting_for } => format!("Timeout while waiting for {waiting_for}"),
            End::Fault(fault) => fault.clone(),
        };
        // The end explains all that is missing.
        let failures = self.guest.failures.iter().cloned();
        failures.chain([end]).collect()
    }

    /// Whether nothing went wrong.
    pub fn is_ok(&self) -> bool {
        self.faults().is_empty()
    }

    /// Whether the guest has not come to its end.
    pub fn timed_out(&self) -> bool {
        matches!(self.end, End::TimedOut { .. })
    }
}

impl End {
    fn of(stop: Stop) -> Self {
        match stop {
            Stop::PowerOff => Self::PowerOff,
            Stop::Reset => Self::Fault("The guest has reset the machine unexpectedly".into()),
            Stop::TripleFault(vp) => Self::Fault(format!("{vp} took a triple fault")),
            Stop::Exit(value) => Self::Fault(format!("The guest ended with status {value}")),
            Stop::Failed(e) => Self::Fault(format!("{e:#}")),
        }
    }
}

/// The guest ignores options that it does not know, and this VMM sets some itself.
fn check_options(cmdline: &str) -> Result<()> {
    let options = cmdline
        .split_whitespace()
        .filter_map(|word| word.strip_prefix("synic."));
    for option in options {
        let (key, value) = option.split_once('=').unwrap_or((option, ""));
        ensure!(
            OPTIONS.contains(&key),
            "There is no option synic.{key}; there are {}",
            OPTIONS.map(|key| format!("synic.{key}")).join(", ")
        );
        ensure!(
            value.parse::<u32>().is_ok(),
            "synic.{key} is a number, not {value:?}"
        );
    }
    Ok(())
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("Cannot read {}", path.display()))
}

/// Few lines, because each byte is an exit, but all of the guest's own.
const LOG: &str = "quiet loglevel=4 printk.devkmsg=on";
const CRASH: &str = "crashkernel=192M";
const OPTIONS: [&str; 7] = [
    "packets", "cycles", "beats", "cpu", "count", "ports", "threads",
];
/// An L1VH guest's whole life: 20 reloads of a driver, and as many of each CPU.
const LEDGER_DEPTH: usize = 8192;
const GRACE: u64 = 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn check_options_when_one_is_wrong_names_it() {
        let message = |cmdline| check_options(cmdline).unwrap_err().to_string();
        assert!(check_options("noxsave synic.packets=7 synic.cpu=0").is_ok());
        assert!(message("synic.packet=7").contains("no option synic.packet;"));
        assert!(message("synic.boot=2").contains("no option synic.boot;"));
        assert!(message("synic.cycles=few").contains("not \"few\""));
        assert!(message("synic.cycles").contains("not \"\""));
    }

    #[test]
    fn end_when_the_guest_did_not_power_off_is_a_fault() {
        assert_eq!(End::of(Stop::PowerOff), End::PowerOff);
        for stop in [
            Stop::Reset,
            Stop::Exit(0),
            Stop::TripleFault(vm_synic::VpIndex::new(1)),
        ] {
            assert!(matches!(End::of(stop), End::Fault(_)));
        }
    }
}
