// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! arm64 intercepts, as far as their layouts are published (Linux `hvhdk.h`).

use super::{Access, in_use, sints_in};
use crate::abi::{SintIndex, VpIndex};
use crate::sint0::error::{ParseError, Payload};
use crate::sint0::wire::layout;

/// An intercept of an arm64 VP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Arm64Intercept {
    /// 80000000: access to a page that is not mapped.
    UnmappedGpa(Arm64Memory),
    /// 80000001: access that the page's permissions do not allow.
    Gpa(Arm64Memory),
    /// 80000062: SINTs can take a message again.
    SintDeliverable(Arm64SintDeliverable),
    /// 8001000C: the partition wants to be reset or switched off.
    Reset(Arm64Reset),
}

impl Arm64Intercept {
    /// `Ok(None)` if the type is not an arm64 intercept.
    pub(in crate::sint0) fn parse(payload: Payload<'_>) -> Result<Option<Self>, ParseError> {
        Ok(Some(match payload.message_type.get() {
            0x8000_0000 => Self::UnmappedGpa(payload.read()?),
            0x8000_0001 => Self::Gpa(payload.read()?),
            0x8000_0062 => Self::SintDeliverable(payload.read()?),
            0x8001_000C => Self::Reset(payload.read()?),
            _ => return Ok(None),
        }))
    }

    /// The VP that was stopped.
    pub const fn vp(&self) -> VpIndex {
        match self {
            Self::UnmappedGpa(memory) | Self::Gpa(memory) => memory.header.vp,
            Self::SintDeliverable(deliverable) => deliverable.header.vp,
            Self::Reset(reset) => reset.header.vp,
        }
    }
}

layout! {
    /// Header of the arm64 intercepts (`hv_arm64_intercept_message_header`).
    pub struct Arm64Header[24] {
        /// The VP that was stopped.
        0 => vp: VpIndex,
        /// Length of the instruction, in bytes.
        4 => instruction_length: u8,
        /// What it was doing.
        5 => access: Access,
        /// The mode it was in (`hv_arm64_vp_execution_state`).
        6 => execution_state: u16,
        /// PC.
        8 => pc: u64,
        /// CPSR.
        16 => cpsr: u64,
    }

    /// An access to memory.
    pub struct Arm64Memory[64] {
        /// The stopped VP.
        0 => header: Arm64Header,
        /// Cacheability of the access (`HV_CACHE_TYPE`).
        24 => cache_type: u32,
        /// How many of the instruction bytes are valid.
        28 => instruction_byte_count: u8,
        /// Bit 0: the virtual address is valid; bit 1: and leads to the physical one; bit 2: the
        /// output of a hypercall is pending.
        29 => access_info: u8,
        /// The instruction; see [`Arm64Memory::instruction`].
        32 => instruction_bytes: [u8; 4],
        /// Guest virtual address.
        40 => gva: u64,
        /// Guest physical address.
        48 => gpa: u64,
        /// ESR_EL2.
        56 => syndrome: u64,
    }

    /// SINTs that can take a message again.
    pub struct Arm64SintDeliverable[32] {
        /// The VP.
        0 => header: Arm64Header,
        /// Bit n for SINTn; see [`Arm64SintDeliverable::sints`].
        24 => deliverable_sints: u16,
    }

    /// A wish to be reset.
    pub struct Arm64Reset[32] {
        /// The VP.
        0 => header: Arm64Header,
        /// 0 power off, 1 reboot, 2 SYSTEM_RESET2, 3 hibernate (`hv_arm64_reset_type`).
        24 => reset_type: u32,
        /// More about it.
        28 => reset_code: u32,
    }
}

impl Arm64Memory {
    /// The valid bytes of the instruction.
    pub fn instruction(&self) -> &[u8] {
        in_use(&self.instruction_bytes, self.instruction_byte_count)
    }
}

impl Arm64SintDeliverable {
    /// The SINTs, ascending.
    pub fn sints(&self) -> impl Iterator<Item = SintIndex> {
        sints_in(self.deliverable_sints)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::abi::MessageType;

    const HEADER: [u8; 24] = [
        7, 0, 0, 0, 4, 1, 0x05, 0x00, 0x10, 0, 0, 0, 0, 0, 0, 0x10, 0xC5, 3, 0, 0, 0, 0, 0, 0,
    ];

    fn parse(message_type: u32, bytes: &[u8]) -> Result<Option<Arm64Intercept>, ParseError> {
        Arm64Intercept::parse(Payload {
            message_type: MessageType::new(message_type).unwrap(),
            bytes,
        })
    }

    #[test]
    fn memory_access_has_its_header_and_addresses() {
        let mut bytes = [0xEE; 64];
        bytes[..24].copy_from_slice(&HEADER);
        bytes[24..30].copy_from_slice(&[1, 0, 0, 0, 4, 3]);
        bytes[32..36].copy_from_slice(&[1, 2, 3, 4]);
        bytes[40..48].copy_from_slice(&[1, 0, 0, 0, 0, 0, 0, 0x10]);
        bytes[48..56].copy_from_slice(&[2, 0, 0, 0, 0, 0, 0, 0x20]);
        bytes[56..64].copy_from_slice(&[3, 0, 0, 0, 0, 0, 0, 0x30]);
        let Ok(Some(Arm64Intercept::Gpa(memory))) = parse(0x8000_0001, &bytes) else {
            panic!("not a memory access");
        };
        assert_eq!(memory.header.vp, VpIndex::new(7));
        assert_eq!(memory.header.access, Access::Write);
        assert_eq!(memory.header.execution_state, 5);
        assert_eq!(
            (memory.header.pc, memory.header.cpsr),
            (0x1000_0000_0000_0010, 0x3C5)
        );
        assert_eq!((memory.cache_type, memory.access_info), (1, 3));
        assert_eq!(memory.instruction(), [1, 2, 3, 4]);
        assert_eq!(
            (memory.gva, memory.gpa),
            (0x1000_0000_0000_0001, 0x2000_0000_0000_0002)
        );
        assert_eq!(memory.syndrome, 0x3000_0000_0000_0003);
    }

    #[test]
    fn deliverable_and_reset_follow_the_shorter_header() {
        let mut bytes = [0; 32];
        bytes[..24].copy_from_slice(&HEADER);
        bytes[24..].copy_from_slice(&[2, 0x80, 0, 0, 9, 0, 0, 0]);
        let Ok(Some(Arm64Intercept::SintDeliverable(deliverable))) = parse(0x8000_0062, &bytes)
        else {
            panic!("not deliverable");
        };
        assert!(deliverable.sints().map(SintIndex::get).eq([1, 15]));
        let Ok(Some(Arm64Intercept::Reset(reset))) = parse(0x8001_000C, &bytes) else {
            panic!("not a reset");
        };
        assert_eq!((reset.reset_type, reset.reset_code), (0x8002, 9));
    }

    #[test]
    fn x64_type_is_not_an_arm64_intercept() {
        assert_eq!(parse(0x8001_0001, &[0; 240]), Ok(None));
    }
}
