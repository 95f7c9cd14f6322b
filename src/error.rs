// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! What can go wrong, and whose fault it is.

use crate::abi::{ConnectionId, PartitionId, PortId, SintAddr, VpIndex};
use crate::partition::PartitionError;
use std::io;

/// Why a SINT takes no message and no event now. The guest has set it up so.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum NotReady {
    /// SCONTROL.enable is clear.
    #[error("SCONTROL is off")]
    ScontrolOff,
    /// The page (SIMP, SIEFP) is disabled.
    #[error("its page is disabled")]
    PageOff,
    /// The SINT is masked.
    #[error("it is masked")]
    Masked,
    /// The SINT belongs to a paravisor.
    #[error("it is proxied to a paravisor")]
    Proxied,
}

/// A register access that did not happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MsrError {
    /// Not a register of the SynIC: the VMM answers it.
    #[error("MSR {0:#x} is not of the SynIC")]
    NotMine(u32),
    /// The guest's fault: inject #GP.
    #[error("The guest must be given #GP")]
    Fault,
}

/// A message that was not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PostError {
    /// The VMM's fault: there is no such VP, or no such bank of it.
    #[error("No SynIC to post to: {0}")]
    NoVp(SintAddr),
    /// The guest has not set the SINT up; the policy is to refuse.
    #[error("Message to {addr} refused: {cause}")]
    NotReady {
        /// The SINT.
        addr: SintAddr,
        /// What is missing.
        cause: NotReady,
    },
    /// The guest does not empty its slot and the queue is full. [`Host::writable`] will be called
    /// once there is room.
    ///
    /// [`Host::writable`]: crate::Host::writable
    #[error("Message to {0} refused: its queue is full")]
    WouldBlock(SintAddr),
    /// The hypervisor, which has the slot, could not deliver it.
    #[error("Message to {addr} was not delivered")]
    Failed {
        /// The SINT.
        addr: SintAddr,
        /// What it said.
        source: PartitionError,
    },
}

/// An event that was not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SignalError {
    /// The VMM's fault: there is no such VP, or no such bank of it.
    #[error("No SynIC to signal: {0}")]
    NoVp(SintAddr),
    /// The guest has not set the SINT up.
    #[error("Event for {addr} refused: {cause}")]
    NotReady {
        /// The SINT.
        addr: SintAddr,
        /// What is missing.
        cause: NotReady,
    },
    /// The hypervisor, which has the flags, could not set this one.
    #[error("Event for {addr} was not delivered")]
    Failed {
        /// The SINT.
        addr: SintAddr,
        /// What it said.
        source: PartitionError,
    },
}

/// A doorbell that could not be rung. The VMM's fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RingError {
    /// There is no such VP, or no such bank of it.
    #[error("No SynIC to ring: {0}")]
    NoVp(SintAddr),
    /// Any VP would do, but there is none.
    #[error("No VP to ring {0} on")]
    NoVpAtAll(PortId),
    /// The hypervisor has the rings, and rings them itself.
    #[error("The event rings are the hypervisor's, and {0} is none of its ports")]
    NotOurs(PortId),
}

/// A request of the VMM that cannot be met.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The VP index is at or above [`Config::max_vps`](crate::Config::max_vps).
    #[error("{vp} is beyond the {max} VPs that were configured")]
    VpOutOfRange {
        /// The VP.
        vp: VpIndex,
        /// [`Config::max_vps`](crate::Config::max_vps).
        max: u32,
    },
    /// The VP is there already.
    #[error("{0} exists already")]
    VpExists(VpIndex),
    /// There is no such VP.
    #[error("{0} does not exist")]
    NoVp(VpIndex),
    /// The port id is taken.
    #[error("{0} exists already")]
    PortExists(PortId),
    /// The connection id is taken.
    #[error("{0} exists already")]
    ConnectionExists(ConnectionId),
    /// The guest has that partition already.
    #[error("{0} exists already")]
    ChildExists(PartitionId),
    /// Another doorbell watches the same address, size and value.
    #[error("A doorbell at {gpa:#x} exists already")]
    DoorbellExists {
        /// Guest physical address.
        gpa: u64,
    },
    /// The host refused an eventfd or epoll operation.
    #[error("Cannot {action}")]
    Event {
        /// What was being done.
        action: &'static str,
        /// The reason.
        #[source]
        source: io::Error,
    },
    /// Another event loop has the manager's eventfds.
    #[error("The manager's events are watched by another loop")]
    EventsTaken,
    /// The VMM asked for what needs a paused manager.
    #[error("Cannot {0} while the manager runs; pause it first")]
    NotPaused(&'static str),
    /// A saved state cannot be put back.
    #[error("Cannot restore the saved state: {field}: {reason}")]
    State {
        /// The field of the state.
        field: String,
        /// What is wrong with it.
        reason: String,
    },
}

impl Error {
    /// Names the part of the state that a field is in.
    pub(crate) fn inside(self, part: &str) -> Self {
        match self {
            Self::State { field, reason } => Self::State {
                field: format!("{part}.{field}"),
                reason,
            },
            other => other,
        }
    }
}
