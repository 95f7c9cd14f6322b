// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! Memory that the guest lends to the hypervisor for a partition, and gets back
//! (`HvDepositMemory`, `HvWithdrawMemory`; Linux `hv_call_deposit_pages`).
//!
//! Nothing is kept in it here; but it is counted, so that a driver that deposits too little, the
//! same page twice, or forgets to withdraw hears of it.

use std::collections::BTreeSet;

use vm_synic::{HvStatus, HypercallInput, PartitionId};

use super::{Hypervisor, Reps, State, deny_if, is_ram};
use crate::memory::Memory;

/// The pages that a partition has been lent, by number. They are RAM, so their number is bounded.
#[derive(Debug, Default)]
pub struct Deposits(BTreeSet<u64>);

impl Deposits {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn has(&self, page: u64) -> bool {
        self.0.contains(&page)
    }
}

impl Hypervisor {
    /// {u64 partition, u64 page number[]}.
    pub(super) fn deposit(
        state: &mut State,
        memory: &Memory,
        input: HypercallInput,
        rep: usize,
    ) -> Reps {
        let partition = qword(memory, input, 0)?;
        let page = qword(memory, input, rep.saturating_add(1))?;
        deny_if(
            !is_ram(memory, page) || state.is_deposited(page),
            HvStatus::InvalidParameter,
        )?;
        state.deposits(partition)?.0.insert(page);
        Ok(())
    }

    /// {u64 partition, u64 proximity domain}, to {u64 page number[]}. Ends with
    /// `HV_STATUS_NO_RESOURCES` when all that the partition does not use is given back.
    pub(super) fn withdraw(
        state: &mut State,
        memory: &Memory,
        input: HypercallInput,
        rep: usize,
    ) -> Reps {
        let partition = qword(memory, input, 0)?;
        let in_use = match PartitionId::new(partition) {
            PartitionId::SELF => 0,
            _ => state.partition(partition)?.pages_in_use(),
        };
        let deposits = state.deposits(partition)?;
        deny_if(deposits.len() <= in_use, HvStatus::NoResources)?;
        let last = deposits.0.last().copied();
        let page = last.ok_or(HvStatus::NoResources)?;
        input.write(memory.as_ref(), rep.saturating_mul(8), &page.to_le_bytes())?;
        deposits.0.remove(&page);
        Ok(())
    }
}

impl State {
    fn deposits(&mut self, partition: u64) -> Result<&mut Deposits, HvStatus> {
        match PartitionId::new(partition) {
            PartitionId::SELF => Ok(&mut self.own_pages),
            _ => Ok(self.partition(partition)?.pages_mut()),
        }
    }

    /// A page can be lent once.
    fn is_deposited(&self, page: u64) -> bool {
        let partitions = self.partitions.values();
        let mut all = partitions.map(|p| p.pages()).chain([&self.own_pages]);
        all.any(|pages| pages.has(page))
    }
}

fn qword(memory: &Memory, input: HypercallInput, index: usize) -> Result<u64, HvStatus> {
    let mut bytes = [0; 8];
    input.read(memory.as_ref(), index.saturating_mul(8), &mut bytes)?;
    Ok(u64::from_le_bytes(bytes))
}
