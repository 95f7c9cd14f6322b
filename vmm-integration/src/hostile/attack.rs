// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! One attack, from an empty VM to the account of it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, ScopedJoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};
use vm_synic::{Config, Provider, Role, Snapshot, WhenDisabled, WhenMasked};

use super::counts::{self, Counts};
use super::meddler::{Done, Meddler};
use super::sender::{Sender, Sent};
use super::watch::Watch;
use super::{aftermath, resident, verdict};
use crate::backend::{Backend, Irqchip, Wish};
use crate::demo::event_loop;
use crate::demo::guest::{Account, Guest};
use crate::demo::inbound::Received;
use crate::demo::outbound::Script;
use crate::demo::plan::Plan;
use crate::demo::ports::{FIRST_RING_PORT, Ports};
use crate::demo::protocol::{EXIT_PORT, RAM_SIZE};
use crate::devices::DebugExit;
use crate::enlightenments::Enlightenments;
use crate::logger;
use crate::multiboot::Boot;
use crate::vm::{Manager, Vm, VmConfig};

/// What to do.
pub struct Attack {
    pub vcpus: u32,
    /// How long the witness has to hold out.
    pub length: Duration,
    pub seed: u64,
    pub backend: Wish,
    pub irqchip: Irqchip,
}

/// What came of it.
pub struct Outcome {
    pub vcpus: u32,
    pub seed: u64,
    pub backend: Backend,
    pub irqchip: Irqchip,
    pub elapsed: Duration,
    /// By VP.
    pub counts: Vec<Counts>,
    pub meddled: Done,
    pub witness: Witness,
    pub memory: Growth,
    /// At level info or above.
    pub log_lines: u64,
    pub snapshot: Snapshot,
    /// What was wrong; empty is success.
    pub failures: Vec<String>,
}

/// How the witness fared, until it was no longer spared.
#[derive(Clone, Debug, Default)]
pub struct Witness {
    pub sent: Sent,
    pub guest: Account,
    pub received: Received,
    /// Messages delivered, flags set and ring entries written, by the manager's counters.
    pub manager: [u64; 3],
}

/// Resident memory of this process, in bytes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Growth {
    pub warm: u64,
    pub end: u64,
}

/// What a run of the guest leaves.
struct Run {
    witness: Witness,
    memory: Growth,
    faults: Vec<String>,
}

impl Attack {
    /// Does it.
    ///
    /// # Errors
    /// It could not begin. What goes wrong later is in the outcome.
    pub fn run(&self) -> Result<Outcome> {
        let (start, lines) = (Instant::now(), logger::lines());
        let vm = self.build()?;
        let (manager, memory) = (vm.manager().clone(), vm.memory().clone());
        let (backend, plan) = (vm.backend(), self.plan());
        let script = Script::default();
        let ports = Ports::register(&manager, &plan, &script)?;
        plan.write(memory.as_ref(), FIRST_RING_PORT)?;
        counts::write_seed(&memory, self.seed)?;
        resident::touch(&memory, RAM_SIZE)?;

        let meddled = Mutex::new(Done::default());
        let run = self.play(vm, &ports, &meddled)?;
        let mut outcome = Outcome {
            vcpus: self.vcpus,
            seed: self.seed,
            backend,
            irqchip: self.irqchip,
            elapsed: start.elapsed(),
            counts: plan.vps().map(|vp| Counts::of(vp, &memory)).collect(),
            meddled: meddled.into_inner().unwrap_or_else(|e| e.into_inner()),
            witness: run.witness,
            memory: run.memory,
            log_lines: logger::lines().saturating_sub(lines),
            snapshot: manager.snapshot(),
            failures: run.faults,
        };
        outcome.failures.extend(verdict::of(&outcome));
        if let Err(error) = aftermath::check(&manager, &memory) {
            outcome.failures.push(format!("{error:#}"));
        }
        Ok(outcome)
    }

    fn plan(&self) -> Plan {
        Plan {
            vps: self.vcpus,
            messages: ENDLESS,
            flags: ENDLESS,
            rings: ENDLESS,
            vmm_rings: ENDLESS,
        }
    }

    /// The VP that behaves.
    pub fn witness(&self) -> u32 {
        self.vcpus - 1
    }

    fn build(&self) -> Result<Vm> {
        let mut vm = Vm::new(&VmConfig {
            vcpus: self.vcpus,
            memory_mib: (RAM_SIZE >> 20) as u32,
            synic: self.synic(),
            backend: self.backend,
            irqchip: self.irqchip,
            enlightenments: Enlightenments::default(),
        })?;
        vm.add_device(EXIT_PORT..=EXIT_PORT, Arc::new(DebugExit));
        vm.load(Boot {
            image: GUEST,
            cmdline: "hostile",
            module: None,
        })?;
        Ok(vm)
    }

    /// Everything that a guest can reach, under policies that depend on the seed.
    fn synic(&self) -> Config {
        Config {
            // VMBus and MSHV in the same guest.
            role: Role::L1vh,
            nested: true,
            timers: Some(Provider::Manager),
            timeline_depth: 64,
            // Full queues, and states that hold them, come and go all the time.
            queue_depth: 16,
            when_masked: match self.seed % 3 {
                0 => WhenMasked::Refuse,
                1 => WhenMasked::Hold,
                _ => WhenMasked::Write,
            },
            when_disabled: match self.seed / 3 % 2 {
                0 => WhenDisabled::Refuse,
                _ => WhenDisabled::Hold,
            },
            ..Config::new(self.vcpus)
        }
    }

    /// Runs the guest, with a thread for the witness, one that meddles, and the event loop.
    fn play(&self, vm: Vm, ports: &Ports<'_>, meddled: &Mutex<Done>) -> Result<Run> {
        let [draining, over] = [const { AtomicBool::new(false) }; 2];
        let (manager, memory) = (vm.manager().clone(), vm.memory().clone());
        let guest = Guest::new(memory.clone(), FIRST_RING_PORT);
        let events = manager.events()?;
        thread::scope(|scope| {
            let event_loop = scope.spawn(|| event_loop::run(events, &over));
            let meddler = Meddler::new(&manager, self.witness(), self.seed, &draining);
            let meddler = scope.spawn(|| meddler.run(&over, meddled));
            let sender = self.sender(&manager, &guest, &draining);
            let sender = scope.spawn(move || sender.run());
            let mut watch = Watch {
                attack: self,
                manager: &manager,
                guest: &guest,
                memory: &memory,
                ports,
                has_witness: true,
                faults: Vec::new(),
            };
            let ended = vm
                .start()
                .and_then(|running| watch.follow(&running, &draining, || join(sender)));
            draining.store(true, Ordering::SeqCst);
            over.store(true, Ordering::SeqCst);
            watch.keep(join(meddler));
            watch.keep(join(event_loop));
            let (witness, memory) = ended?;
            let faults = watch.faults;
            Ok(Run {
                witness,
                memory,
                faults,
            })
        })
    }

    fn sender<'a>(
        &self,
        manager: &'a Manager,
        guest: &'a Guest,
        over: &'a AtomicBool,
    ) -> Sender<'a> {
        Sender {
            vp: self.witness(),
            manager,
            guest,
            over,
        }
    }
}

fn join<T>(thread: ScopedJoinHandle<'_, Result<T>>) -> Result<T> {
    thread
        .join()
        .map_err(|_| anyhow!("A thread of the attack panicked"))?
}

/// The hostile guest, a multiboot ELF image that `build.rs` has made.
const GUEST: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/guest-hostile.elf"));
/// More than anybody sends.
const ENDLESS: u64 = 1 << 48;
