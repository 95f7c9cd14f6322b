// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! A message as it stands in a slot of the message page (TLFS `HV_MESSAGE`).

use std::fmt;

/// Size of a message slot, in bytes.
pub const MESSAGE_SIZE: usize = 256;
/// Size of the header that precedes the payload, in bytes.
pub const HEADER_SIZE: usize = 16;
/// The longest payload, in bytes.
pub const MESSAGE_PAYLOAD_MAX: usize = MESSAGE_SIZE - HEADER_SIZE;

/// Why a message cannot be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MessageError {
    /// Type 0 marks an empty slot.
    #[error("Message type 0 means an empty slot")]
    NoType,
    /// The payload is longer than a slot.
    #[error("Message payload of {0} bytes is longer than {MESSAGE_PAYLOAD_MAX}")]
    TooLong(usize),
}

/// The type word of a message; never 0.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(transparent))]
pub struct MessageType(std::num::NonZeroU32);

impl MessageType {
    /// VMBus channel message, the type that `hv_vmbus` uses in both directions.
    pub const VMBUS: Self = Self::constant(1);
    /// `HVMSG_TIMER_EXPIRED`: a synthetic timer expired.
    pub const TIMER_EXPIRED: Self = Self::constant(0x8000_0010);
    /// `HVMSG_SYNIC_SINT_INTERCEPT`: the event ring of a SINT has entries.
    pub const SYNIC_SINT_INTERCEPT: Self = Self::constant(0x8000_0061);

    /// `None` for 0.
    pub const fn new(value: u32) -> Option<Self> {
        match std::num::NonZeroU32::new(value) {
            Some(value) => Some(Self(value)),
            None => None,
        }
    }

    /// The number.
    pub const fn get(self) -> u32 {
        self.0.get()
    }

    /// Whether a guest may send it: types with bit 31 set are the hypervisor's
    /// (TLFS `HvPostMessage`).
    pub const fn is_guest_defined(self) -> bool {
        self.get() >> 31 == 0
    }

    const fn constant(value: u32) -> Self {
        match Self::new(value) {
            Some(message_type) => message_type,
            None => panic!("a message type is not 0"),
        }
    }
}

impl fmt::Debug for MessageType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MessageType({:#x})", self.get())
    }
}

/// A message as it is saved: a payload of its own length.
#[cfg(feature = "serde")]
#[derive(serde::Serialize, serde::Deserialize)]
struct SavedMessage {
    message_type: MessageType,
    sender: u64,
    payload: Vec<u8>,
}

#[cfg(feature = "serde")]
impl TryFrom<SavedMessage> for Message {
    type Error = MessageError;

    fn try_from(saved: SavedMessage) -> Result<Self, MessageError> {
        let message = Self::new(saved.message_type, &saved.payload)?;
        Ok(message.with_sender(saved.sender))
    }
}

#[cfg(feature = "serde")]
impl From<Message> for SavedMessage {
    fn from(message: Message) -> Self {
        Self {
            message_type: message.message_type,
            sender: message.sender,
            payload: message.payload().to_vec(),
        }
    }
}

/// A message: type, sender and at most 240 bytes of payload.
///
/// ```
/// use vm_synic::{Message, MessageType};
///
/// let hello = Message::new(MessageType::VMBUS, b"hello")?;
/// assert_eq!(hello.payload(), b"hello");
/// # Ok::<(), vm_synic::MessageError>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(
    feature = "serde",
    serde(try_from = "SavedMessage", into = "SavedMessage")
)]
pub struct Message {
    message_type: MessageType,
    /// Partition id of the sender, or its port id; 0 for the hypervisor itself.
    sender: u64,
    len: u8,
    payload: [u8; MESSAGE_PAYLOAD_MAX],
}

