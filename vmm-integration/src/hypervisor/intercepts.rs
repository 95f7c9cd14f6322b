// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! What a VMM asks of a partition's VPs, and of its exits, through the driver.

use vm_synic::{HvStatus, HypercallInput};

use super::{Hypervisor, deny_if};

impl Hypervisor {
    /// HvInstallIntercept: {u64 partition, u32 access, u32 type, u64 parameter}. There is no VP yet to
    /// exit.
    pub(super) fn install_intercept(&self, input: HypercallInput) -> Result<(), HvStatus> {
        let [partition, what, _parameter] = input.qwords(self.memory.as_ref())?;
        let (access, kind) = (what as u32, (what >> 32) as u32);
        let is_known = access & !ALL_ACCESS == 0 && access != 0 && kind <= LAST_INTERCEPT;
        deny_if(!is_known, HvStatus::InvalidParameter)?;
        self.lock().partition(partition).map(|_| ())
    }

    /// HvPostMessageDirect, HvSignalEventDirect: {u64 partition, u32 vp, ...}. No partition has a VP.
    pub(super) fn deliver(&self, input: HypercallInput) -> Result<(), HvStatus> {
        let [partition] = input.qwords(self.memory.as_ref())?;
        self.lock().partition(partition)?;
        Err(HvStatus::InvalidVpIndex)
    }
}

/// Read, write, execute.
const ALL_ACCESS: u32 = 7;
/// An unknown SynIC connection, and what has a higher number.
const LAST_INTERCEPT: u32 = 0xF;
