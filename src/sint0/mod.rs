// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! SINT0 dispatch: what a driver does with the messages that a hypervisor sends it.
//!
//! SINT0 is where the hypervisor talks to an MSHV driver: doorbells, scheduler signals, completions
//! and intercepts all arrive in the one slot of the message page. From there to a handler, a
//! message passes three stages, each usable alone:
//!
//! 1. [`RawSlot`]: the 256 bytes of a slot, copied once, with the header checked;
//! 2. [`SintMessage`]: the payload by its type. Parsing is total: every input is a message or a
//!    [`ParseError`], and nothing is believed that contradicts itself;
//! 3. [`Sint0Dispatcher`]: hands it to a [`Sint0Handler`] and frees the slot, **whatever** the
//!    handler thinks of it. Linux leaves a message that it cannot handle in the slot
//!    (`mshv_isr`), and so hears nothing from SINT0 ever after; we count such messages instead.

mod dispatch;
mod error;
mod handler;
mod intercept;
mod notice;
mod scheduler;
mod slot;
mod wire;

use crate::abi::MessageType;
use error::Payload;

pub use dispatch::{Outcome, Sint0Counters, Sint0Dispatcher};
pub use error::ParseError;
pub use handler::{MessageSlot, Sint0Handler};
pub use intercept::{
    Access, Arm64Header, Arm64Intercept, Arm64Memory, Arm64Reset, Arm64SintDeliverable, X64Cpuid,
    X64Exception, X64ExceptionInfo, X64ExecutionState, X64GpaAttribute, X64GpaAttributeRequest,
    X64Header, X64Hypercall, X64Instruction, X64Intercept, X64InterruptionDeliverable,
    X64InvalidVpRegister, X64IoPort, X64Memory, X64MemoryAccess, X64Msr, X64PortAccess, X64Segment,
    X64SevVmgexit, X64SintDeliverable, X64Sipi, X64UnsupportedFeature,
};
pub use notice::{ApicEoi, AsyncCallCompletion, OpaqueIntercept, SintNotification, TimerExpired};
pub use scheduler::{BITSET_VP_MAX, PAIR_MAX, VpSet, VpSignalBitset, VpSignalPair};
pub use slot::RawSlot;

/// The architecture of the hypervisor, which decides the layout of intercepts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arch {
    /// x86-64.
    X64,
    /// AArch64.
    Arm64,
}

