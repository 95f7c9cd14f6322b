// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! Plays a sequence: one register write at a time, on each VP in turn, and traffic after each.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail, ensure};
use vm_memory::{Bytes, GuestAddress};
use vm_synic::abi::{Register, RegisterId};
use vm_synic::ownership::{Entry, Owner};
use vm_synic::{
    Config, DoorbellTarget, Host, Message, MessageType, PortId, PostError, Role, SintAddr,
    SintIndex, Snapshot, VpIndex,
};

use super::TeardownArgs;
use super::mailbox::{Mailbox, WAKE_VECTOR, mailbox_gpa};
use super::sequence::{Part, Write};
use crate::backend::{Irqchip, Wish};
use crate::boot::vcpus::VcpuState;
use crate::demo::protocol::{EXIT_PORT, RAM_SIZE};
use crate::devices::DebugExit;
use crate::enlightenments::Enlightenments;
use crate::host::VmHost;
use crate::memory::Memory;
use crate::multiboot::Boot;
use crate::vm::{Manager, RunningVm, Vm, VmConfig};

/// What a sequence has left.
pub struct Played {
    /// What the SynIC says.
    pub synic: Snapshot,
    /// The traffic, by VP.
    pub traffic: Vec<Traffic>,
    /// The writes that broke a rule, in the order in which they were made.
    pub broken: Vec<Broken>,
    /// The timeline in the Chrome trace format, if that was asked for.
    pub trace: Option<serde_json::Value>,
}

/// A write that broke a rule, and what was in the register afterwards.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Broken {
    /// What the ledger says.
    pub entry: Entry,
    /// Read once the guest was past the write.
    pub held: u64,
}

impl Broken {
    /// Whether the write changed the register; `None` for one of the value that was there.
    pub fn took_effect(&self) -> Option<bool> {
        let Entry { before, after, .. } = self.entry;
        (before != after).then_some(self.held == after)
    }
}

/// What was for one VP, and what it got.
#[derive(Clone, Copy, Debug, Default, serde::Serialize)]
pub struct Traffic {
    /// Messages that were accepted for SINT2, and such as were not because the SynIC was off.
    pub accepted: u64,
    pub refused: u64,
    /// Messages that the guest has taken, and how many of them were not the next one.
    pub taken: u64,
    pub disorder: u64,
    /// Doorbells rung, and seen.
    pub rung: u64,
    pub seen: u64,
    /// Register writes of the guest that ended in #GP.
    pub faults: u64,
}

struct Stage {
    manager: Arc<Manager>,
    host: Arc<VmHost>,
    memory: Memory,
    running: RunningVm,
    asked: u64,
    traffic: Vec<Traffic>,
    broken: Vec<Broken>,
}

/// Does it.
pub fn play(args: &TeardownArgs) -> Result<Played> {
    let mut stage = Stage::set(args)?;
    match stage.play_all(args) {
        Ok(()) => stage.end(args),
        Err(e) => Err(e.context(stage.vcpus()?)),
    }
}

impl Stage {
    fn play_all(&mut self, args: &TeardownArgs) -> Result<()> {
        self.on_each(|stage, vp| stage.wait("the guest to start", vp, IS_UP, 1))?;
        let parts = args.sequence.parts();
        let mut parts = parts.iter();
        parts.try_for_each(|part| self.play(part, args.sequence.role()))
    }

    /// Stops them, and says where each was.
    fn vcpus(self) -> Result<String> {
        let vm = self.running.stop()?;
        let states = vm.vcpus().iter().map(VcpuState::of);
        let states = states.collect::<Result<Vec<_>>>()?;
        let states = (0..).map(VpIndex::new).zip(states);
        let states = states.map(|(vp, state)| format!("{vp} {state}"));
        Ok(states.collect::<Vec<_>>().join("; "))
    }

