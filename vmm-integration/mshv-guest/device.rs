// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! The device itself, and partitions without VPs.

use anyhow::{Context, Result, ensure};
use mshv_bindings::{
    hv_partition_property_code_HV_PARTITION_PROPERTY_PRIVILEGE_FLAGS as PRIVILEGE_FLAGS,
    hv_partition_property_code_HV_PARTITION_PROPERTY_SYNTHETIC_PROC_FEATURES as SYNTHETIC_FEATURES,
};
use mshv_ioctls::{Mshv, MshvError, VmFd};

use crate::report::Outcome;

/// A partition that was created and is not initialized.
pub fn create() -> Result<VmFd> {
    let mshv = Mshv::new().context("Cannot open the device")?;
    mshv.create_vm().context("Cannot create a partition")
}

/// A partition as a VMM has it before it adds VPs.
pub fn initialized() -> Result<VmFd> {
    let partition = create()?;
    partition
        .initialize()
        .context("Cannot initialize the partition")?;
    Ok(partition)
}

/// Fails unless `result` is this error number.
pub fn expect_errno<T>(what: &str, errno: i32, result: Result<T, MshvError>) -> Result<()> {
    let got = result.err().map(|e| e.errno());
    ensure!(
        got == Some(errno),
        "{what}: errno {got:?} in place of {errno}"
    );
    Ok(())
}

pub fn capabilities() -> Result<Outcome> {
    let mshv = Mshv::new().context("Cannot open the device")?;
    let capabilities = mshv.get_vmm_caps();
    let capabilities = capabilities.context("Cannot read the VMM capabilities")?;
    // SAFETY: the members of the union are integers of the same bits.
    let bits = unsafe { capabilities.__bindgen_anon_1.as_uint64[0] };
    Ok(Outcome::Passed(format!("VMM capabilities {bits:#x}")))
}

/// From creation to the end, with and without the step between.
pub fn partition() -> Result<Outcome> {
    drop(create()?);
    let partition = initialized()?;
    partition
        .initialize()
        .context("Cannot initialize it twice, which the driver takes for done")?;
    Ok(Outcome::passed())
}

/// Several at a time, and more after those are gone.
pub fn partitions() -> Result<Outcome> {
    for _ in 0..ROUNDS {
        let all: Vec<_> = (0..AT_A_TIME)
            .map(|_| initialized())
            .collect::<Result<_>>()?;
        drop(all);
    }
    let count = ROUNDS * AT_A_TIME;
    Ok(Outcome::Passed(format!(
        "{count} partitions, {AT_A_TIME} at a time"
    )))
}

pub fn properties() -> Result<Outcome> {
    let partition = create()?;
    let value = partition.get_partition_property(SYNTHETIC_FEATURES);
    let features = value.context("Cannot read the synthetic processor features")?;
    ensure!(features != 0, "Those that were set at creation read 0");
    partition
        .initialize()
        .context("Cannot initialize the partition")?;
    let late = partition.set_partition_property(SYNTHETIC_FEATURES, 0);
    ensure!(late.is_err(), "An early property can be set late");
    let privileges = partition.get_partition_property(PRIVILEGE_FLAGS);
    privileges.context("Cannot read the privilege flags")?;
    let unknown = partition.get_partition_property(UNKNOWN);
    ensure!(unknown.is_err(), "There is a property {UNKNOWN:#x}");
    Ok(Outcome::Passed(format!("synthetic features {features:#x}")))
}

const ROUNDS: u32 = 5;
const AT_A_TIME: u32 = 4;
/// In no group of property codes.
const UNKNOWN: u32 = 0x00ff_ff00;
