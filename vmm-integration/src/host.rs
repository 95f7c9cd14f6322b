// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! What the manager asks of this VMM: interrupts, kicks and timers.

use std::any::Any;
use std::fmt;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use anyhow::{Result, ensure};
use kvm_bindings::kvm_msi;
use kvm_ioctls::{VcpuFd, VmFd};
use vm_synic::backend::emulated::{Asserted, SintInjector, VectorSet};
use vm_synic::backend::kvm::{EomNotice, SignalBinding, SintLines};
use vm_synic::{ConnectionId, Host, SintAddr, SintInterrupt, VpIndex};
use vmm_sys_util::eventfd::EventFd;

use crate::backend::{Backend, Irqchip};
use crate::gsi::Routes;
use crate::kick::Kicker;
use crate::reference_time::ReferenceTime;
use crate::timers::VpTimers;
use crate::vm::Manager;
use crate::vmbus::BusHost;

/// Interrupts and kicks the vCPUs of one VM; VP index, APIC id and vCPU number are the same.
pub struct VmHost {
    vm: Arc<VmFd>,
    interrupts: Interrupts,
    kickers: Box<[Kicker]>,
    /// By vCPU, so that counting is not shared.
    exits: Box<[AtomicU64]>,
    writable: OnceLock<OnWritable>,
    time: OnceLock<Arc<ReferenceTime>>,
    timers: OnceLock<VpTimers>,
}

/// Told of each SINT that takes messages again.
pub type OnWritable = Arc<dyn Fn(SintAddr) + Send + Sync>;

/// How SINTs are raised.
#[derive(Debug)]
pub enum Interrupts {
    /// By vector, into the LAPIC.
    Injector(SintInjector),
    /// By a line of KVM's SynIC.
    Lines(SintLines, EomNotice),
}

impl VmHost {
    /// For the vCPUs 0 to `vcpus - 1` of `vm`.
    pub fn new(vm: Arc<VmFd>, vcpus: u32, backend: Backend, irqchip: Irqchip) -> Result<Self> {
        let interrupts = match backend {
            Backend::Emulated => Interrupts::Injector(SintInjector::new(vm.clone(), 0..vcpus)),
            Backend::Kvm(traps) => {
                let routes = Arc::new(Routes::new(vm.clone(), irqchip)?);
                Interrupts::Lines(SintLines::new(vm.clone(), routes, vcpus), traps.eom)
            }
        };
        Ok(Self {
            vm,
            interrupts,
            kickers: (0..vcpus).map(|_| Kicker::default()).collect(),
            exits: (0..vcpus).map(|_| AtomicU64::new(0)).collect(),
            writable: OnceLock::new(),
            time: OnceLock::new(),
            timers: OnceLock::new(),
        })
    }

    /// Introduces the manager and the clock of its timers, before a vCPU runs.
    pub fn attach(&self, manager: &Arc<Manager>, time: Arc<ReferenceTime>) -> Result<()> {
        let _ = self.time.set(time.clone());
        match &self.interrupts {
            Interrupts::Lines(lines, EomNotice::Resample) => lines.resample(manager),
            Interrupts::Lines(_, EomNotice::MsrExit) => {}
            Interrupts::Injector(_) => {
                let manager = Arc::downgrade(manager);
                let due = move |vp| {
                    if let Some(manager) = manager.upgrade() {
                        manager.timer_due(vp);
                    }
                };
                let vcpus = u32::try_from(self.kickers.len())?;
                let _ = (self.timers).set(VpTimers::new(vcpus, move || time.now(), due)?);
            }
        }
        Ok(())
    }

    /// How SINTs are raised.
    pub fn interrupts(&self) -> &Interrupts {
        &self.interrupts
    }

    /// Before each `KVM_RUN`, on the vCPU's thread: brings in the interrupts that wait for it.
    pub fn pre_run(&self, vp: VpIndex, vcpu: &mut VcpuFd) -> Result<()> {
        match &self.interrupts {
            Interrupts::Injector(injector) => Ok(injector.pre_run(vp, vcpu)?),
            Interrupts::Lines(..) => Ok(()),
        }
    }

    /// After `KVM_RUN` has answered to an INIT.
    pub fn prepare(&self, vp: VpIndex, vcpu: &VcpuFd) -> Result<()> {
        match &self.interrupts {
            Interrupts::Injector(injector) => Ok(injector.prepare(vp, vcpu)?),
            Interrupts::Lines(..) => Ok(()),
        }
    }

    /// Forgets the interrupts that wait for a vCPU, which does not run.
    pub fn reset(&self, vp: VpIndex) -> Result<()> {
        match &self.interrupts {
            Interrupts::Injector(injector) => Ok(injector.set_pending(vp, VectorSet::default())?),
            Interrupts::Lines(..) => Ok(()),
        }
    }

