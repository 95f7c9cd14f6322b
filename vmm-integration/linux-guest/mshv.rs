// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! The driver of an L1VH partition, `mshv_root`, beside VMBus.

use std::path::Path;

use crate::echo::{BATCH, Background};
use crate::failure::{Failure, Result};
use crate::kernel_log;
use crate::modules::Module;
use crate::options::Options;
use crate::report::say;
use crate::{program, vmbus, watchdog};

/// Fails unless the kernel takes itself for an L1VH partition and its driver works.
pub fn check() -> Result<()> {
    let records = kernel_log::records();
    let mut texts = records.iter().map(|record| record.text.as_str());
    let Some(line) = texts.find(|text| text.contains(L1VH)) else {
        return Err(Failure::new(
            "no-l1vh",
            "the kernel takes itself for a guest",
        ));
    };
    say(&format!("l1vh -- {line}"));
    check_device()
}

/// Unloads the driver and loads it again under traffic, `synic.cycles` times.
pub fn reload(modules: &[Module], options: &Options) -> Result<()> {
    let module = module(modules)?;
    let traffic = Background::start(0, BATCH)?;
    let cycles = options.number("cycles", 20)?;
    for cycle in 1..=cycles {
        watchdog::doing(format!("reloading {MODULE}, cycle {cycle}"));
        module.unload()?;
        vmbus::wait_for_heartbeat(1)?;
        load(module)?;
    }
    finish(traffic, cycles)
}

/// Runs the program that uses the device, and once more after a reload of the driver.
pub fn use_device(modules: &[Module], options: &Options) -> Result<()> {
    let module = module(modules)?;
    let traffic = Background::start(0, BATCH)?;
    program::run(options)?;
    module.unload()?;
    load(module)?;
    program::run(options)?;
    finish(traffic, 1)
}

fn load(module: &Module) -> Result<()> {
    module.load()?;
    check_device()
}

/// Reports reloads that VMBus has lived through.
fn finish(traffic: Background, cycles: u32) -> Result<()> {
    vmbus::wait_for_heartbeat(1)?;
    let packets = traffic.stop()?;
    say(&format!("mshv-reload cycles={cycles} packets={packets}"));
    Ok(())
}

fn module(modules: &[Module]) -> Result<&Module> {
    let found = modules.iter().find(|module| module.name == MODULE);
    found.ok_or_else(|| Failure::new("no-module", format_args!("no {MODULE}.ko in /modules")))
}

/// The driver makes its device last, when all else of its own works.
fn check_device() -> Result<()> {
    if Path::new(DEVICE).exists() {
        return Ok(());
    }
    let hint = format!("{MODULE} was loaded, but there is no {DEVICE}");
    Err(Failure::new("no-mshv", hint))
}

/// Linux `hv_identify_partition_type`.
const L1VH: &str = "running as L1VH partition";
const MODULE: &str = "mshv_root";
const DEVICE: &str = "/dev/mshv";
