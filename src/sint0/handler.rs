// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! The two ends of a dispatch, which the driver provides: the slot and the handler.

use super::{ApicEoi, AsyncCallCompletion, SintMessage};
use crate::abi::{MESSAGE_SIZE, SintIndex, VpIndex};

/// The consumer's side of a message slot, and of the EOM register that goes with it.
pub trait MessageSlot {
    /// Copies the slot. The type is loaded first, with Acquire or stronger: it was stored last.
    fn read(&mut self) -> [u8; MESSAGE_SIZE];

    /// Stores type 0, **then** a full fence, **then** loads `msg_pending` and returns it.
    ///
    /// The fence pairs with the producer's, which sets `msg_pending` before it looks at the type
    /// once more: one of the two sees the other, and no message is left behind.
    fn release(&mut self) -> bool;

    /// Writes EOM, in the register bank of the slot.
    fn end_of_message(&mut self);
}

/// What a driver does about the messages on SINT0. Each method says whether the message meant
/// anything to it; the default is that it did not.
#[expect(unused_variables, reason = "the defaults handle nothing")]
pub trait Sint0Handler {
    /// The event ring of a SINT has entries: drain it.
    fn doorbell(&mut self, sint: SintIndex) -> bool {
        false
    }

    /// Run a VP. Called for each VP of a scheduler message; one that is refused does not keep the
    /// others from running.
    fn signal_vp(&mut self, partition_id: u64, vp: VpIndex) -> bool {
        false
    }

    /// Hypercalls have completed.
    fn async_completion(&mut self, completion: &AsyncCallCompletion) -> bool {
        false
    }

    /// A VP of a partition has stopped; its intercept message page says why.
    fn opaque_intercept(&mut self, partition_id: u64, vp: VpIndex) -> bool {
        false
    }

    /// A VP of a partition ended a level-triggered interrupt.
    fn apic_eoi(&mut self, partition_id: u64, eoi: &ApicEoi) -> bool {
        false
    }

    /// Any other message that is not of an unknown type.
    fn other(&mut self, sender: u64, message: &SintMessage<'_>) -> bool {
        false
    }
}
