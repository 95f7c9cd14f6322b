// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! A VM while its vCPUs run.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use kvm_ioctls::VcpuFd;
use vm_synic::{Error, VpIndex};

use super::{Machine, Shared, Vm};
use crate::event_loop::EventLoop;
use crate::vcpu;

/// Why a VM came to its end by itself.
#[derive(Debug)]
pub enum Stop {
    /// The guest wrote this value to the exit device.
    Exit(u32),
    /// The guest turned the machine off.
    PowerOff,
    /// The guest reset the machine.
    Reset,
    /// A vCPU shut down, which is what a triple fault does.
    TripleFault(VpIndex),
    /// A vCPU cannot go on; the message names it and the exit.
    Failed(anyhow::Error),
}

/// A VM whose vCPUs run; dropping it stops them.
pub struct RunningVm {
    threads: Vec<JoinHandle<VcpuFd>>,
    stops: Receiver<Stop>,
    shared: Shared,
    machine: Machine,
    /// `None` where the VMM's user serves the manager's events.
    _events: Option<EventLoop>,
}

impl RunningVm {
    /// Starts a thread for each vCPU.
    pub(super) fn start(vm: Vm) -> Result<Self> {
        let (sender, stops) = mpsc::channel();
        vm.shared.stopping.store(false, Ordering::SeqCst);
        let manager = &vm.shared.manager;
        // After a save or a restore; otherwise there is nothing to resume.
        manager.resume();
        let events = match manager.events() {
            Ok(events) => Some(EventLoop::start(manager, events)?),
            Err(Error::EventsTaken) => None,
            Err(e) => return Err(e.into()),
        };
        // From here on, dropping `running` stops and joins the threads that have been started.
        let mut running = Self {
            threads: Vec::new(),
            stops,
            shared: vm.shared,
            machine: vm.machine,
            _events: events,
        };
        for (index, vcpu) in (0..).zip(vm.vcpus) {
            running.spawn(VpIndex::new(index), vcpu, sender.clone())?;
        }
        Ok(running)
    }

    /// Waits until the guest ends the VM or a vCPU cannot go on; `None` when `timeout` is over.
    pub fn wait(&self, timeout: Option<Duration>) -> Option<Stop> {
        let stop = match timeout {
            Some(timeout) => self.stops.recv_timeout(timeout),
            None => self.stops.recv().map_err(Into::into),
        };
        match stop {
            Ok(stop) => Some(stop),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => Some(Stop::Failed(anyhow!(
                "All vCPU threads ended without a reason"
            ))),
        }
    }

    /// Makes every vCPU leave the guest, and waits until it has. What is left can be looked at, or
    /// reset, loaded and started again.
    pub fn stop(mut self) -> Result<Vm> {
        let wanted = self.threads.len();
        let vcpus = self.join();
        ensure!(vcpus.len() == wanted, "A vCPU was lost with its thread");
        Ok(Vm {
            shared: self.shared.clone(),
            vcpus,
            machine: self.machine.clone(),
        })
    }

    fn spawn(&mut self, vp: VpIndex, mut vcpu: VcpuFd, sender: Sender<Stop>) -> Result<()> {
        let shared = self.shared.clone();
        let run = move || {
            let result = catch_unwind(AssertUnwindSafe(|| vcpu::run(vp, &mut vcpu, &shared)));
            let panicked = || Some(Stop::Failed(anyhow!("The thread of {vp} panicked")));
            if let Some(stop) = result.unwrap_or_else(|_| panicked()) {
                // The receiver is only gone when the VM is being dropped.
                let _ = sender.send(stop);
            }
            vcpu
        };
        let thread = std::thread::Builder::new()
            .name(format!("vcpu{}", vp.get()))
            .spawn(run)
            .with_context(|| format!("Cannot start the thread of {vp}"))?;
        self.threads.push(thread);
        Ok(())
    }

    fn join(&mut self) -> Vec<VcpuFd> {
        self.shared.stopping.store(true, Ordering::SeqCst);
        self.shared.host.kick_all();
        // A panic has been reported by the thread itself.
        let vcpus = self.threads.drain(..).map(JoinHandle::join);
        vcpus.filter_map(Result::ok).collect()
    }
}

impl Drop for RunningVm {
    fn drop(&mut self) {
        self.join();
    }
}