    fn set(args: &TeardownArgs) -> Result<Self> {
        let mut synic = Config::new(args.vcpus);
        synic.role = args.sequence.role();
        synic.violations = args.policy.into();
        if args.trace.is_some() {
            synic.timeline_depth = TIMELINE_DEPTH;
        }
        let mut vm = Vm::new(&VmConfig {
            vcpus: args.vcpus,
            memory_mib: MEMORY_MIB,
            synic,
            backend: Wish::Emulated,
            irqchip: Irqchip::Split,
            enlightenments: Enlightenments::default(),
        })?;
        vm.add_device(EXIT_PORT..=EXIT_PORT, Arc::new(DebugExit));
        vm.load(Boot {
            image: GUEST,
            cmdline: "",
            module: None,
        })?;
        let (manager, host, memory) =
            (vm.manager().clone(), vm.host().clone(), vm.memory().clone());
        Ok(Self {
            manager,
            host,
            memory,
            running: vm.start()?,
            asked: 0,
            traffic: vec![Traffic::default(); args.vcpus as usize],
            broken: Vec::new(),
        })
    }

    fn play(&mut self, part: &Part, role: Role) -> Result<()> {
        let mut vmbus_is_up = part.vmbus_is_up;
        for write in part.writes {
            if vmbus_is_up {
                self.on_each(Self::post)?;
            }
            self.asked += 1;
            self.on_each(|stage, vp| stage.write(vp, *write))?;
            // VMBus expects nothing more once it has begun to leave.
            vmbus_is_up &= part.owner != Owner::VmBus;
        }
        if role == Role::Root {
            self.on_each(Self::ring)?;
        }
        Ok(())
    }

    /// Has a VP write a register, and waits until it has.
    fn write(&mut self, vp: u32, write: Write) -> Result<()> {
        let words = write.on(vp).context("The register has no MSR")?;
        for (offset, value) in [MSR, KEEP, SET].into_iter().zip(words) {
            self.store(vp, offset, value)?;
        }
        self.store(vp, ASKED, self.asked)?;
        self.host.assert_vector(VpIndex::new(vp), WAKE_VECTOR)?;
        let what = format!("a write to {}", write.register);
        self.wait(&what, vp, DONE, self.asked)?;
        self.read_back(vp, RegisterId::plain(write.register))
    }

    /// Notes the last write if it broke a rule.
    fn read_back(&mut self, vp: u32, register: RegisterId) -> Result<()> {
        let held = self.manager.read_register(VpIndex::new(vp), register)?;
        let vps = self.manager.snapshot().vps;
        let vp = vps.into_iter().find(|there| there.index.get() == vp);
        let last = vp.and_then(|mut vp| vp.ledger.pop());
        let entry = last.context("The ledger has nothing of a write")?;
        ensure!(entry.register == register, "The ledger has {entry} last");
        if entry.violation.is_some() {
            self.broken.push(Broken { entry, held });
        }
        Ok(())
    }

    /// Posts the next message, and waits until the guest has it, if it was accepted.
    fn post(&mut self, vp: u32) -> Result<()> {
        let addr = SintAddr::new(VpIndex::new(vp), SintIndex::VMBUS);
        let accepted = self.traffic_of(vp)?.accepted;
        let message = Message::new(MessageType::VMBUS, &accepted.to_le_bytes())?;
        match self.manager.post_message(addr, &message) {
            Ok(_) => {
                self.traffic_of(vp)?.accepted += 1;
                self.wait("a message", vp, MESSAGES, accepted + 1)
            }
            Err(PostError::NotReady { .. }) => {
                self.traffic_of(vp)?.refused += 1;
                Ok(())
            }
            Err(e) => Err(e.into()),
        }
    }

