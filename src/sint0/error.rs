// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! Why a message cannot be understood, and the payload that says so.

use super::wire::Wire;
use crate::abi::MessageType;

/// A message that contradicts its own type; the hypervisor that sent it is at fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ParseError {
    /// The payload ends before the fields of this type do.
    #[error("Message {message_type:#x} needs {needed} bytes of payload, but has {got}")]
    Short {
        /// Type of the message.
        message_type: u32,
        /// Bytes that the type needs.
        needed: usize,
        /// Bytes that are there.
        got: usize,
    },
    /// A field has a value that it must not have.
    #[error("Message {message_type:#x} has no valid {field}: {value:#x}")]
    Field {
        /// Type of the message.
        message_type: u32,
        /// Name of the field, as in the headers.
        field: &'static str,
        /// What stands there.
        value: u64,
    },
}

/// A payload together with the type that says what it holds.
#[derive(Clone, Copy)]
pub(super) struct Payload<'a> {
    pub message_type: MessageType,
    pub bytes: &'a [u8],
}

impl Payload<'_> {
    /// Reads the payload as one struct. Bytes after it are not looked at: a later hypervisor may
    /// have more to say.
    pub fn read<T: Wire>(&self) -> Result<T, ParseError> {
        T::read(self.bytes, 0).ok_or_else(|| self.short(T::SIZE))
    }

    pub fn short(&self, needed: usize) -> ParseError {
        ParseError::Short {
            message_type: self.message_type.get(),
            needed,
            got: self.bytes.len(),
        }
    }

    pub fn bad_field(&self, field: &'static str, value: impl Into<u64>) -> ParseError {
        ParseError::Field {
            message_type: self.message_type.get(),
            field,
            value: value.into(),
        }
    }
}