    /// The interrupts that wait for a vCPU, which does not run.
    pub fn waiting_vectors(&self, vp: VpIndex) -> Result<VectorSet> {
        match &self.interrupts {
            Interrupts::Injector(injector) => Ok(injector.pending(vp)?),
            Interrupts::Lines(..) => Ok(VectorSet::default()),
        }
    }

    /// Has these wait for it.
    pub fn set_waiting_vectors(&self, vp: VpIndex, vectors: VectorSet) -> Result<()> {
        match &self.interrupts {
            Interrupts::Injector(injector) => Ok(injector.set_pending(vp, vectors)?),
            Interrupts::Lines(..) => {
                let none = vectors == VectorSet::default();
                ensure!(
                    none,
                    "vectors: an interrupt with AutoEOI waits, which KVM cannot be given"
                );
                Ok(())
            }
        }
    }

    /// The kicker of `vp`, if there is such a VP.
    pub fn kicker(&self, vp: VpIndex) -> Option<&Kicker> {
        self.kickers.get(usize::try_from(vp.get()).ok()?)
    }

    /// Kicks every vCPU.
    pub fn kick_all(&self) {
        self.kickers.iter().for_each(Kicker::kick);
    }

    /// Counts an exit of the vCPU to this VMM.
    pub fn count_exit(&self, vp: VpIndex) {
        let index = usize::try_from(vp.get()).unwrap_or(usize::MAX);
        if let Some(exits) = self.exits.get(index) {
            // A statistic: nothing is ordered by it.
            exits.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Interrupts a vCPU by a vector that nothing else has: a message of the VMM's to a guest of its
    /// own.
    pub fn wake(&self, vp: VpIndex, vector: u8) -> io::Result<()> {
        let msi = kvm_msi {
            address_lo: 0xfee0_0000 | vp.get() << 12,
            data: vector.into(),
            ..Default::default()
        };
        self.vm.signal_msi(msi)?;
        Ok(())
    }

    /// Exits of all vCPUs to this VMM so far.
    pub fn exits(&self) -> u64 {
        let exits = self.exits.iter();
        // A statistic, as in `count_exit`.
        exits.map(|exits| exits.load(Ordering::Relaxed)).sum()
    }
}

impl Host for VmHost {
    fn assert_sint(&self, interrupt: SintInterrupt) -> io::Result<()> {
        match &self.interrupts {
            Interrupts::Injector(injector) => {
                if injector.assert(interrupt)? == Asserted::KickNeeded {
                    self.kick(interrupt.addr.vp);
                }
                Ok(())
            }
            Interrupts::Lines(lines, _) => lines.assert(interrupt),
        }
    }

    fn route(&self, addr: SintAddr, vector: Option<u8>) -> io::Result<()> {
        match &self.interrupts {
            Interrupts::Injector(_) => Ok(()),
            Interrupts::Lines(lines, _) => lines.route(addr, vector),
        }
    }

    fn assert_vector(&self, vp: VpIndex, vector: u8) -> io::Result<()> {
        match &self.interrupts {
            Interrupts::Injector(injector) => injector.assert_vector(vp, vector),
            // KVM has timers of its own.
            Interrupts::Lines(..) => Err(io::ErrorKind::Unsupported.into()),
        }
    }

    fn reference_time(&self) -> u64 {
        self.time.get().map_or(0, |time| time.now())
    }

    fn set_timer(&self, vp: VpIndex, deadline: Option<u64>) {
        let set = self.timers.get().map(|timers| timers.set(vp, deadline));
        if let Some(Err(e)) = set {
            log::error!("{e:#}");
        }
    }

    fn kick(&self, vp: VpIndex) {
        if let Some(kicker) = self.kicker(vp) {
            kicker.kick();
        }
    }

    fn writable(&self, addr: SintAddr) {
        if let Some(listener) = self.writable.get() {
            listener(addr);
        }
    }
}

impl BusHost for VmHost {
    /// There is room for one listener.
    fn on_writable(&self, listener: OnWritable) {
        let _ = self.writable.set(listener);
    }

    fn bind_signal(&self, connection: ConnectionId, fd: &EventFd) -> Result<Box<dyn Any + Send>> {
        match &self.interrupts {
            // Each signal exits anyway.
            Interrupts::Injector(_) => Ok(Box::new(())),
            Interrupts::Lines(..) => {
                let binding = SignalBinding::new(self.vm.clone(), connection, fd)?;
                Ok(Box::new(binding))
            }
        }
    }
}

impl fmt::Debug for VmHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VmHost")
            .field("interrupts", &self.interrupts)
            .finish_non_exhaustive()
    }
}
