// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! One virtual machine: KVM's part, memory, ports, and the SynIC of its vCPUs.

use std::ops::RangeInclusive;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use kvm_bindings::{KVM_CAP_SPLIT_IRQCHIP, kvm_enable_cap};
use kvm_ioctls::{Cap, Kvm, VcpuFd, VmFd};
use vm_synic::backend::emulated;
use vm_synic::{Config, SynicManager, VpIndex};

use crate::cpuid::Cpuid;
use crate::devices::{PortBus, PortDevice};
use crate::host::VmHost;
use crate::memory::{self, Memory};
use crate::multiboot::{self, Boot};
use crate::reference_time::ReferenceTime;
use crate::{kick, vcpu};

/// The SynIC manager of a VM here.
pub type Manager = SynicManager<Memory>;

/// What a VM is made of.
#[derive(Clone, Debug)]
pub struct VmConfig {
    /// Number of vCPUs, at least 1.
    pub vcpus: u32,
    /// RAM from GPA 0, in MiB.
    pub memory_mib: u32,
    /// How the SynIC behaves; for at least as many VPs.
    pub synic: Config,
}

/// A VM that does not run yet.
pub struct Vm {
    shared: Shared,
    vcpus: Vec<VcpuFd>,
    memory_mib: u32,
}

/// What every vCPU's thread has.
#[derive(Clone)]
pub(crate) struct Shared {
    pub manager: Arc<Manager>,
    pub host: Arc<VmHost>,
    pub ports: PortBus,
    /// Where the hypercall page that the manager writes sends the guest.
    pub hypercall_port: u16,
    pub stopping: Arc<AtomicBool>,
    pub time: Arc<ReferenceTime>,
    pub memory: Memory,
}

/// Why a VM came to its end by itself.
#[derive(Debug)]
pub enum Stop {
    /// The guest wrote this value to the exit device.
    Exit(u32),
    /// A vCPU shut down, which is what a triple fault does.
    TripleFault(VpIndex),
    /// A vCPU cannot go on; the message names it and the exit.
    Failed(anyhow::Error),
}

impl Vm {
    /// Creates the VM and its vCPUs; vCPU 0 is the one that boots, the others wait for INIT and
    /// SIPI.
    pub fn new(config: &VmConfig) -> Result<Self> {
        kick::install_signal_handler()?;
        let kvm = open_kvm()?;
        check_vcpus(&kvm, config.vcpus)?;
        let vm = Arc::new(create_vm(&kvm)?);
        let memory = memory::allocate(&vm, config.memory_mib)?;
        let host = Arc::new(VmHost::new(vm.clone(), config.vcpus));
        let manager = SynicManager::new(config.synic.clone(), memory.clone(), host.clone());
        let cpuid = Cpuid::new(&kvm, config.vcpus)?;
        let vcpus = (0..config.vcpus)
            .map(|index| create_vcpu(&vm, &manager, &cpuid, index))
            .collect::<Result<Vec<_>>>()?;
        let first = vcpus.first().context("The VM has no vCPU")?;
        let shared = Shared {
            manager,
            host,
            ports: PortBus::default(),
            hypercall_port: u16::from(config.synic.hypercall_port),
            stopping: Arc::default(),
            time: Arc::new(ReferenceTime::new(first)?),
            memory,
        };
        Ok(Self {
            shared,
            vcpus,
            memory_mib: config.memory_mib,
        })
    }

    /// The SynIC of all vCPUs.
    pub fn manager(&self) -> &Arc<Manager> {
        &self.shared.manager
    }

    /// What the manager calls to interrupt or kick.
    pub fn host(&self) -> &Arc<VmHost> {
        &self.shared.host
    }

    /// The vCPUs, by VP index, to be set up further before they run.
    pub fn vcpus(&self) -> &[VcpuFd] {
        &self.vcpus
    }

    #[cfg(test)]
    pub(crate) fn into_vcpus(self) -> (Vec<VcpuFd>, Memory) {
        (self.vcpus, self.shared.memory)
    }

    /// Guest RAM.
    pub fn memory(&self) -> &Memory {
        &self.shared.memory
    }

    /// Adds a device on I/O ports. The hypercall port is not one: it is served before any device.
    pub fn add_device(&mut self, ports: RangeInclusive<u16>, device: Arc<dyn PortDevice>) {
        self.shared.ports.add(ports, device);
    }

    /// Loads a multiboot image and has vCPU 0 begin there.
    pub fn load(&mut self, boot: Boot<'_>) -> Result<()> {
        let size = u64::from(self.memory_mib) << 20;
        let entry = multiboot::load(self.shared.memory.as_ref(), size, boot)?;
        let first = self.vcpus.first().context("The VM has no vCPU")?;
        entry.apply(first)
    }

