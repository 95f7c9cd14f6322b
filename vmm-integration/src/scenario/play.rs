// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! Runs one scenario: the VM, VMBus's host side, and the guest from power-on to power-off.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use vm_synic::{Config, Snapshot};

use super::bell::Bell;
use super::listener::Listener;
use super::played::{End, Played};
use super::relay::Relay;
use super::{LinuxArgs, Scenario};
use crate::boot::{TIMELINE_DEPTH, add_vmbus};
use crate::cli::RoleArg;
use crate::devices::Console;
use crate::enlightenments::Timers;
use crate::linux;
use crate::multiboot::Boot;
use crate::vm::{Stop, Vm, VmConfig};
use crate::vmbus::HEARTBEAT_PERIOD;

/// A guest that can be run in any scenario.
pub struct Guest<'a> {
    args: &'a LinuxArgs,
    kernel: Vec<u8>,
    initrd: Vec<u8>,
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
        match scenario {
            Scenario::Snapshot => self.hand_on(),
            _ => self.play_here(scenario),
        }
    }

    fn play_here(&self, scenario: Scenario) -> Result<Played> {
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
            handovers: None,
            end,
        })
    }

    /// Runs it in one process after the other.
    fn hand_on(&self) -> Result<Played> {
        let (listener, start) = (Listener::new(), Instant::now());
        let console = Console::new(Some(Box::new(listener.clone())));
        let mut relay = Relay::new(self.args, listener.clone(), console.clone())?;
        let arrived = relay.run(&self.options(Scenario::Snapshot, 1));
        let fault = arrived.as_ref().err().map(|e| format!("{e:#}"));
        let arrived = arrived.ok();
        let (handovers, last) = arrived
            .map(|arrived| (arrived.handovers, arrived.last))
            .unzip();
        let end = match (fault, &last) {
            (Some(fault), _) => End::of_fault(fault),
            (None, Some(last)) if last.ended == "poweroff" => End::PowerOff,
            (None, last) => End::Fault(format!(
                "The guest ended by {:?}",
                last.as_ref().map(|l| &l.ended)
            )),
        };
        let backend = last.as_ref().map(|last| last.backend.clone());
        let (vmbus, synic) = last.map(|last| (last.vmbus, last.synic)).unzip();
        Ok(Played {
            scenario: Scenario::Snapshot,
            role: self.args.role.into(),
            vcpus: self.args.vcpus,
            backend: backend.unwrap_or_else(|| format!("{:?}", self.args.backend)),
            guest: listener.report(),
            vmbus: vmbus.unwrap_or_default(),
            synic: synic.unwrap_or(Snapshot { vps: Vec::new() }),
            trace: None,
            elapsed: start.elapsed(),
            console: console.tail(),
            handovers,
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

    fn cmdline(&self, scenario: Scenario, number: u32) -> String {
        format!("{} {}", linux::CMDLINE, self.options(scenario, number))
    }

    /// The guest gives up a little earlier than the host, because it can say why.
    fn options(&self, scenario: Scenario, number: u32) -> String {
        let timeout = self.args.timeout.saturating_sub(GRACE).max(GRACE);
        let mut special = String::new();
        if scenario == Scenario::Crash {
            special += CRASH;
        }
        if self.args.role == RoleArg::L1vh {
            special += " synic.role=l1vh";
        }
        let more = &self.args.cmdline;
        format!(
            "{LOG} synic.scenario={scenario} synic.boot={number} \
             synic.timeout={timeout} {special} {more}"
        )
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
}
