// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! A hypervisor that has the guest's SynIC itself.

use crate::abi::{EventFlag, Message, SintAddr, VpIndex};
use crate::error::NotReady;

/// A partition whose hypervisor holds the registers and pages of its SynICs, writes to them, and
/// raises the SINTs: what a manager made by
/// [`SynicManager::of_partition`](crate::SynicManager::of_partition) delivers by.
///
/// Called from any thread, while VPs run, and with a lock of the VP held, so that requests for one
/// VP come one after the other; it must not call the manager.
pub trait Partition: Send + Sync {
    /// Puts a message into the slot of a SINT and raises the SINT.
    ///
    /// # Errors
    /// [`PartitionError`]; a slot that is taken is none.
    fn post_message(&self, addr: SintAddr, message: &Message) -> Result<Slot, PartitionError>;

    /// Sets an event flag of a SINT, and raises the SINT if the flag was clear. True: it was.
    ///
    /// # Errors
    /// [`PartitionError`].
    fn signal_event(&self, addr: SintAddr, flag: EventFlag) -> Result<bool, PartitionError>;

    /// Has the VP exit, once for each SINT of the set (bit n: SINTn), when a message for that SINT can
    /// be delivered, and at once if it can be now. The set replaces the one before;
    /// [`SynicManager::sints_deliverable`](crate::SynicManager::sints_deliverable) is to be called
    /// with what the exit says.
    ///
    /// # Errors
    /// [`PartitionError`]; the set before may then be in force, or none.
    fn notify_deliverable(&self, vp: VpIndex, sints: u16) -> Result<(), PartitionError>;
}

/// What the hypervisor made of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Slot {
    /// It is in the slot.
    Filled,
    /// The guest has not taken the one before.
    Busy,
}

/// Why a hypervisor delivered nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PartitionError {
    /// The guest has not set the SINT up.
    #[error("the SINT is not ready: {0}")]
    NotReady(NotReady),
    /// The VMM's fault: the partition has no such VP.
    #[error("there is no such VP")]
    NoVp,
    /// The hypervisor's fault, or ours: it answered with an `HV_STATUS` that has no meaning here.
    #[error("the hypervisor answered with status {0:#x}")]
    Status(u16),
    /// The kernel refused to pass the request on, with this `errno`.
    #[error("the kernel refused it: {}", std::io::Error::from_raw_os_error(*.0))]
    Os(i32),
}
