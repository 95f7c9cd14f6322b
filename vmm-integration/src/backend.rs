// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! Which of KVM's services the SynIC uses, and where the irqchip is.

use std::fmt;

use anyhow::{Context, Result, bail, ensure};
use kvm_bindings::{KVM_CAP_SPLIT_IRQCHIP, kvm_enable_cap};
use kvm_ioctls::{Cap, VcpuFd, VmFd};
use vm_synic::backend::kvm::{EomNotice, Hypercalls, Traps};
use vm_synic::backend::{emulated, kvm};
use vm_synic::{Config, MessageWriter, Provider, Role, VpIndex};

use crate::vm::Manager;

/// Who has the SynIC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backend {
    /// The manager, on any KVM.
    Emulated,
    /// KVM's in-kernel SynIC.
    Kvm(Traps),
}

/// Where PIC, I/O APIC and LAPICs are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Irqchip {
    /// All in the kernel.
    Full,
    /// The LAPICs in the kernel, the I/O APIC here.
    #[default]
    Split,
}

/// What the user asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Wish {
    /// KVM's SynIC where there is one.
    #[default]
    Auto,
    /// The emulated SynIC.
    Emulated,
    /// KVM's SynIC, with hypercalls by KVM where it can have them.
    Kvm,
    /// KVM's SynIC, with the manager's hypercall page, as the emulated one has it.
    KvmWithPage,
}

impl Irqchip {
    /// Creates it; before the first vCPU.
    pub fn create(self, vm: &VmFd) -> Result<()> {
        match self {
            Self::Full => vm.create_irq_chip().context("Cannot create the irqchip"),
            Self::Split => {
                ensure!(
                    vm.check_extension(Cap::SplitIrqchip),
                    "KVM lacks KVM_CAP_SPLIT_IRQCHIP; use the full irqchip"
                );
                vm.enable_cap(&kvm_enable_cap {
                    cap: KVM_CAP_SPLIT_IRQCHIP,
                    args: [IOAPIC_PINS, 0, 0, 0],
                    ..Default::default()
                })
                .context("Cannot create the split irqchip")
            }
        }
    }

    fn eom_notice(self) -> EomNotice {
        match self {
            Self::Full => EomNotice::Resample,
            Self::Split => EomNotice::MsrExit,
        }
    }
}

impl Backend {
    /// Decides for a VM whose guest has this role; `Auto` falls back to the emulated SynIC.
    pub fn choose(wish: Wish, irqchip: Irqchip, role: Role, vm: &VmFd) -> Result<Self> {
        let traps = Traps {
            eom: irqchip.eom_notice(),
            hypercalls: match role {
                // KVM knows none of an L1VH's own hypercalls.
                Role::L1vh | Role::Root | Role::NestedRoot => Hypercalls::Port,
                Role::Guest if wish == Wish::KvmWithPage => Hypercalls::Port,
                Role::Guest => Hypercalls::Kernel,
            },
        };
        let in_kernel = kvm::check(vm, traps.eom);
        match (wish, in_kernel) {
            (Wish::Emulated, _) if irqchip == Irqchip::Split => Ok(Self::Emulated),
            (Wish::Kvm | Wish::KvmWithPage | Wish::Auto, Ok(())) => Ok(Self::Kvm(traps)),
            (Wish::Kvm | Wish::KvmWithPage, Err(missing)) => {
                Err(missing).context("Backend kvm cannot be used")
            }
            (Wish::Auto, Err(missing)) if irqchip == Irqchip::Split => {
                log::info!("Backend emulated, because of: {missing}");
                Ok(Self::Emulated)
            }
            // AutoEOI is emulated by KVM_INTERRUPT, which a full irqchip has no place for.
            _ => bail!("Backend emulated needs the split irqchip"),
        }
    }

    /// What the manager has to know of it.
    pub fn configure(self, config: &mut Config) {
        match self {
            Self::Emulated => {
                config.message_writer = MessageWriter::AnyThread;
                config.timers = Some(Provider::Manager);
            }
            Self::Kvm(traps) => {
                if traps.hypercalls == Hypercalls::Kernel {
                    config.hypercall_page = Provider::Hypervisor;
                }
                // KVM's own timers write to the slots, on the VP's thread.
                config.message_writer = MessageWriter::VpThread;
                config.timers = Some(Provider::Hypervisor);
                // Nor has it a nested bank.
                config.nested = false;
            }
        }
    }

    /// Makes the guest's accesses exit.
    pub fn trap_msrs(self, vm: &VmFd) -> Result<()> {
        match self {
            Self::Emulated => emulated::trap_msrs(vm)?,
            Self::Kvm(traps) => kvm::trap_msrs(vm, traps)?,
        }
        Ok(())
    }

    /// Readies a new vCPU, whose VP the manager has.
    pub fn add_vcpu(self, manager: &Manager, vp: VpIndex, vcpu: &VcpuFd) -> Result<()> {
        if let Self::Kvm(_) = self {
            kvm::enable(vcpu, vp)?;
            kvm::load(manager, vp, vcpu)?;
        }
        Ok(())
    }

    /// After the manager was reset.
    pub fn reset_vcpu(self, manager: &Manager, vp: VpIndex, vcpu: &VcpuFd) -> Result<()> {
        if let Self::Kvm(_) = self {
            kvm::reset(manager, vp, vcpu)?;
        }
        Ok(())
    }

    /// Before the manager is saved.
    pub fn capture_vcpu(self, manager: &Manager, vp: VpIndex, vcpu: &VcpuFd) -> Result<()> {
        if let Self::Kvm(_) = self {
            kvm::capture(manager, vp, vcpu)?;
        }
        Ok(())
    }

    /// After the manager was restored.
    pub fn restore_vcpu(self, manager: &Manager, vp: VpIndex, vcpu: &VcpuFd) -> Result<()> {
        if let Self::Kvm(_) = self {
            kvm::restore(manager, vp, vcpu)?;
        }
        Ok(())
    }

    /// Whether the manager sees each EOM of the guest.
    pub fn sees_eom(self) -> bool {
        match self {
            Self::Emulated => true,
            Self::Kvm(traps) => traps.eom == EomNotice::MsrExit,
        }
    }

    /// Whether guests reach their hypercalls by the page that the manager writes.
    pub fn has_hypercall_port(self) -> bool {
        match self {
            Self::Emulated => true,
            Self::Kvm(traps) => traps.hypercalls == Hypercalls::Port,
        }
    }
}

impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Emulated => "emulated",
            Self::Kvm(_) => "kvm",
        })
    }
}

impl fmt::Display for Irqchip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Full => "full",
            Self::Split => "split",
        })
    }
}

/// GSIs that KVM leaves to an I/O APIC in user space.
pub const IOAPIC_PINS: u64 = 24;
