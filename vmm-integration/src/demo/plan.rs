// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! How `--count` and `--vcpus` become each VP's share.

use anyhow::{Context, Result, ensure};
use serde::Serialize;
use vm_memory::{Bytes, GuestAddress, GuestMemory};

use super::protocol;

/// How much traffic there is per VP. All VPs have the same share, rounded up.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
pub struct Plan {
    pub vps: u32,
    /// Messages in each direction.
    pub messages: u64,
    /// Event flags in each direction.
    pub flags: u64,
    /// Doorbells in the next VP's ring, the burst not counted.
    pub rings: u64,
    /// Doorbells for the VMM's event loop.
    pub vmm_rings: u64,
}

impl Plan {
    /// At least `count` messages, `count` flags and `count` doorbells in all.
    ///
    /// # Errors
    /// There must be 2 to 8 VPs, and `count` must fit a sequence number.
    pub fn new(vps: u32, count: u64) -> Result<Self> {
        let range = 2..=protocol::MAX_VPS;
        ensure!(
            range.contains(&vps),
            "The demo needs {range:?} vCPUs, not {vps}"
        );
        ensure!(
            (1..=MAX_COUNT).contains(&count),
            "The count must be 1 to {MAX_COUNT}, not {count}"
        );
        let doorbells = count.div_ceil(u64::from(vps));
        let vmm_rings = doorbells.div_ceil(4);
        let each_way = count.div_ceil(2 * u64::from(vps));
        Ok(Self {
            vps,
            messages: each_way,
            flags: each_way,
            rings: doorbells - vmm_rings,
            vmm_rings,
        })
    }

    /// Doorbells in one VP's ring, the burst included.
    pub fn ring_entries(&self) -> u64 {
        self.rings + protocol::RING_BURST
    }

    /// What the VPs' [`Account::progress`](super::guest::Account::progress) come to at the end.
    pub fn steps(&self) -> u64 {
        let traffic = 2 * (self.messages + self.flags) + self.ring_entries() + self.vmm_rings;
        u64::from(self.vps) * (traffic + protocol::STATE_DONE)
    }

    /// All VPs.
    pub fn vps(&self) -> std::ops::Range<u32> {
        0..self.vps
    }

    /// Tells the guest, which has not started yet.
    pub fn write(&self, memory: &impl GuestMemory, first_port: u32) -> Result<()> {
        let words = [
            self.vps.into(),
            self.messages,
            self.flags,
            self.rings,
            self.vmm_rings,
            first_port.into(),
        ];
        for (gpa, word) in (protocol::PLAN_GPA..).step_by(8).zip(words) {
            memory
                .write_obj(word, GuestAddress(gpa))
                .context("Cannot write the plan into guest memory")?;
        }
        Ok(())
    }
}

/// Far more than anybody waits for, and far from overflowing anything.
const MAX_COUNT: u64 = 100_000_000;

#[cfg(test)]
mod tests {
    use super::*;
    use std::mem::{offset_of, size_of};

    #[test]
    fn new_when_the_count_does_not_divide_rounds_up() {
        for (vps, count) in [(2, 5_000), (3, 5_000), (8, 1), (7, 12_345)] {
            let plan = Plan::new(vps, count).unwrap();
            let vps = u64::from(vps);
            assert!(plan.messages * 2 * vps >= count);
            assert!(plan.flags * 2 * vps >= count);
            assert!((plan.rings + plan.vmm_rings) * vps >= count);
        }
    }

    #[test]
    fn new_when_out_of_range_is_refused() {
        assert!(Plan::new(1, 5_000).is_err());
        assert!(Plan::new(9, 5_000).is_err());
        assert!(Plan::new(2, 0).is_err());
        assert!(Plan::new(2, u64::MAX).is_err());
    }

    #[test]
    fn write_when_compared_with_the_guests_struct_has_its_order() {
        use protocol::Plan as Guest;
        let order = [
            offset_of!(Guest, vps),
            offset_of!(Guest, messages),
            offset_of!(Guest, flags),
            offset_of!(Guest, rings),
            offset_of!(Guest, vmm_rings),
            offset_of!(Guest, first_port),
        ];
        assert_eq!(order, [0, 8, 16, 24, 32, 40]);
        assert_eq!(size_of::<Guest>(), 48);
    }
}
