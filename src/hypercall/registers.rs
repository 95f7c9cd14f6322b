// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! `HvGetVpRegisters` and `HvSetVpRegisters` for the registers of the SynIC.
//!
//! Both are rep calls in memory: a header {u64 partition, u32 vp, u8 vtl, 3 reserved}, then names
//! of 4 bytes to read, or associations of 32 bytes {u32 name, 12 reserved, 16 value} to write.

use super::input::{Control, HypercallInput, deny_if};
use crate::abi::{HvStatus, PartitionId, RegisterId, VpIndex};
use crate::manager::SynicManager;
use crate::page::GuestSpace;

/// Reads registers; the result counts those that were read.
pub(super) fn get<AS: GuestSpace>(
    manager: &SynicManager<AS>,
    caller: VpIndex,
    control: Control,
    input: HypercallInput,
) -> u64 {
    let memory = manager.guest_memory();
    repeat(manager, caller, control, input, |vp, rep| {
        let mut name = [0; 4];
        input.read(&*memory, HEADER + rep * name.len(), &mut name)?;
        let id = register(manager, u32::from_le_bytes(name))?;
        let value = manager.read_register(vp, id);
        let value = value.map_err(|_| HvStatus::UnknownRegisterName)?;
        let value = u128::from(value).to_le_bytes();
        input.write(&*memory, rep * value.len(), &value)
    })
}

/// Writes registers, in order; the result counts those that were written.
pub(super) fn set<AS: GuestSpace>(
    manager: &SynicManager<AS>,
    caller: VpIndex,
    control: Control,
    input: HypercallInput,
) -> u64 {
    let memory = manager.guest_memory();
    repeat(manager, caller, control, input, |vp, rep| {
        let mut association = [0; ASSOCIATION];
        input.read(&*memory, HEADER + rep * ASSOCIATION, &mut association)?;
        let id = register(manager, u32::from_le_bytes(bytes(&association, 0)))?;
        let value = u128::from_le_bytes(bytes(&association, 16));
        let value = u64::try_from(value).map_err(|_| HvStatus::InvalidRegisterValue)?;
        let written = manager.write_register(vp, id, value);
        written.map_err(|_| HvStatus::InvalidRegisterValue)
    })
}

/// Runs `one` for each repetition until one fails, and puts the result value together.
fn repeat<AS: GuestSpace>(
    manager: &SynicManager<AS>,
    caller: VpIndex,
    control: Control,
    input: HypercallInput,
    mut one: impl FnMut(VpIndex, usize) -> Result<(), HvStatus>,
) -> u64 {
    let vp = match target(manager, caller, control, input) {
        Ok(vp) => vp,
        Err(status) => return status.into(),
    };
    let mut done = control.rep_start();
    while done < control.rep_count() {
        if let Err(status) = one(vp, done.into()) {
            return u64::from(status) | u64::from(done) << REPS_DONE;
        }
        done += 1;
    }
    u64::from(done) << REPS_DONE
}

/// The VP that the header names, in the caller's own partition.
fn target<AS: GuestSpace>(
    manager: &SynicManager<AS>,
    caller: VpIndex,
    control: Control,
    input: HypercallInput,
) -> Result<VpIndex, HvStatus> {
    control.check_rep(manager.config().nested)?;
    let mut header = [0; HEADER];
    input.read(&*manager.guest_memory(), 0, &mut header)?;
    let partition = PartitionId::new(u64::from_le_bytes(bytes(&header, 0)));
    // A child's VPs are not the manager's, which has none.
    deny_if(manager.has_child(partition), HvStatus::InvalidVpIndex)?;
    deny_if(partition != PartitionId::SELF, HvStatus::InvalidPartitionId)?;
    let vtl = u32::from_le_bytes(bytes(&header, 12));
    deny_if(vtl & !USE_TARGET_VTL != 0, HvStatus::InvalidParameter)?;
    let vp = match u32::from_le_bytes(bytes(&header, 8)) {
        VP_SELF => caller,
        index => VpIndex::new(index),
    };
    deny_if(!manager.has_vp(vp), HvStatus::InvalidVpIndex)?;
    Ok(vp)
}

/// The register behind a name, if VPs have it.
fn register<AS: GuestSpace>(manager: &SynicManager<AS>, name: u32) -> Result<RegisterId, HvStatus> {
    RegisterId::from_name(name)
        .filter(|id| manager.has_register(*id))
        .ok_or(HvStatus::UnknownRegisterName)
}

/// `N` bytes at an offset, zeroes beyond the end.
fn bytes<const N: usize>(of: &[u8], offset: usize) -> [u8; N] {
    let found = of.get(offset..).and_then(|rest| rest.first_chunk());
    found.copied().unwrap_or([0; N])
}

const HEADER: usize = 16;
const ASSOCIATION: usize = 32;
/// Where the result value counts repetitions.
const REPS_DONE: u32 = 32;
const VP_SELF: u32 = 0xFFFF_FFFE;
/// VTL 0 may be named explicitly.
const USE_TARGET_VTL: u32 = 0x10;