    /// Starts a thread for each vCPU.
    pub fn start(self) -> Result<RunningVm> {
        let (sender, stops) = mpsc::channel();
        // From here on, dropping `running` stops and joins the threads that have been started.
        let mut running = RunningVm {
            threads: Vec::new(),
            stops,
            shared: self.shared,
        };
        for (index, vcpu) in (0..).zip(self.vcpus) {
            running.spawn(VpIndex::new(index), vcpu, sender.clone())?;
        }
        Ok(running)
    }
}

/// A VM whose vCPUs run; dropping it stops them.
pub struct RunningVm {
    threads: Vec<JoinHandle<()>>,
    stops: Receiver<Stop>,
    shared: Shared,
}

impl RunningVm {
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

    /// Makes every vCPU leave the guest, and waits until it has.
    pub fn stop(self) {
        drop(self);
    }

    fn spawn(&mut self, vp: VpIndex, vcpu: VcpuFd, sender: Sender<Stop>) -> Result<()> {
        let shared = self.shared.clone();
        let run = move || {
            let result = catch_unwind(AssertUnwindSafe(|| vcpu::run(vp, vcpu, &shared)));
            let panicked = || Some(Stop::Failed(anyhow!("The thread of {vp} panicked")));
            if let Some(stop) = result.unwrap_or_else(|_| panicked()) {
                // The receiver is only gone when the VM is being dropped.
                let _ = sender.send(stop);
            }
        };
        let thread = std::thread::Builder::new()
            .name(format!("vcpu{}", vp.get()))
            .spawn(run)
            .with_context(|| format!("Cannot start the thread of {vp}"))?;
        self.threads.push(thread);
        Ok(())
    }
}

impl Drop for RunningVm {
    fn drop(&mut self) {
        self.shared.stopping.store(true, Ordering::SeqCst);
        self.shared.host.kick_all();
        for thread in self.threads.drain(..) {
            // A panic has been reported by the thread itself.
            let _ = thread.join();
        }
    }
}

/// Opens /dev/kvm, or says in one sentence what keeps us from it and what to do.
pub fn open_kvm() -> Result<Kvm> {
    Kvm::new().map_err(|e| {
        let advice = match e.errno() {
            libc::ENOENT | libc::ENODEV | libc::ENXIO => {
                "there is no KVM here; load kvm_intel or kvm_amd, or enable virtualization"
            }
            libc::EACCES | libc::EPERM => "access is denied; join the group that owns /dev/kvm",
            _ => "check that /dev/kvm is KVM's device",
        };
        anyhow!("Cannot open /dev/kvm ({e}): {advice}")
    })
}

fn check_vcpus(kvm: &Kvm, vcpus: u32) -> Result<()> {
    let most = u32::try_from(kvm.get_max_vcpus())?.min(MAX_VCPUS);
    ensure!(
        (1..=most).contains(&vcpus),
        "A VM can have 1 to {most} vCPUs, not {vcpus}"
    );
    Ok(())
}

/// A VM with LAPICs in the kernel, no PIC, PIT or I/O APIC, and Hyper-V's MSRs trapped.
fn create_vm(kvm: &Kvm) -> Result<VmFd> {
    let vm = kvm.create_vm().context("Cannot create a VM")?;
    vm.set_tss_address(TSS_ADDRESS)
        .context("Cannot set the TSS address")?;
    ensure!(
        vm.check_extension(Cap::SplitIrqchip),
        "KVM lacks KVM_CAP_SPLIT_IRQCHIP, which this VMM needs"
    );
    vm.enable_cap(&kvm_enable_cap {
        cap: KVM_CAP_SPLIT_IRQCHIP,
        ..Default::default()
    })
    .context("Cannot create the split irqchip")?;
    emulated::trap_msrs(&vm)?;
    Ok(vm)
}

fn create_vcpu(vm: &VmFd, manager: &Manager, cpuid: &Cpuid, index: u32) -> Result<VcpuFd> {
    let vp = VpIndex::new(index);
    let vcpu = vm
        .create_vcpu(u64::from(index))
        .with_context(|| format!("Cannot create {vp}"))?;
    vcpu.set_cpuid2(&cpuid.of_vcpu(index)?)
        .with_context(|| format!("Cannot set the CPUID of {vp}"))?;
    manager.add_vp(vp)?;
    Ok(vcpu)
}

/// Below the BIOS's place and out of RAM; used by KVM itself on Intel hosts only.
const TSS_ADDRESS: usize = 0xfffb_d000;
/// xAPIC ids above 254 do not exist, and no image here programs interrupt remapping.
const MAX_VCPUS: u32 = 254;

#[cfg(test)]
pub(crate) mod tests;
