// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! A message slot, copied out of its page, with a header that holds what it says.

use super::error::{ParseError, Payload};
use super::wire::{Wire, layout};
use super::{Arch, SintMessage};
use crate::abi::{HEADER_SIZE, MESSAGE_PAYLOAD_MAX, MESSAGE_SIZE, MessageType};

/// A message as it stood in its slot.
///
/// It has no pending flag: that one may change until the slot is freed, and means something only
/// when read after (see [`MessageSlot::release`](super::MessageSlot::release)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RawSlot<'a> {
    /// Type of the message.
    pub message_type: MessageType,
    /// Partition or port that sent it; 0 for the hypervisor itself.
    pub sender: u64,
    /// The payload, as long as the header says.
    pub payload: &'a [u8],
}

impl<'a> RawSlot<'a> {
    /// Reads a **private copy** of a slot; `None` if it is empty.
    ///
    /// # Errors
    /// The header claims a payload longer than a slot has room for.
    pub fn read(slot: &'a [u8; MESSAGE_SIZE]) -> Result<Option<Self>, ParseError> {
        let (header, rest) = slot.split_at(HEADER_SIZE);
        // A slot is longer than its header, so this always reads; an empty slot is the safe answer.
        let Some(header) = SlotHeader::read(header, 0) else {
            return Ok(None);
        };
        let Some(message_type) = MessageType::new(header.message_type) else {
            return Ok(None);
        };
        let payload = rest
            .get(..usize::from(header.payload_size))
            .ok_or_else(|| {
                Payload {
                    message_type,
                    bytes: rest,
                }
                .bad_field("payload_size", header.payload_size)
            })?;
        Ok(Some(Self {
            message_type,
            sender: header.sender,
            payload,
        }))
    }

    /// Understands the payload.
    ///
    /// # Errors
    /// As for [`SintMessage::parse`].
    pub fn message(&self, arch: Arch) -> Result<SintMessage<'a>, ParseError> {
        SintMessage::parse(arch, self.message_type, self.payload)
    }
}

layout! {
    /// `hv_message_header`; the flags and two reserved bytes are left out.
    struct SlotHeader[16] {
        /// 0 for an empty slot.
        0 => message_type: u32,
        /// Bytes of payload.
        4 => payload_size: u8,
        /// Partition or port.
        8 => sender: u64,
    }
}

const _: () = assert!(SlotHeader::SIZE == HEADER_SIZE);
const _: () = assert!(HEADER_SIZE + MESSAGE_PAYLOAD_MAX == MESSAGE_SIZE);

#[cfg(test)]
mod tests {
    use super::*;

    fn slot(header: &[u8]) -> [u8; MESSAGE_SIZE] {
        let mut bytes = [0xEE; MESSAGE_SIZE];
        bytes[..header.len()].copy_from_slice(header);
        bytes
    }

    #[test]
    fn slot_of_type_zero_is_empty_whatever_else_it_holds() {
        assert_eq!(RawSlot::read(&slot(&[0, 0, 0, 0, 255])), Ok(None));
    }

    #[test]
    fn header_fields_are_at_their_offsets() {
        let bytes = slot(&[
            0x3F, 0, 0, 0x80, 4, 1, 0xEE, 0xEE, 9, 0, 0, 0, 0, 0, 0, 1, 3, 0, 0, 0,
        ]);
        let expected = RawSlot {
            message_type: MessageType::new(0x8000_003F).unwrap(),
            sender: 0x0100_0000_0000_0009,
            payload: &[3, 0, 0, 0],
        };
        assert_eq!(RawSlot::read(&bytes), Ok(Some(expected)));
    }

    #[test]
    fn payload_size_above_240_is_refused() {
        let longest = slot(&[1, 0, 0, 0, 240]);
        assert_eq!(RawSlot::read(&longest).unwrap().unwrap().payload.len(), 240);
        let refused = ParseError::Field {
            message_type: 1,
            field: "payload_size",
            value: 241,
        };
        assert_eq!(RawSlot::read(&slot(&[1, 0, 0, 0, 241])), Err(refused));
    }
}
