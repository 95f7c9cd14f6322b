// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! One virtual machine: KVM's part, memory, ports, and the SynIC of its vCPUs.

use std::ops::{Range, RangeInclusive};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use anyhow::{Context, Result, anyhow, ensure};
use kvm_ioctls::{Kvm, VcpuFd, VmFd};
use vm_synic::{Config, Role, SynicManager, VpIndex};

use crate::backend::{Backend, Irqchip, Wish};
use crate::cpuid::Cpuid;
use crate::devices::{InterruptLine, MmioBus, MmioDevice, PortBus, PortDevice};
use crate::enlightenments::{Enlightenments, Timers};
use crate::host::VmHost;
use crate::hyperv_msrs::HypervMsrs;
use crate::hypervisor::Hypervisor;
use crate::linux::Kernel;
use crate::memory::{self, Memory};
use crate::multiboot::{self, Boot};
use crate::reference_time::ReferenceTime;
use crate::{kick, linux};

mod lines;
mod registers;
mod running;
mod saved;

use lines::Lines;
use registers::{Layout, Registers};
pub use running::{RunningVm, Stop};
pub use saved::SavedVm;

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
    /// Who has the SynIC.
    pub backend: Wish,
    /// Where the irqchip is.
    pub irqchip: Irqchip,
    /// What the guest is told of.
    pub enlightenments: Enlightenments,
}

/// A VM that does not run yet.
pub struct Vm {
    shared: Shared,
    vcpus: Vec<VcpuFd>,
    machine: Machine,
}

/// What no vCPU's thread needs.
#[derive(Clone)]
struct Machine {
    vm: Arc<VmFd>,
    /// RAM that the guest is told of, in bytes from GPA 0.
    ram: u64,
    lines: Lines,
    layout: Arc<Layout>,
    power_on: Arc<Registers>,
    on_reset: Vec<Arc<dyn Fn() + Send + Sync>>,
}

/// What every vCPU's thread has.
#[derive(Clone)]
pub(crate) struct Shared {
    pub backend: Backend,
    pub manager: Arc<Manager>,
    pub host: Arc<VmHost>,
    pub ports: PortBus,
    pub mmio: MmioBus,
    /// Where the hypercall page sends the guest, if it is the manager's.
    pub hypercall_port: Option<u16>,
    pub stopping: Arc<AtomicBool>,
    pub time: Arc<ReferenceTime>,
    pub msrs: Arc<HypervMsrs>,
    /// What a parent partition asks for beside its SynIC.
    pub hypervisor: Option<Arc<Hypervisor>>,
    pub memory: Memory,
}

impl Vm {
    /// Creates the VM and its vCPUs; vCPU 0 is the one that boots, the others wait for INIT and
    /// SIPI.
    pub fn new(config: &VmConfig) -> Result<Self> {
        kick::install_signal_handler()?;
        let kvm = open_kvm()?;
        check_vcpus(&kvm, config.vcpus)?;
        let vm = Arc::new(create_vm(&kvm, config.irqchip)?);
        let (backend, irqchip) = (config.backend, config.irqchip);
        let backend = Backend::choose(backend, irqchip, config.synic.role, &vm)?;
        backend.trap_msrs(&vm)?;
        let mut synic = config.synic.clone();
        backend.configure(&mut synic);
        if config.enlightenments.timers == Timers::Off {
            synic.timers = None;
        }
        let is_parent = synic.role != Role::Guest;
        if is_parent {
            synic.guest_ports = GUEST_PORTS;
        }
        let role = synic.role;
        let is_root = matches!(role, Role::Root | Role::NestedRoot);
        let provided = if is_root {
            memory::provided_bytes(config.vcpus)
        } else {
            0
        };
        let memory = memory::allocate(&vm, config.memory_mib)?;
        let host = Arc::new(VmHost::new(vm.clone(), config.vcpus, backend, irqchip)?);
        let cpuid = Cpuid::new(&kvm, config.enlightenments, role, config.vcpus)?;
        let manager = SynicManager::new(synic, memory.clone(), host.clone());
        let vcpus = (0..config.vcpus)
            .map(|index| create_vcpu(&vm, &cpuid, index))
            .collect::<Result<Vec<_>>>()?;
        for (index, vcpu) in (0..).map(VpIndex::new).zip(&vcpus) {
            manager.add_vp(index)?;
            if is_root {
                manager.provide_pages(index, memory::provided_pages(config.memory_mib, index))?;
            }
            backend.add_vcpu(&manager, index, vcpu)?;
        }
        let first = vcpus.first().context("The VM has no vCPU")?;
        let time = Arc::new(ReferenceTime::new(first)?);
        host.attach(&manager, time.clone())?;
        let hypervisor = is_parent.then(|| Hypervisor::new(manager.clone(), memory.clone()));
        let hypervisor = hypervisor.map(Arc::new);
        let mut mmio = MmioBus::default();
        let layout = Layout::of(&kvm, &vm, irqchip)?;
        let machine = Machine {
            lines: Lines::new(&vm, irqchip, &mut mmio),
            power_on: Arc::new(Registers::read(&layout, &vm, &vcpus)?),
            layout: Arc::new(layout),
            vm,
            ram: (u64::from(config.memory_mib) << 20).saturating_sub(provided),
            on_reset: Vec::new(),
        };
        let shared = Shared {
            backend,
            manager,
            host,
            ports: PortBus::default(),
            mmio,
            hypercall_port: backend
                .has_hypercall_port()
                .then_some(config.synic.hypercall_port.into()),
            stopping: Arc::default(),
            time,
            msrs: Arc::new(HypervMsrs::new(config.vcpus)),
            hypervisor,
            memory,
        };
        Ok(Self {
            shared,
            vcpus,
            machine,
        })
    }

