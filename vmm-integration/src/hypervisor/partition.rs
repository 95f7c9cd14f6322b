// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! A partition from its creation to its deletion.
//!
//! ```text
//!   HvCreatePartition -> Created -> HvInitializePartition -> Active -> HvFinalizePartition
//!                           |                                              |
//!                           |                                          Finalized
//!                           +---------------> HvDeletePartition <----------+
//! ```

use std::collections::BTreeMap;
use std::sync::Arc;

use vm_synic::{Child, HvStatus, HypercallInput, PartitionId};

use super::deposit::Deposits;
use super::{Hypervisor, deny_if};

/// One partition of the guest's.
#[derive(Debug)]
pub struct Partition {
    /// What it is to the SynIC of its parent.
    child: Arc<Child>,
    stage: Stage,
    pages: Deposits,
    properties: BTreeMap<u32, u64>,
}

/// Its life (TLFS "Partition State").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Created,
    Active,
    Finalized,
}

impl Partition {
    fn new(child: Child) -> Self {
        Self {
            child: Arc::new(child),
            stage: Stage::Created,
            pages: Deposits::default(),
            properties: BTreeMap::new(),
        }
    }

    /// Its address space.
    pub fn child(&self) -> &Arc<Child> {
        &self.child
    }

    /// What it has been lent.
    pub fn pages(&self) -> &Deposits {
        &self.pages
    }

    /// Likewise, to be changed.
    pub fn pages_mut(&mut self) -> &mut Deposits {
        &mut self.pages
    }

    /// How much of that it cannot give back now.
    pub fn pages_in_use(&self) -> usize {
        match self.stage {
            Stage::Active => PAGES_TO_INITIALIZE,
            Stage::Created | Stage::Finalized => 0,
        }
    }

    /// A property that was set.
    pub fn property(&self, code: u32) -> Option<u64> {
        self.properties.get(&code).copied()
    }

    /// Sets a property; some have to be set before the partition is initialized.
    pub fn set_property(&mut self, code: u32, value: u64, is_early: bool) -> Result<(), HvStatus> {
        let too_late = is_early && self.stage != Stage::Created;
        let is_over = self.stage == Stage::Finalized;
        deny_if(too_late || is_over, HvStatus::InvalidPartitionState)?;
        self.properties.insert(code, value);
        Ok(())
    }

    fn initialize(&mut self) -> Result<(), HvStatus> {
        deny_if(
            self.stage != Stage::Created,
            HvStatus::InvalidPartitionState,
        )?;
        let enough = self.pages.len() >= PAGES_TO_INITIALIZE;
        deny_if(!enough, HvStatus::InsufficientMemory)?;
        self.stage = Stage::Active;
        Ok(())
    }

    fn finalize(&mut self) -> Result<(), HvStatus> {
        deny_if(self.stage != Stage::Active, HvStatus::InvalidPartitionState)?;
        self.stage = Stage::Finalized;
        Ok(())
    }

    /// Whether it may be deleted: not while it is active, and not with the guest's memory.
    fn check_deletion(&self) -> Result<(), HvStatus> {
        let is_over = self.stage != Stage::Active && self.pages.is_empty();
        deny_if(!is_over, HvStatus::InvalidPartitionState)
    }
}

impl Hypervisor {
    /// {u64 flags, u64 proximity domain, u32 version, u32 0, creation properties, isolation}, to
    /// {u64 partition}.
    pub(super) fn create(&self, input: HypercallInput) -> Result<(), HvStatus> {
        let block: [u64; 7] = input.qwords(self.memory.as_ref())?;
        let [
            _flags,
            _proximity,
            _version,
            _features,
            _more,
            _xsave,
            isolation,
        ] = block;
        deny_if(isolation != 0, HvStatus::InvalidParameter)?;
        let mut state = self.lock();
        let is_full = state.partitions.len() >= MAX_PARTITIONS;
        deny_if(is_full, HvStatus::NoResources)?;
        let id = PartitionId::new(FIRST_ID.saturating_add(state.created));
        // Told first: an id that nobody hears of must not name a partition.
        input.write(self.memory.as_ref(), 0, &id.get().to_le_bytes())?;
        let child = self.manager.add_child(id);
        let child = child.map_err(|_| HvStatus::NoResources)?;
        state.partitions.insert(id, Partition::new(child));
        state.created += 1;
        Ok(())
    }

    /// {u64 partition}.
    pub(super) fn initialize(&self, input: HypercallInput) -> Result<(), HvStatus> {
        let [id] = input.qwords(self.memory.as_ref())?;
        self.lock().partition(id)?.initialize()
    }

    /// {u64 partition}.
    pub(super) fn finalize(&self, input: HypercallInput) -> Result<(), HvStatus> {
        let [id] = input.qwords(self.memory.as_ref())?;
        self.lock().partition(id)?.finalize()
    }

    /// {u64 partition}. Its doorbells go with it.
    pub(super) fn delete(&self, input: HypercallInput) -> Result<(), HvStatus> {
        let [id] = input.qwords(self.memory.as_ref())?;
        let mut state = self.lock();
        state.partition(id)?.check_deletion()?;
        state.stats.forget(id);
        state.partitions.remove(&PartitionId::new(id));
        Ok(())
    }
}

/// What Linux deposits before it asks (`HV_INIT_PARTITION_DEPOSIT_PAGES`).
pub const PAGES_TO_INITIALIZE: usize = 208;
/// More than a test needs.
const MAX_PARTITIONS: usize = 64;
/// Ids below are the hypervisor's own. None is used twice.
const FIRST_ID: u64 = 0x10;