    /// Rings a doorbell on the VP, and waits until it is seen, if the ring is on.
    fn ring(&mut self, vp: u32) -> Result<()> {
        let sirbp = RegisterId::plain(Register::Sirbp);
        let value = self.manager.read_register(VpIndex::new(vp), sirbp)?;
        if !sirbp.register.is_on(value) {
            return Ok(());
        }
        let port = PortId::new(1 + vp).context("Port id out of range")?;
        let target = DoorbellTarget::Vp(VpIndex::new(vp));
        self.manager
            .ring_doorbell(target, SintIndex::DOORBELL, port)?;
        let traffic = self.traffic_of(vp)?;
        traffic.rung += 1;
        let rung = traffic.rung;
        self.wait("a doorbell", vp, DOORBELLS, rung)
    }

    fn end(mut self, args: &TeardownArgs) -> Result<Played> {
        self.on_each(|stage, vp| {
            let [taken, disorder, seen, faults] =
                [MESSAGES, DISORDER, DOORBELLS, FAULTS].map(|offset| stage.load(vp, offset));
            let traffic = stage.traffic_of(vp)?;
            (traffic.taken, traffic.disorder) = (taken?, disorder?);
            (traffic.seen, traffic.faults) = (seen?, faults?);
            Ok(())
        })?;
        self.running.stop()?;
        Ok(Played {
            synic: self.manager.snapshot(),
            traffic: self.traffic,
            broken: self.broken,
            trace: args.trace.is_some().then(|| self.manager.chrome_trace()),
        })
    }

    fn on_each(&mut self, mut act: impl FnMut(&mut Self, u32) -> Result<()>) -> Result<()> {
        let vps = u32::try_from(self.traffic.len())?;
        (0..vps).try_for_each(|vp| act(self, vp))
    }

    fn traffic_of(&mut self, vp: u32) -> Result<&mut Traffic> {
        self.traffic.get_mut(vp as usize).context("No such VP")
    }

    /// Waits until a word of a VP's mailbox has come to a value.
    fn wait(&mut self, what: &str, vp: u32, offset: usize, value: u64) -> Result<()> {
        let start = Instant::now();
        while self.load(vp, offset)? < value {
            if let Some(stop) = self.running.wait(Some(LOOK)) {
                return Err(anyhow!(
                    "The guest ended while waiting for {what}: {stop:?}"
                ));
            }
            if start.elapsed() > PATIENCE {
                bail!("VP {vp} does not come to {what}");
            }
            thread::yield_now();
        }
        Ok(())
    }

    fn load(&self, vp: u32, offset: usize) -> Result<u64> {
        let gpa = GuestAddress(mailbox_gpa(vp) + offset as u64);
        // Acquire: pairs with the guest's Release of what it has done.
        Ok(self.memory.load(gpa, Ordering::Acquire)?)
    }

    fn store(&self, vp: u32, offset: usize, value: u64) -> Result<()> {
        let gpa = GuestAddress(mailbox_gpa(vp) + offset as u64);
        // Release: pairs with the guest's Acquire of `asked`, which is stored last.
        Ok(self.memory.store(value, gpa, Ordering::Release)?)
    }
}

const GUEST: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/guest-teardown.elf"));
const ASKED: usize = std::mem::offset_of!(Mailbox, asked);
const MSR: usize = std::mem::offset_of!(Mailbox, msr);
const KEEP: usize = std::mem::offset_of!(Mailbox, keep);
const SET: usize = std::mem::offset_of!(Mailbox, set);
const DONE: usize = std::mem::offset_of!(Mailbox, done);
const FAULTS: usize = std::mem::offset_of!(Mailbox, faults);
const MESSAGES: usize = std::mem::offset_of!(Mailbox, messages);
const DISORDER: usize = std::mem::offset_of!(Mailbox, disorder);
const DOORBELLS: usize = std::mem::offset_of!(Mailbox, doorbells);
const IS_UP: usize = std::mem::offset_of!(Mailbox, is_up);
const LOOK: Duration = Duration::from_micros(200);
pub const MEMORY_MIB: u32 = (RAM_SIZE >> 20) as u32;
const PATIENCE: Duration = Duration::from_secs(30);
const TIMELINE_DEPTH: usize = 4096;
