// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! One run of the demo, from an empty VM to the account of what happened in it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, ScopedJoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};
use vm_synic::{Config, Role, SintCounters, SintIndex, Snapshot, VpSnapshot};

use super::accounts::{self, ManagerTotals, SentTotals, Totals};
use super::event_loop;
use super::fault::{Fault, Kind, What};
use super::guest::{Account, Guest};
use super::inbound::Received;
use super::latency::{Clock, Latency, read_tsc};
use super::outbound::{Outbound, Script, Sent};
use super::plan::Plan;
use super::ports::{FIRST_RING_PORT, Ports};
use super::progress::Progress;
use super::protocol::{EXIT_OK, EXIT_PORT, RAM_SIZE, RING_REPEATS};
use super::tsc;
use crate::backend::{Backend, Irqchip, Wish};
use crate::devices::DebugExit;
use crate::enlightenments::Enlightenments;
use crate::multiboot::Boot;
use crate::vm::{Manager, RunningVm, Stop, Vm, VmConfig};

/// What to play.
pub struct Demo {
    pub plan: Plan,
    pub script: Script,
    /// Who has the SynIC.
    pub backend: Wish,
    /// Where the irqchip is.
    pub irqchip: Irqchip,
    /// Record a timeline of the SynIC.
    pub with_timeline: bool,
    /// How long nothing may move before the demo has failed.
    pub patience: Duration,
}

/// How it went.
pub struct Outcome {
    pub plan: Plan,
    pub backend: Backend,
    pub elapsed: Duration,
    /// The guest came to a stop before its end.
    pub stalled: bool,
    /// Everything that was wrong; empty is success.
    pub faults: Vec<Fault>,
    pub vps: Vec<VpOutcome>,
    pub latency: Latency,
    pub snapshot: Snapshot,
    pub trace: Option<serde_json::Value>,
}

/// How it went on one VP.
pub struct VpOutcome {
    pub vp: u32,
    pub guest: Account,
    pub sent: Sent,
    pub received: Received,
}

impl Demo {
    /// The demo as planned, with nothing wrong sent.
    pub fn new(plan: Plan) -> Self {
        Self {
            plan,
            script: Script::default(),
            backend: Wish::default(),
            irqchip: Irqchip::default(),
            with_timeline: false,
            patience: Duration::from_secs(5),
        }
    }

    /// Plays it.
    ///
    /// # Errors
    /// The host's side failed. What the guest finds wrong is in the outcome.
    pub fn play(&self) -> Result<Outcome> {
        let start = (read_tsc(), Instant::now());
        let vm = self.build()?;
        let same_tsc = vm.vcpus().iter().all(|vcpu| tsc::align(vcpu).is_ok());
        let (manager, backend) = (vm.manager().clone(), vm.backend());
        let ports = Ports::register(&manager, &self.plan, &self.script)?;
        let guest = Guest::new(vm.memory().clone(), FIRST_RING_PORT);
        self.plan.write(vm.memory().as_ref(), FIRST_RING_PORT)?;

        let (ended, sent) = self.run(vm, &guest, &ports)?;
        let clock = Clock::since(start.0, start.1);
        let latency = same_tsc.then(|| Latency::of(&guest, &sent, &clock));
        let vps: Vec<_> = sent
            .into_iter()
            .map(|sent| VpOutcome::new(sent, &guest, &ports))
            .collect();
        let snapshot = manager.snapshot();
        Ok(Outcome {
            plan: self.plan,
            elapsed: start.1.elapsed(),
            stalled: matches!(ended, Ended::Stalled),
            faults: self.judge(ended, &vps, &snapshot, backend),
            backend,
            vps,
            latency: latency.unwrap_or_default(),
            trace: self.with_timeline.then(|| manager.chrome_trace()),
            snapshot,
        })
    }

    fn build(&self) -> Result<Vm> {
        let synic = Config {
            // VMBus and MSHV in the same guest.
            role: Role::L1vh,
            timeline_depth: if self.with_timeline {
                TIMELINE_DEPTH
            } else {
                0
            },
            ..Config::new(self.plan.vps)
        };
        let mut vm = Vm::new(&VmConfig {
            vcpus: self.plan.vps,
            memory_mib: (RAM_SIZE >> 20) as u32,
            synic,
            backend: self.backend,
            irqchip: self.irqchip,
            enlightenments: Enlightenments::default(),
        })?;
        vm.add_device(EXIT_PORT..=EXIT_PORT, Arc::new(DebugExit));
        vm.load(Boot {
            image: GUEST,
            cmdline: "demo",
            module: None,
        })?;
        Ok(vm)
    }

    /// Runs the guest to its end, with a thread for what each VP is sent and one for the loop.
    fn run(&self, vm: Vm, guest: &Guest, ports: &Ports<'_>) -> Result<(Ended, Vec<Sent>)> {
        let over = AtomicBool::new(false);
        let manager = vm.manager().clone();
        let events = manager.events()?;
        thread::scope(|scope| {
            let event_loop = scope.spawn(|| event_loop::run(events, &over));
            let senders: Vec<_> = self
                .plan
                .vps()
                .map(|vp| self.sender(vp, &manager, guest, &over))
                .map(|sender| scope.spawn(|| sender.run()))
                .collect();
            let ended = vm
                .start()
                .and_then(|running| self.watch(&running, guest, ports, &over));
            over.store(true, Ordering::SeqCst);
            let sent = senders.into_iter().map(join).collect::<Result<Vec<_>>>();
            join(event_loop)?;
            Ok((ended?, sent?))
        })
    }