/// A message of the hypervisor, understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SintMessage<'a> {
    /// Bit 31 clear: another guest's, or a VMBus host's; the payload is between the two.
    GuestDefined {
        /// Type of the message; 1 for VMBus.
        message_type: MessageType,
        /// What was sent.
        payload: &'a [u8],
    },
    /// 80000010: a synthetic timer expired.
    TimerExpired(TimerExpired),
    /// 8000003F: a VP stopped, for a reason that stands elsewhere.
    OpaqueIntercept(OpaqueIntercept),
    /// 80000040: a buffer of the event log is full. Its layout is not published.
    EventlogBufferComplete(&'a [u8]),
    /// 80000060: an event flag of an intercepted SINT was set. Its layout is not published.
    SynicEventIntercept(&'a [u8]),
    /// 80000061: the event ring of a SINT has entries.
    SintNotification(SintNotification),
    /// 80000070: hypercalls have completed.
    AsyncCallCompletion(AsyncCallCompletion),
    /// 80000100: run these VPs of one partition.
    VpSignalBitset(VpSignalBitset),
    /// 80000101: run these VPs.
    VpSignalPair(VpSignalPair),
    /// 80010004: a VP ended a level-triggered interrupt.
    ApicEoi(ApicEoi),
    /// 80010005: a legacy floating-point error, by Linux; Microsoft's Rust headers disagree.
    X64LegacyFpError(&'a [u8]),
    /// 80010006: an IOMMU page request, by Linux; the TLFS calls it a register intercept.
    X64IommuPrq(&'a [u8]),
    /// An x64 VP stopped.
    X64(X64Intercept),
    /// An arm64 VP stopped.
    Arm64(Arm64Intercept),
    /// A type that nobody has told us about.
    Unknown {
        /// Type of the message.
        message_type: MessageType,
    },
}

impl<'a> SintMessage<'a> {
    /// Understands a payload by the type of its message.
    ///
    /// # Errors
    /// The payload is too short for its type, or contradicts it.
    pub fn parse(
        arch: Arch,
        message_type: MessageType,
        bytes: &'a [u8],
    ) -> Result<Self, ParseError> {
        let payload = Payload {
            message_type,
            bytes,
        };
        Ok(match message_type.get() {
            0..=0x7FFF_FFFF => Self::GuestDefined {
                message_type,
                payload: bytes,
            },
            0x8000_0010 => Self::TimerExpired(payload.read()?),
            0x8000_003F => Self::OpaqueIntercept(payload.read()?),
            0x8000_0040 => Self::EventlogBufferComplete(bytes),
            0x8000_0060 => Self::SynicEventIntercept(bytes),
            0x8000_0061 => Self::SintNotification(SintNotification::parse(payload)?),
            0x8000_0070 => Self::AsyncCallCompletion(payload.read()?),
            0x8000_0100 => Self::VpSignalBitset(VpSignalBitset::parse(payload)?),
            0x8000_0101 => Self::VpSignalPair(VpSignalPair::parse(payload)?),
            0x8001_0004 => Self::ApicEoi(payload.read()?),
            _ => Self::parse_by_arch(arch, payload)?,
        })
    }

    fn parse_by_arch(arch: Arch, payload: Payload<'a>) -> Result<Self, ParseError> {
        let message_type = payload.message_type;
        let intercept = match arch {
            Arch::X64 => X64Intercept::parse(payload)?.map(Self::X64),
            Arch::Arm64 => Arm64Intercept::parse(payload)?.map(Self::Arm64),
        };
        Ok(intercept.unwrap_or(match (arch, message_type.get()) {
            (Arch::X64, 0x8001_0005) => Self::X64LegacyFpError(payload.bytes),
            (Arch::X64, 0x8001_0006) => Self::X64IommuPrq(payload.bytes),
            _ => Self::Unknown { message_type },
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(message_type: u32, bytes: &[u8]) -> Result<SintMessage<'_>, ParseError> {
        SintMessage::parse(Arch::X64, MessageType::new(message_type).unwrap(), bytes)
    }

    /// Every type of the headers, with the shortest payload that it can have (for the bit set, one
    /// without banks).
    const TYPES: [(u32, usize); 30] = [
        (0x0000_0001, 0),
        (0x7FFF_FFFF, 0),
        (0x8000_0000, 80),
        (0x8000_0001, 80),
        (0x8000_0003, 80),
        (0x8000_0004, 240),
        (0x8000_0010, 24),
        (0x8000_0020, 8),
        (0x8000_0021, 40),
        (0x8000_0022, 16),
        (0x8000_003F, 4),
        (0x8000_0040, 0),
        (0x8000_0050, 192),
        (0x8000_0060, 0),
        (0x8000_0061, 4),
        (0x8000_0062, 48),
        (0x8000_0070, 24),
        (0x8000_0100, 32),
        (0x8000_0101, 240),
        (0x8001_0000, 128),
        (0x8001_0001, 64),
        (0x8001_0002, 104),
        (0x8001_0003, 240),
        (0x8001_0004, 8),
        (0x8001_0005, 0),
        (0x8001_0006, 0),
        (0x8001_0007, 40),
        (0x8001_0008, 48),
        (0x8001_0009, 48),
        (0x8001_0013, 104),
    ];

    #[test]
    fn payload_of_each_type_parses_from_its_shortest_length_on() {
        let mut bytes = [0; 240];
        // vp_count of a bit set, which must not be 0.
        bytes[12] = 1;
        for (message_type, shortest) in TYPES {
            for len in 0..=240 {
                let parsed = parse(message_type, &bytes[..len]);
                let short = ParseError::Short {
                    message_type,
                    needed: shortest,
                    got: len,
                };
                if len < shortest {
                    assert_eq!(parsed, Err(short));
                } else {
                    assert!(
                        parsed.is_ok(),
                        "{message_type:#x} with {len} bytes: {parsed:?}"
                    );
                }
            }
        }
    }

    #[test]
    fn type_that_is_not_in_the_headers_is_unknown() {
        for message_type in [0x8000_0002, 0x8000_0063, 0x8001_000A, 0x8001_000C, u32::MAX] {
            let expected = SintMessage::Unknown {
                message_type: MessageType::new(message_type).unwrap(),
            };
            assert_eq!(parse(message_type, &[0; 240]), Ok(expected));
        }
    }

    #[test]
    fn type_below_bit_31_keeps_its_payload() {
        let expected = SintMessage::GuestDefined {
            message_type: MessageType::VMBUS,
            payload: &[1, 2, 3],
        };
        assert_eq!(parse(1, &[1, 2, 3]), Ok(expected));
    }

    #[test]
    fn type_with_a_layout_per_architecture_parses_by_the_architecture() {
        let message_type = MessageType::new(0x8000_0062).unwrap();
        let x64 = SintMessage::parse(Arch::X64, message_type, &[0; 48]);
        let arm64 = SintMessage::parse(Arch::Arm64, message_type, &[0; 32]);
        assert!(matches!(
            x64,
            Ok(SintMessage::X64(X64Intercept::SintDeliverable(_)))
        ));
        assert!(matches!(
            arm64,
            Ok(SintMessage::Arm64(Arm64Intercept::SintDeliverable(_)))
        ));
    }

    #[test]
    fn arbitrary_bytes_of_any_type_never_panic() {
        let mut state = 0x9E37_79B9_7F4A_7C15u64;
        let mut next = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state
        };
        for round in 0..20_000 {
            let mut bytes = [0; 240];
            for chunk in bytes.chunks_exact_mut(8) {
                chunk.copy_from_slice(&next().to_le_bytes());
            }
            let (message_type, _) = TYPES[round % TYPES.len()];
            let message_type = MessageType::new(message_type).unwrap();
            let arch = if next() & 1 == 0 {
                Arch::X64
            } else {
                Arch::Arm64
            };
            let len = usize::try_from(next() % 241).unwrap();
            let _ = format!(
                "{:?}",
                SintMessage::parse(arch, message_type, &bytes[..len])
            );
        }
    }
}
