// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! Looks after the running guest: its phases, its end, and every vCPU getting somewhere.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::Result;

use super::attack::{Attack, Growth, Witness};
use super::counts::{self, Counts};
use super::fuzz_protocol::{PHASE_ALL, PHASE_END};
use super::sender::{PATIENCE, Sent};
use super::{resident, verdict};
use crate::demo::fault::Fault;
use crate::demo::guest::Guest;
use crate::demo::ports::Ports;
use crate::demo::protocol::EXIT_OK;
use crate::memory::Memory;
use crate::vm::{Manager, RunningVm, Stop};

/// Looks after the running guest.
pub struct Watch<'a> {
    pub attack: &'a Attack,
    pub manager: &'a Manager,
    pub guest: &'a Guest,
    pub memory: &'a Memory,
    pub ports: &'a Ports<'a>,
    /// The last VP behaves, and is spared.
    pub has_witness: bool,
    pub faults: Vec<String>,
}

impl Watch<'_> {
    /// Follows the guest through its phases; `sent` waits until the witness has seen all.
    pub fn follow(
        &mut self,
        running: &RunningVm,
        draining: &AtomicBool,
        sent: impl FnOnce() -> Result<Sent>,
    ) -> Result<(Witness, Growth)> {
        let warm = self.hold_out(running)?;
        draining.store(true, Ordering::SeqCst);
        let sent = self.keep(sent()).unwrap_or_default();
        draining.store(false, Ordering::SeqCst);
        let witness = self.witness(sent);
        self.spare_nobody(running)?;
        let end = resident::bytes()?;
        Ok((witness, Growth { warm, end }))
    }

    /// Waits for the time to be over, or for a fault. Measures when a quarter has passed, by which
    /// time every queue and every cache has been full.
    fn hold_out(&mut self, running: &RunningVm) -> Result<u64> {
        let warm = self.wait(running, self.attack.length / 4);
        let bytes = resident::bytes()?;
        if warm {
            self.wait(running, self.attack.length / 4 * 3);
        }
        Ok(bytes)
    }

    /// Lets the witness fuzz, too, and then ends the guest.
    fn spare_nobody(&mut self, running: &RunningVm) -> Result<()> {
        if !self.faults.is_empty() {
            return Ok(());
        }
        self.has_witness = false;
        counts::write_phase(self.memory, PHASE_ALL)?;
        if !self.wait(running, self.attack.length / 8) {
            return Ok(());
        }
        counts::write_phase(self.memory, PHASE_END)?;
        // A vCPU that sleeps when the end comes wakes by whatever it has left for itself: a timer, say.
        match running.wait(Some(6 * PATIENCE)) {
            Some(Stop::Exit(code)) if code == u32::from(EXIT_OK) => {}
            end => self.faults.push(format!("The guest did not end: {end:?}")),
        }
        Ok(())
    }

    /// False if there was a fault before `time` was over.
    fn wait(&mut self, running: &RunningVm, time: Duration) -> bool {
        let end = Instant::now() + time;
        let mut steps = Vec::new();
        let mut looked = Instant::now();
        while Instant::now() < end && self.faults.is_empty() {
            let stop = running.wait(Some(time.min(TICK)));
            self.look(stop);
            if looked.elapsed() > PATIENCE {
                looked = Instant::now();
                self.require_progress(&mut steps);
            }
        }
        self.faults.is_empty()
    }

    fn look(&mut self, stop: Option<Stop>) {
        let crashes = (0..self.attack.vcpus).filter_map(|vp| self.guest.fault(vp));
        self.faults.extend(crashes.map(|fault| fault.to_string()));
        if self.has_witness {
            self.faults.extend(self.inbound_fault());
        }
        if let (Some(stop), true) = (stop, self.faults.is_empty()) {
            self.faults
                .push(format!("The guest came to an early end: {stop:?}"));
        }
    }

    /// A fault of what the witness sent; what fuzzers send is never right.
    fn inbound_fault(&self) -> Option<String> {
        let inbound = self.ports.inbound.get(self.attack.witness() as usize)?;
        let fault: Option<Fault> = inbound.fault();
        Some(format!("To the host: {}", fault?))
    }

    /// Every vCPU gets somewhere.
    fn require_progress(&mut self, before: &mut Vec<u64>) {
        let vps = 0..self.attack.vcpus;
        let now: Vec<u64> = vps.map(|vp| Counts::of(vp, self.memory).steps).collect();
        let stuck = (0..self.attack.vcpus).zip(before.iter().zip(&now));
        let stuck = stuck.filter(|(_, (before, now))| before == now);
        let stuck = stuck.map(|(vp, _)| format!("VP {vp} does nothing any more"));
        self.faults.extend(stuck);
        *before = now;
    }

    fn witness(&self, sent: Sent) -> Witness {
        let vp = self.attack.witness();
        let inbound = self.ports.inbound.get(vp as usize);
        Witness {
            sent,
            guest: self.guest.account(vp),
            received: inbound.map(|i| i.received()).unwrap_or_default(),
            manager: verdict::delivered(&self.manager.snapshot(), vp),
        }
    }

    /// Keeps an error as a fault.
    pub fn keep<T>(&mut self, result: Result<T>) -> Option<T> {
        let error = match result {
            Ok(value) => return Some(value),
            Err(error) => error,
        };
        self.faults.push(format!("{error:#}"));
        None
    }
}

const TICK: Duration = Duration::from_millis(50);
