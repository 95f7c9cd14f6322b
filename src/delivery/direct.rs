// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! The slots and flags of a VP whose hypervisor has the pages: reached by its calls.
//!
//! Whatever waits for a slot, the hypervisor is asked to tell when there is room
//! ([`Partition::notify_deliverable`]). It takes one set of SINTs for a VP, and forgets each once it
//! has told; so the set that is in force is kept here, under the lock of the queues that it is for.

use crate::abi::{EventFlag, Message, SintAddr, SintIndex, VpIndex};
use crate::delivery::slot::SlotPost;
use crate::error::NotReady;
use crate::partition::{Partition, PartitionError, Slot};
use std::fmt;
use std::sync::Arc;

/// One VP of a partition.
#[derive(Clone)]
pub(crate) struct Direct {
    partition: Arc<dyn Partition>,
    vp: VpIndex,
    /// The SINTs that the hypervisor tells of, as a set of bits.
    awaited: u16,
    /// The last request failed; it was reported.
    has_failed: bool,
}

impl Direct {
    pub fn new(partition: Arc<dyn Partition>, vp: VpIndex) -> Self {
        Self {
            partition,
            vp,
            awaited: 0,
            has_failed: false,
        }
    }

    pub fn post(&self, sint: SintIndex, message: &Message) -> Result<Slot, PartitionError> {
        let addr = SintAddr::new(self.vp, sint);
        self.partition.post_message(addr, message)
    }

    pub fn signal(&self, sint: SintIndex, flag: EventFlag) -> Result<bool, PartitionError> {
        let addr = SintAddr::new(self.vp, sint);
        self.partition.signal_event(addr, flag)
    }

    /// Asks to be told of these SINTs. True if that was news: one may have become free just before.
    pub fn wait_for(&mut self, sints: u16) -> bool {
        let wanted = self.awaited | sints;
        if wanted == self.awaited {
            return false;
        }
        match self.partition.notify_deliverable(self.vp, wanted) {
            Ok(()) => {
                self.awaited = wanted;
                self.has_failed = false;
                true
            }
            Err(error) => {
                // Asked again with the next message, or when the VP resumes.
                let vp = self.vp;
                if !self.has_failed {
                    log::error!("Cannot have {vp} tell of free slots: {error}");
                }
                self.has_failed = true;
                false
            }
        }
    }

    /// The hypervisor has told, and will not tell again.
    pub fn told(&mut self, sints: u16) {
        self.awaited &= !sints;
    }

    /// Nothing is in force: after a reset of the VP, or in another process.
    pub fn forget(&mut self) {
        self.awaited = 0;
    }
}

impl fmt::Debug for Direct {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Direct")
            .field("vp", &self.vp)
            .field("awaited", &self.awaited)
            .finish_non_exhaustive()
    }
}

/// What became of an attempt to fill a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Attempt {
    Delivered,
    /// The slot is taken, or nothing is written now.
    Busy,
    /// The hypervisor refused it, to which the policy has an answer.
    NotReady(NotReady),
    Failed(PartitionError),
}

impl From<SlotPost> for Attempt {
    fn from(posted: SlotPost) -> Self {
        match posted {
            SlotPost::Delivered => Self::Delivered,
            SlotPost::Busy => Self::Busy,
        }
    }
}

impl From<Result<Slot, PartitionError>> for Attempt {
    fn from(posted: Result<Slot, PartitionError>) -> Self {
        match posted {
            Ok(Slot::Filled) => Self::Delivered,
            Ok(Slot::Busy) => Self::Busy,
            Err(PartitionError::NotReady(cause)) => Self::NotReady(cause),
            Err(error) => Self::Failed(error),
        }
    }
}
