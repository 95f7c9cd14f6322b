// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! Statistics pages: the parent names a page of its own, and sees counters there
//! (`HvCallMapStatsPage2`; Linux `hv_map_stats_page`). All of ours stay zero.

use std::collections::BTreeMap;

use vm_synic::{HvStatus, HypercallInput};

use super::{Hypervisor, deny_if, is_ram};

/// Where pages are mapped. An object has one page for each area, so there are not many.
#[derive(Debug, Default)]
pub struct StatsPages(BTreeMap<Object, u64>);

/// What a page is about: {u32 type, u32 0}, {u64 partition}, and what the type adds to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Object {
    kind: u64,
    partition: u64,
    detail: u64,
}

impl StatsPages {
    /// A partition is gone.
    pub fn forget(&mut self, partition: u64) {
        self.0.retain(|object, _| object.partition != partition);
    }

    /// How many pages there are.
    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.0.len()
    }
}

impl Hypervisor {
    /// {u32 type, u32 0, 16 bytes that identify the object, u64 page number}.
    pub(super) fn map_statistics(&self, input: HypercallInput) -> Result<(), HvStatus> {
        let [kind, partition, detail, page] = input.qwords(self.memory.as_ref())?;
        let object = self.object(kind, partition, detail)?;
        deny_if(!is_ram(&self.memory, page), HvStatus::InvalidParameter)?;
        let mut state = self.lock();
        deny_if(state.stats.0.contains_key(&object), HvStatus::ObjectInUse)?;
        state.stats.0.insert(object, page);
        Ok(())
    }

    /// {u32 type, u32 0, 16 bytes that identify the object}.
    pub(super) fn unmap_statistics(&self, input: HypercallInput) -> Result<(), HvStatus> {
        let [kind, partition, detail] = input.qwords(self.memory.as_ref())?;
        let object = self.object(kind, partition, detail)?;
        let was_mapped = self.lock().stats.0.remove(&object).is_some();
        deny_if(!was_mapped, HvStatus::InvalidParameter)
    }

    /// A partition: {u8[7] 0, u8 area}. A VP: {u32 index, u16 0, u8 0, u8 area}.
    fn object(&self, kind: u64, partition: u64, detail: u64) -> Result<Object, HvStatus> {
        deny_if(
            !self.lock().has_partition(partition),
            HvStatus::InvalidPartitionId,
        )?;
        let (index, area) = (detail as u32, detail >> AREA_SHIFT);
        let middle = detail >> 32 & 0xFF_FFFF;
        let is_vp = match kind {
            PARTITION => false,
            VP => true,
            _ => return Err(HvStatus::InvalidParameter),
        };
        deny_if(
            middle != 0 || area > PARENT_AREA || !is_vp && index != 0,
            HvStatus::InvalidParameter,
        )?;
        let known = index < self.manager.config().max_vps;
        deny_if(is_vp && !known, HvStatus::InvalidVpIndex)?;
        Ok(Object {
            kind,
            partition,
            detail,
        })
    }
}

/// `HV_STATS_OBJECT_PARTITION`, `HV_STATS_OBJECT_VP`.
const PARTITION: u64 = 0x0001_0001;
const VP: u64 = 0x0001_0002;
const AREA_SHIFT: u32 = 56;
/// `HV_STATS_AREA_PARENT`; `HV_STATS_AREA_SELF` is 0.
const PARENT_AREA: u64 = 1;
