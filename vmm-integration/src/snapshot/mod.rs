// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! A machine in a file: saved by one process, and restored by another.
//!
//! | offset | content |
//! |---|---|
//! | 0 | `SYNICVMM` |
//! | 8 | u64, little-endian: the length of the JSON |
//! | 16 | the JSON: everything but RAM |
//! | the next multiple of 4096 | RAM, page by page; pages of zeros are holes |
//!
//! The JSON is checked as it is parsed, and again by everything that takes a part of it; what is wrong is
//! named by its path. Who writes such a file can make a guest do anything, but not its VMM.

mod file;
mod ram;

use std::path::Path;

use anyhow::{Context, Result, anyhow, bail, ensure};
use serde::{Deserialize, Serialize};

use crate::boot::{Machine, MachineConfig};
use crate::devices::Console;
use crate::vm::{SavedVm, Vm};
use crate::vmbus::{Frozen, SavedBus, VmbusHost};

/// All of a machine but its RAM.
#[derive(Serialize, Deserialize)]
pub struct Snapshot {
    version: u32,
    machine: MachineConfig,
    vm: SavedVm,
    vmbus: Option<SavedBus>,
}

/// Saves a machine whose vCPUs were stopped; it can go on afterwards, whether this fails or not. A file
/// that is there is replaced as a whole.
pub fn save(config: &MachineConfig, vm: &Vm, vmbus: Option<&VmbusHost>, path: &Path) -> Result<()> {
    ensure!(
        config.can_be_saved(),
        "The test devices' state cannot be saved"
    );
    // In this order: what the bus posts is then in the SynIC's state, and RAM is as it leaves it.
    let bus = vmbus.map(VmbusHost::freeze);
    let snapshot = Snapshot {
        version: VERSION,
        machine: config.clone(),
        vm: vm.save()?,
        vmbus: bus.as_ref().map(Frozen::save),
    };
    let json = serde_json::to_vec(&snapshot)?;
    let saved = file::write(path, &json, vm.memory());
    saved.with_context(|| format!("Cannot write the snapshot {}", path.display()))
}

/// Makes a machine of a file; `adapt` may give it another backend. It does not run yet.
pub fn restore(
    path: &Path,
    console: Console,
    adapt: impl FnOnce(&mut MachineConfig),
) -> Result<Machine> {
    let restored = || {
        let mut file = file::Reader::open(path)?;
        let mut snapshot = parse(&file.json()?)?;
        adapt(&mut snapshot.machine);
        let mut machine = Machine::new(&snapshot.machine, console)?;
        file.read_ram(machine.vm.memory()).context("memory")?;
        machine.vm.restore(&snapshot.vm).context("vm")?;
        match (&machine.vmbus, &snapshot.vmbus) {
            (Some(vmbus), Some(saved)) => vmbus.restore(saved).context("vmbus")?,
            (None, None) => {}
            _ => bail!("vmbus: it is to be there if the machine has one, and only then"),
        }
        Ok(machine)
    };
    let context = || format!("Cannot restore the snapshot {}", path.display());
    restored().with_context(context)
}

/// The version first, as all else may be different in another.
fn parse(json: &[u8]) -> Result<Snapshot> {
    #[derive(Deserialize)]
    struct Versioned {
        version: u32,
    }
    let Versioned { version } = from_json(json)?;
    ensure!(
        version == VERSION,
        "version: it is {version}, and this program reads {VERSION}"
    );
    from_json(json)
}

/// Names the field that is wrong.
fn from_json<'a, T: Deserialize<'a>>(json: &'a [u8]) -> Result<T> {
    let mut deserializer = serde_json::Deserializer::from_slice(json);
    let parsed = serde_path_to_error::deserialize(&mut deserializer);
    parsed.map_err(|e| {
        let (path, cause) = (e.path().to_string(), e.inner().to_string());
        anyhow!("{path}: {cause}")
    })
}

const VERSION: u32 = 1;

#[cfg(test)]
mod tests;
