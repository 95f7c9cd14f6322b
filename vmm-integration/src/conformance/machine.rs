// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! A VM whose guest does as it is told.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use vm_memory::{Bytes, GuestAddress};
use vm_synic::test_utils::conformance::Machine;
use vm_synic::{Config, HypercallInput, MsrError, SintAddr, SynicManager, VpIndex};

use super::mailbox::*;
use crate::backend::{Irqchip, Wish};
use crate::demo::protocol::RAM_SIZE;
use crate::enlightenments::Enlightenments;
use crate::host::VmHost;
use crate::memory::Memory;
use crate::multiboot::Boot;
use crate::vm::{Manager, RunningVm, Vm, VmConfig};
use crate::vmbus::BusHost;

/// The VM. What a case cannot do with it is a failure of the case: it panics.
pub struct Puppet {
    manager: Arc<Manager>,
    host: Arc<VmHost>,
    memory: Memory,
    running: RunningVm,
    writable: Arc<Mutex<Vec<SintAddr>>>,
    asked: u64,
    /// By VP: how many interrupts were taken.
    taken: [u64; 2],
}

impl Puppet {
    /// Starts it, and waits until its VPs are up.
    pub fn start(config: Config, backend: Wish, irqchip: Irqchip) -> Result<Self> {
        let mut vm = Vm::new(&VmConfig {
            vcpus: VPS,
            memory_mib: u32::try_from(RAM_SIZE >> 20)?,
            synic: config,
            backend,
            irqchip,
            enlightenments: Enlightenments::default(),
        })?;
        vm.load(Boot {
            image: GUEST,
            cmdline: "",
            module: None,
        })?;
        let writable: Arc<Mutex<Vec<SintAddr>>> = Arc::default();
        let told = writable.clone();
        vm.host()
            .on_writable(Arc::new(move |addr| lock(&told).push(addr)));
        let puppet = Self {
            manager: vm.manager().clone(),
            host: vm.host().clone(),
            memory: vm.memory().clone(),
            running: vm.start()?,
            writable,
            asked: 0,
            taken: [0; 2],
        };
        for vp in 0..VPS {
            puppet
                .wait(VpIndex::new(vp), IS_UP, 1)
                .context("The guest does not start")?;
        }
        Ok(puppet)
    }

    /// Has a VP do something; gives what came of it, `None` for #GP.
    fn ask(&mut self, vp: VpIndex, operation: u64, arguments: [u64; 2]) -> Option<u64> {
        self.try_ask(vp, operation, arguments)
            .expect("the guest answers")
    }

    fn try_ask(
        &mut self,
        vp: VpIndex,
        operation: u64,
        [first, second]: [u64; 2],
    ) -> Result<Option<u64>> {
        let faults = self.load(vp, FAULTS)?;
        self.asked += 1;
        let words = [operation, first, second];
        for (offset, word) in [OPERATION, ARGUMENTS, ARGUMENTS + 8].into_iter().zip(words) {
            self.store(vp, offset, word)?;
        }
        self.store(vp, ASKED, self.asked)?;
        self.host.wake(vp, WAKE_VECTOR)?;
        self.wait(vp, DONE, self.asked)?;
        let result = self.load(vp, RESULT)?;
        Ok((self.load(vp, FAULTS)? == faults).then_some(result))
    }

    /// Waits until a word of a VP's mailbox has come to a value.
    fn wait(&self, vp: VpIndex, offset: usize, value: u64) -> Result<()> {
        let start = Instant::now();
        while self.load(vp, offset)? < value {
            if let Some(stop) = self.running.wait(Some(LOOK)) {
                anyhow::bail!("The guest has ended: {stop:?}");
            }
            anyhow::ensure!(start.elapsed() < PATIENCE, "{vp} does not answer");
        }
        Ok(())
    }

    /// All that may still change by itself.
    fn state(&self) -> String {
        let [first, second] = [0, 1].map(|vp| self.load(VpIndex::new(vp), INTERRUPTS).ok());
        let vps = self.manager.snapshot().vps;
        let synics: Vec<_> = vps.iter().map(|vp| &vp.plain).collect();
        format!("{first:?} {second:?} {synics:?}")
    }