    fn sender<'a>(
        &self,
        vp: u32,
        manager: &'a Manager,
        guest: &'a Guest,
        over: &'a AtomicBool,
    ) -> Outbound<'a> {
        Outbound {
            vp,
            plan: self.plan,
            manager,
            guest,
            script: self.script,
            over,
        }
    }

    /// Waits for the guest's end, a fault on the host's side, or for nothing to move any more.
    fn watch(
        &self,
        running: &RunningVm,
        guest: &Guest,
        ports: &Ports<'_>,
        over: &AtomicBool,
    ) -> Result<Ended> {
        let first_fault = || {
            let of_guest = self.plan.vps().find_map(|vp| guest.fault(vp));
            of_guest.or_else(|| ports.inbound.iter().find_map(|inbound| inbound.fault()))
        };
        let mut progress = Progress::new(&self.plan);
        let mut ended = Ended::Stalled;
        while !over.load(Ordering::SeqCst) && first_fault().is_none() {
            match running.wait(Some(Duration::from_millis(50))) {
                Some(Stop::Exit(code)) if code == u32::from(EXIT_OK) => ended = Ended::Done,
                Some(Stop::Exit(_) | Stop::PowerOff | Stop::Reset) => {}
                Some(Stop::TripleFault(vp)) => ended = Ended::TripleFault(vp.get()),
                Some(Stop::Failed(error)) => return Err(error),
                None if progress.update(self.plan.vps().map(|vp| guest.account(vp)))
                    < self.patience =>
                {
                    continue;
                }
                None => {}
            }
            break;
        }
        Ok(first_fault().map_or(ended, Ended::Fault))
    }

    /// The fault that ended it, or whatever the totals show.
    fn judge(
        &self,
        ended: Ended,
        vps: &[VpOutcome],
        snapshot: &Snapshot,
        backend: Backend,
    ) -> Vec<Fault> {
        match ended {
            Ended::Fault(fault) => vec![fault],
            Ended::TripleFault(vp) => vec![Fault {
                vp,
                sint: None,
                what: What::TripleFault,
                kind: Kind::Corrupted,
                expected: 0,
                got: 0,
            }],
            Ended::Done | Ended::Stalled => {
                let totals = vps.iter().map(|vp| vp.totals(snapshot, backend));
                totals
                    .flat_map(|totals| accounts::check(&self.plan, &totals))
                    .collect()
            }
        }
    }
}

/// How the guest came to its end.
enum Ended {
    /// Every VP has seen and sent what was planned.
    Done,
    /// A delivery was not the one that had to come.
    Fault(Fault),
    TripleFault(u32),
    /// Nothing moved any more; the totals tell what is missing.
    Stalled,
}

impl VpOutcome {
    fn new(sent: Sent, guest: &Guest, ports: &Ports<'_>) -> Self {
        let vp = sent.vp;
        let inbound = ports.inbound.get(vp as usize);
        Self {
            vp,
            guest: guest.account(vp),
            received: inbound
                .map(|inbound| inbound.received())
                .unwrap_or_default(),
            sent,
        }
    }

    fn totals(&self, snapshot: &Snapshot, backend: Backend) -> Totals {
        let vp = snapshot.vps.iter().find(|vp| vp.index.get() == self.vp);
        Totals {
            vp: self.vp,
            guest: self.guest,
            sent: SentTotals {
                messages: self.sent.messages,
                flags: self.sent.flags,
            },
            received: self.received,
            manager: vp.map(|vp| manager_totals(vp, backend)).unwrap_or_default(),
        }
    }
}

fn manager_totals(vp: &VpSnapshot, backend: Backend) -> ManagerTotals {
    let ring = vp.plain.counters(SintIndex::DOORBELL).ring;
    ManagerTotals {
        rung: ring.rung,
        entered: ring.entered.saturating_sub(ring.reclaimed),
        coalesced: ring.coalesced,
        eoms: backend.sees_eom().then_some(vp.plain.eoms),
        violations: vp.violation_count,
    }
}

impl Outcome {
    /// Messages in all, both ways.
    pub fn messages(&self) -> u64 {
        2 * self.plan.messages * u64::from(self.plan.vps)
    }

    /// Event flags in all, both ways.
    pub fn flags(&self) -> u64 {
        2 * self.plan.flags * u64::from(self.plan.vps)
    }

    /// Doorbells in all, to rings and to the event loop.
    pub fn doorbells(&self) -> u64 {
        let per_vp = self.plan.ring_entries() + RING_REPEATS + self.plan.vmm_rings;
        per_vp * u64::from(self.plan.vps)
    }

    /// The manager's counters of a SINT.
    pub fn counters(&self, vp: u32, sint: SintIndex) -> SintCounters {
        let vp = self
            .snapshot
            .vps
            .iter()
            .find(|snapshot| snapshot.index.get() == vp);
        vp.map(|vp| vp.plain.counters(sint)).unwrap_or_default()
    }
}

fn join<T>(thread: ScopedJoinHandle<'_, Result<T>>) -> Result<T> {
    thread
        .join()
        .map_err(|_| anyhow!("A thread of the demo panicked"))?
}

/// The demo guest, a multiboot ELF image that `build.rs` has made.
const GUEST: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/guest.elf"));

/// Events of the timeline per VP: all of a demo with default options.
const TIMELINE_DEPTH: usize = 1 << 16;
