// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! The machine that an image gets.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use vm_synic::Config;

use crate::cli::{BootArgs, VmbusArg};
use crate::devices::{Console, DebugExit, FwCfg, HypervTestdev, SerialPort};
use crate::linux::{self, Kernel};
use crate::vm::{Vm, VmConfig};
use crate::vmbus::{HEARTBEAT_PERIOD, VmbusHost};

/// A VM with its devices.
pub struct Machine {
    pub vm: Vm,
    pub com1: Arc<SerialPort>,
    pub vmbus: Option<Arc<VmbusHost>>,
}

impl Machine {
    /// As the command line has it.
    pub fn new(args: &BootArgs, kind: Kernel, console: Console) -> Result<Self> {
        let mut vm = Vm::new(&VmConfig {
            vcpus: args.vcpus,
            memory_mib: args.memory,
            synic: synic_config(args),
            backend: args.backend.wish()?,
            irqchip: args.irqchip.into(),
            enlightenments: args.enlightenments,
        })?;
        let com1 = linux::add_devices(&mut vm, console);
        if args.test_devices {
            add_test_devices(&mut vm, args.vcpus)?;
        }
        let has_vmbus = match args.vmbus {
            VmbusArg::Auto => kind.is_linux(),
            VmbusArg::On => true,
            VmbusArg::Off => false,
        };
        let vmbus = has_vmbus.then(|| add_vmbus(&mut vm, HEARTBEAT_PERIOD));
        let vmbus = vmbus.transpose()?;
        Ok(Self { vm, com1, vmbus })
    }
}

fn synic_config(args: &BootArgs) -> Config {
    let mut config = Config::new(args.vcpus);
    config.role = args.role.into();
    config.violations = args.policy.into();
    if args.trace.is_some() {
        config.timeline_depth = TIMELINE_DEPTH;
    }
    if args.test_devices {
        // A test expects that one message waits behind a full slot, and that the next is refused.
        config.queue_depth = 1;
    }
    config
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
