// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! Messages whose payload is the same on every architecture.

use super::error::{ParseError, Payload};
use super::wire::layout;
use crate::abi::{SintIndex, VpIndex};

/// `HVMSG_SYNIC_SINT_INTERCEPT`: the event ring of a SINT has entries, because a doorbell was rung.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SintNotification {
    /// The SINT whose ring to drain. Linux knows SINT5 alone (`mshv_doorbell_isr`).
    pub sint: SintIndex,
}

impl SintNotification {
    pub(super) fn parse(payload: Payload<'_>) -> Result<Self, ParseError> {
        let index: u32 = payload.read()?;
        SintIndex::try_from(index)
            .map(|sint| Self { sint })
            .map_err(|_| payload.bad_field("sint_index", index))
    }
}

layout! {
    /// `HVMSG_TIMER_EXPIRED`: a synthetic timer expired. Times are in units of 100 ns of the
    /// partition's reference time.
    pub struct TimerExpired[24] {
        /// Which timer of the VP.
        0 => timer_index: u32,
        /// When it was to expire.
        8 => expiration_time: u64,
        /// When the message was written.
        16 => delivery_time: u64,
    }

    /// `HVMSG_ASYNC_CALL_COMPLETION`: hypercalls that a partition was made to wait for are done.
    pub struct AsyncCallCompletion[24] {
        /// The partition that the calls were about.
        0 => partition_id: u64,
        /// Their status, an `HV_STATUS`.
        8 => status: u32,
        /// How many have completed.
        12 => completion_count: u32,
        /// More about a failure.
        16 => sub_status: u64,
    }

    /// `HVMSG_OPAQUE_INTERCEPT`: a VP of the sending partition has stopped; the intercept itself
    /// is in the VP's intercept message page.
    pub struct OpaqueIntercept[4] {
        /// The VP.
        0 => vp: VpIndex,
    }

    /// `HVMSG_X64_APIC_EOI`: a VP of the sending partition ended a level-triggered interrupt.
    pub struct ApicEoi[8] {
        /// The VP.
        0 => vp: VpIndex,
        /// Vector of the interrupt. Linux takes it for a GSI (`mshv_notify_acked_gsi`).
        4 => interrupt_vector: u32,
    }
}

#[cfg(test)]
mod tests {
    use super::super::wire::Wire;
    use super::*;
    use crate::abi::MessageType;

    fn notification(bytes: &[u8]) -> Result<SintNotification, ParseError> {
        SintNotification::parse(Payload {
            message_type: MessageType::SYNIC_SINT_INTERCEPT,
            bytes,
        })
    }

    #[test]
    fn notification_names_its_sint() {
        let sint = SintIndex::DOORBELL;
        assert_eq!(notification(&[5, 0, 0, 0]), Ok(SintNotification { sint }));
    }

    #[test]
    fn notification_for_a_sint_that_is_none_is_refused_not_truncated() {
        for (bytes, value) in [([16, 0, 0, 0], 16), ([5, 1, 0, 0], 0x105)] {
            let refused = ParseError::Field {
                message_type: 0x8000_0061,
                field: "sint_index",
                value,
            };
            assert_eq!(notification(&bytes), Err(refused));
        }
    }

    #[test]
    fn timer_fields_are_at_their_offsets() {
        let mut bytes = [0xEE; 24];
        bytes[0..4].copy_from_slice(&[3, 0, 0, 0]);
        bytes[8..16].copy_from_slice(&[1, 0, 0, 0, 0, 0, 0, 2]);
        bytes[16..24].copy_from_slice(&[4, 0, 0, 0, 0, 0, 0, 5]);
        let expected = TimerExpired {
            timer_index: 3,
            expiration_time: 0x0200_0000_0000_0001,
            delivery_time: 0x0500_0000_0000_0004,
        };
        assert_eq!(TimerExpired::read(&bytes, 0), Some(expected));
    }

    #[test]
    fn completion_fields_are_at_their_offsets() {
        let bytes = [
            1, 0, 0, 0, 0, 0, 0, 9, 0x78, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 8,
        ];
        let expected = AsyncCallCompletion {
            partition_id: 0x0900_0000_0000_0001,
            status: 0x78,
            completion_count: 2,
            sub_status: 0x0800_0000_0000_0003,
        };
        assert_eq!(AsyncCallCompletion::read(&bytes, 0), Some(expected));
    }

    #[test]
    fn eoi_fields_are_at_their_offsets() {
        let bytes = [1, 0, 0, 0, 0x30, 0, 0, 1];
        let vp = VpIndex::new(1);
        let eoi = ApicEoi {
            vp,
            interrupt_vector: 0x0100_0030,
        };
        assert_eq!(ApicEoi::read(&bytes, 0), Some(eoi));
        assert_eq!(
            OpaqueIntercept::read(&bytes, 0),
            Some(OpaqueIntercept { vp })
        );
    }
}