impl Message {
    /// A message without a sender.
    ///
    /// # Errors
    /// [`MessageError::TooLong`] for a payload above 240 bytes.
    pub fn new(message_type: MessageType, payload: &[u8]) -> Result<Self, MessageError> {
        let too_long = MessageError::TooLong(payload.len());
        let len = u8::try_from(payload.len()).map_err(|_| too_long)?;
        let mut message = Self {
            message_type,
            sender: 0,
            len,
            payload: [0; MESSAGE_PAYLOAD_MAX],
        };
        message
            .payload
            .get_mut(..payload.len())
            .ok_or(too_long)?
            .copy_from_slice(payload);
        Ok(message)
    }

    /// The same message from a sender: a partition id, or a port id in the low 24 bits.
    #[must_use]
    pub const fn with_sender(self, sender: u64) -> Self {
        Self { sender, ..self }
    }

    /// The type word.
    pub const fn message_type(&self) -> MessageType {
        self.message_type
    }

    /// The sender, 0 if there is none.
    pub const fn sender(&self) -> u64 {
        self.sender
    }

    /// The payload, 0 to 240 bytes.
    pub fn payload(&self) -> &[u8] {
        // `new` made `len` from a slice that fits; the empty slice is never seen.
        self.payload.get(..usize::from(self.len)).unwrap_or(&[])
    }

    /// As it stands in a slot (`hv_message`), with no other message behind it.
    pub fn to_bytes(&self) -> [u8; MESSAGE_SIZE] {
        let header = u128::from(self.message_type.get())
            | u128::from(self.size_and_flags(false)) << 32
            | u128::from(self.sender) << 64;
        let mut bytes = [0; MESSAGE_SIZE];
        // In two pieces, which always fit: byte by byte it takes longer than all else of a post.
        if let Some((start, rest)) = bytes.split_first_chunk_mut() {
            *start = header.to_le_bytes();
            if let Some(rest) = rest.first_chunk_mut() {
                *rest = self.payload;
            }
        }
        bytes
    }

    /// The first header word of a slot: type, size and flags, little-endian.
    pub(crate) const fn size_and_flags(&self, pending: bool) -> u32 {
        self.len as u32 | (pending as u32) << 8
    }

    /// The payload in whole words, the last one padded with zeroes.
    pub(crate) fn payload_words(&self) -> impl Iterator<Item = u64> {
        let words = usize::from(self.len).div_ceil(8);
        self.payload
            .chunks_exact(8)
            .take(words)
            .map(|bytes| u64::from_le_bytes(bytes.try_into().unwrap_or([0; 8])))
    }
}

impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Message")
            .field("type", &format_args!("{:#x}", self.message_type.get()))
            .field("sender", &format_args!("{:#x}", self.sender))
            .field("payload", &self.payload())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn message_of_240_bytes_is_the_longest() {
        let longest = [7; MESSAGE_PAYLOAD_MAX];
        assert_eq!(
            Message::new(MessageType::VMBUS, &longest)
                .unwrap()
                .payload(),
            longest
        );
        assert_eq!(
            Message::new(MessageType::VMBUS, &[0; 241]),
            Err(MessageError::TooLong(241))
        );
    }

    #[test]
    fn to_bytes_has_header_sender_and_payload_at_their_offsets() {
        let message = Message::new(MessageType::VMBUS, &[7; 3]).unwrap();
        let bytes = message.with_sender(0x0102).to_bytes();
        assert_eq!(
            bytes[..20],
            [1, 0, 0, 0, 3, 0, 0, 0, 2, 1, 0, 0, 0, 0, 0, 0, 7, 7, 7, 0]
        );
        assert_eq!(bytes[20..], [0; 236]);
    }

    #[test]
    fn payload_words_pad_the_last_word_with_zeroes() {
        let message = Message::new(MessageType::VMBUS, &[1, 0, 0, 0, 0, 0, 0, 0, 2]).unwrap();
        assert_eq!(message.payload_words().collect::<Vec<_>>(), [1, 2]);
    }
}