    /// The SynIC of all vCPUs.
    pub fn manager(&self) -> &Arc<Manager> {
        &self.shared.manager
    }

    /// Who has the SynIC.
    pub fn backend(&self) -> Backend {
        self.shared.backend
    }

    /// What the manager calls to interrupt or kick.
    pub fn host(&self) -> &Arc<VmHost> {
        &self.shared.host
    }

    /// The partitions of a guest that is a parent; `None` for one that is not.
    pub fn hypervisor(&self) -> Option<&Arc<Hypervisor>> {
        self.shared.hypervisor.as_ref()
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

    /// Adds a device in the memory space.
    pub fn add_mmio_device(&mut self, gpas: Range<u64>, device: Arc<dyn MmioDevice>) {
        self.shared.mmio.add(gpas, device);
    }

    /// The line of a device to the pin of the I/O APIC that is this GSI.
    pub fn interrupt_line(&self, gsi: u32) -> InterruptLine {
        self.machine.lines.line(gsi)
    }

    /// Whether the guest has reported that it has crashed, since it was reset.
    pub fn guest_has_crashed(&self) -> bool {
        self.shared.msrs.has_crashed()
    }

    /// Has `hook` called at each reset, before the SynIC is reset.
    pub fn on_reset(&mut self, hook: Arc<dyn Fn() + Send + Sync>) {
        self.machine.on_reset.push(hook);
    }

    /// Loads a kernel or an image and has vCPU 0 begin there.
    pub fn load(&mut self, boot: Boot<'_>) -> Result<()> {
        let size = self.machine.ram;
        let memory = self.shared.memory.as_ref();
        let entry = match Kernel::of(boot.image) {
            Kernel::Multiboot => multiboot::load(memory, size, boot)?,
            _ => linux::load(memory, size, u32::try_from(self.vcpus.len())?, boot)?,
        };
        let first = self.vcpus.first().context("The VM has no vCPU")?;
        entry.apply(first)
    }

    /// Brings vCPUs, devices and SynIC to the state of a machine that was just turned on. RAM keeps
    /// its contents, so that a kernel has to be loaded again.
    pub fn reset(&mut self) -> Result<()> {
        self.machine.on_reset.iter().for_each(|hook| hook());
        self.shared.manager.reset();
        self.shared.time.reset();
        self.shared.msrs.reset();
        if let Some(hypervisor) = &self.shared.hypervisor {
            hypervisor.reset();
        }
        self.shared.ports.reset();
        self.shared.mmio.reset();
        let machine = &self.machine;
        (machine.power_on)
            .write(&machine.layout, &machine.vm, &self.vcpus)
            .context("Cannot reset the vCPUs")?;
        for (vp, vcpu) in (0..).map(VpIndex::new).zip(&self.vcpus) {
            self.shared.host.reset(vp)?;
            self.shared
                .backend
                .reset_vcpu(&self.shared.manager, vp, vcpu)?;
        }
        Ok(())
    }

    /// Starts a thread for each vCPU.
    pub fn start(self) -> Result<RunningVm> {
        RunningVm::start(self)
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

fn create_vm(kvm: &Kvm, irqchip: Irqchip) -> Result<VmFd> {
    let vm = kvm.create_vm().context("Cannot create a VM")?;
    vm.set_tss_address(TSS_ADDRESS)
        .context("Cannot set the TSS address")?;
    irqchip.create(&vm)?;
    Ok(vm)
}

fn create_vcpu(vm: &VmFd, cpuid: &Cpuid, index: u32) -> Result<VcpuFd> {
    let vp = VpIndex::new(index);
    let vcpu = vm
        .create_vcpu(u64::from(index))
        .with_context(|| format!("Cannot create {vp}"))?;
    vcpu.set_cpuid2(&cpuid.of_vcpu(index)?)
        .with_context(|| format!("Cannot set the CPUID of {vp}"))?;
    Ok(vcpu)
}

/// Below the BIOS's place and out of RAM; used by KVM itself on Intel hosts only.
const TSS_ADDRESS: usize = 0xfffb_d000;
/// More doorbells than one partition of the guest's is likely to have.
const GUEST_PORTS: u32 = 4096;
/// xAPIC ids above 254 do not exist, and no image here programs interrupt remapping.
const MAX_VCPUS: u32 = 254;

#[cfg(test)]
pub(crate) mod tests;
