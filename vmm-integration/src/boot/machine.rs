// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! The machine that an image gets.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use serde::{Deserialize, Serialize};
use vm_synic::Config;

use super::args::{BootArgs, RestoreArgs, VmbusArg};
use crate::cli::{BackendArg, IrqchipArg, PolicyArg, RoleArg};
use crate::devices::{Console, DebugExit, FwCfg, HypervTestdev, SerialPort};
use crate::enlightenments::Enlightenments;
use crate::linux::{self, Kernel};
use crate::vm::{Vm, VmConfig};
use crate::vmbus::{HEARTBEAT_PERIOD, VmbusHost};

/// A VM with its devices.
pub struct Machine {
    pub config: MachineConfig,
    pub vm: Vm,
    pub com1: Arc<SerialPort>,
    pub vmbus: Option<Arc<VmbusHost>>,
}

/// What it is made of; a snapshot has it, too.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct MachineConfig {
    vcpus: u32,
    /// In MiB.
    memory: u32,
    role: RoleArg,
    policy: PolicyArg,
    backend: BackendArg,
    irqchip: IrqchipArg,
    enlightenments: Enlightenments,
    vmbus: bool,
    test_devices: bool,
    /// Keep a timeline.
    trace: bool,
}

impl Machine {
    /// A machine that has just been turned on.
    pub fn new(config: &MachineConfig, console: Console) -> Result<Self> {
        let mut vm = Vm::new(&VmConfig {
            vcpus: config.vcpus,
            memory_mib: config.memory,
            synic: config.synic(),
            backend: config.backend.wish()?,
            irqchip: config.irqchip.into(),
            enlightenments: config.enlightenments,
        })?;
        let com1 = linux::add_devices(&mut vm, console);
        if config.test_devices {
            add_test_devices(&mut vm, config.vcpus)?;
        }
        let vmbus = (config.vmbus).then(|| add_vmbus(&mut vm, HEARTBEAT_PERIOD));
        let mut config = config.clone();
        // Not another one when it is restored elsewhere.
        config.backend = BackendArg::of(vm.backend(), config.role);
        Ok(Self {
            config,
            vm,
            com1,
            vmbus: vmbus.transpose()?,
        })
    }
}

impl MachineConfig {
    /// As the command line has it.
    pub fn new(args: &BootArgs, kind: Kernel) -> Self {
        Self {
            vcpus: args.vcpus,
            memory: args.memory,
            role: args.role,
            policy: args.policy,
            backend: args.backend,
            irqchip: args.irqchip,
            enlightenments: args.enlightenments,
            vmbus: match args.vmbus {
                VmbusArg::Auto => kind.is_linux(),
                VmbusArg::On => true,
                VmbusArg::Off => false,
            },
            test_devices: args.test_devices,
            trace: args.run.trace.is_some(),
        }
    }

    /// A small one, without VMBus.
    #[cfg(test)]
    pub fn small(backend: BackendArg) -> Self {
        Self {
            vcpus: 2,
            memory: 16,
            role: RoleArg::Guest,
            policy: PolicyArg::Observe,
            backend,
            irqchip: IrqchipArg::Split,
            enlightenments: Enlightenments::default(),
            vmbus: false,
            test_devices: false,
            trace: false,
        }
    }

    /// The same, as it is to be restored.
    pub fn adapt(&mut self, args: &RestoreArgs) {
        self.backend = args.backend.unwrap_or(self.backend);
        self.trace = args.run.trace.is_some();
    }

    /// Whether a snapshot would have all of it.
    pub fn can_be_saved(&self) -> bool {
        !self.test_devices
    }

    fn synic(&self) -> Config {
        let mut config = Config::new(self.vcpus);
        config.role = self.role.into();
        config.violations = self.policy.into();
        if self.trace {
            config.timeline_depth = TIMELINE_DEPTH;
        }
        if self.test_devices {
            // A test expects that one message waits behind a full slot, and that the next is refused.
            config.queue_depth = 1;
        }
        config
    }
}

/// Adds what bare-metal test images expect of QEMU.
fn add_test_devices(vm: &mut Vm, vcpus: u32) -> Result<()> {
    let testdev = HypervTestdev::new(vm.manager().clone(), vm.host().clone());
    vm.add_device(0x510..=0x511, Arc::new(FwCfg::new(u16::try_from(vcpus)?)));
    vm.add_device(0xf4..=0xf7, Arc::new(DebugExit));
    vm.add_device(0x3000..=0x3003, Arc::new(testdev));
    Ok(())
}

/// Adds VMBus's host side, which forgets the guest when the VM is reset.
pub fn add_vmbus(vm: &mut Vm, heartbeat: Duration) -> Result<Arc<VmbusHost>> {
    let (manager, host) = (vm.manager().clone(), vm.host().clone());
    let vmbus = VmbusHost::with_heartbeat(manager, host, vm.memory().clone(), heartbeat)?;
    let bus = vmbus.clone();
    vm.on_reset(Arc::new(move || bus.reset()));
    Ok(vmbus)
}

/// How many of its last events each VP's timeline keeps.
pub const TIMELINE_DEPTH: usize = 65_536;