    fn load(&self, vp: VpIndex, offset: usize) -> Result<u64> {
        let gpa = GuestAddress(mailbox_gpa(vp.get()) + offset as u64);
        // Acquire: pairs with the guest's Release of what it has done.
        Ok(self.memory.load(gpa, Ordering::Acquire)?)
    }

    fn store(&self, vp: VpIndex, offset: usize, value: u64) -> Result<()> {
        let gpa = GuestAddress(mailbox_gpa(vp.get()) + offset as u64);
        // Release: pairs with the guest's Acquire of `asked`, which is stored last.
        Ok(self.memory.store(value, gpa, Ordering::Release)?)
    }
}

impl Machine for Puppet {
    type Space = Memory;

    fn manager(&self) -> &Arc<SynicManager<Memory>> {
        &self.manager
    }

    fn space(&self) -> &Memory {
        &self.memory
    }

    fn pages(&self, vp: VpIndex) -> u64 {
        pages_gpa(vp.get())
    }

    fn rdmsr(&mut self, vp: VpIndex, msr: u32) -> Result<u64, MsrError> {
        self.ask(vp, READ_MSR, [msr.into(), 0])
            .ok_or(MsrError::Fault)
    }

    fn wrmsr(&mut self, vp: VpIndex, msr: u32, value: u64) -> Result<(), MsrError> {
        let written = self.ask(vp, WRITE_MSR, [msr.into(), value]);
        written.map(|_| ()).ok_or(MsrError::Fault)
    }

    fn hypercall(&mut self, vp: VpIndex, input: HypercallInput) -> u64 {
        let result = self.ask(vp, HYPERCALL, [input.control, input.input]);
        result.expect("a hypercall does not fault")
    }

    /// Until nothing has changed for a while. Each VP leaves the guest and comes back meanwhile, and
    /// takes what interrupts it before it answers.
    fn settle(&mut self) {
        let mut calm = 0;
        let mut before = self.state();
        while calm < CALM {
            for vp in [0, 1].map(VpIndex::new) {
                let _ = self.ask(vp, NOTHING, [0; 2]);
            }
            thread::sleep(PAUSE);
            let now = self.state();
            calm = if now == before { calm + 1 } else { 0 };
            before = now;
        }
    }

    fn take_interrupts(&mut self, vp: VpIndex) -> Vec<u8> {
        let count = self.load(vp, INTERRUPTS).expect("the mailbox is RAM");
        let taken = usize::try_from(vp.get())
            .ok()
            .and_then(|vp| self.taken.get_mut(vp));
        let taken = taken.expect("a VP of the two");
        let new = std::mem::replace(taken, count)..count;
        let vectors = new.map(|number| VECTOR_0 + number as usize % VECTORS * 8);
        let vectors = vectors.map(|offset| self.load(vp, offset).expect("the mailbox is RAM"));
        vectors.map(|vector| vector as u8).collect()
    }

    fn take_writable(&mut self) -> Vec<SintAddr> {
        std::mem::take(&mut *lock(&self.writable))
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

const GUEST: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/guest-puppet.elf"));
const ASKED: usize = std::mem::offset_of!(Mailbox, asked);
const OPERATION: usize = std::mem::offset_of!(Mailbox, operation);
const ARGUMENTS: usize = std::mem::offset_of!(Mailbox, arguments);
const DONE: usize = std::mem::offset_of!(Mailbox, done);
const RESULT: usize = std::mem::offset_of!(Mailbox, result);
const FAULTS: usize = std::mem::offset_of!(Mailbox, faults);
const INTERRUPTS: usize = std::mem::offset_of!(Mailbox, interrupts);
const VECTOR_0: usize = std::mem::offset_of!(Mailbox, vectors);
const IS_UP: usize = std::mem::offset_of!(Mailbox, is_up);
const VPS: u32 = 2;
const LOOK: Duration = Duration::from_micros(100);
const PATIENCE: Duration = Duration::from_secs(30);
/// So often in a row nothing has changed, after a pause each.
const CALM: u32 = 3;
const PAUSE: Duration = Duration::from_millis(2);
