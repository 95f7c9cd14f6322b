// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! Scheduler messages: the hypervisor asks its root to run VPs.
//!
//! Under the root scheduler, the hypervisor wakes a VP by naming it to the root, either many VPs
//! of one partition as a bit set or up to nineteen of any partitions as pairs.

use super::error::{ParseError, Payload};
use super::wire::{Wire, layout};
use crate::abi::VpIndex;

/// Highest number of VPs that a bit set can name: sixteen banks of 64.
pub const BITSET_VP_MAX: u32 = 1024;
/// Highest number of pairs in one message (`HV_MESSAGE_MAX_PARTITION_VP_PAIR_COUNT`).
pub const PAIR_MAX: usize = 19;

const BANKS: usize = 16;

/// `HVMSG_SCHEDULER_VP_SIGNAL_BITSET`: run these VPs of one partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VpSignalBitset {
    /// The partition.
    pub partition_id: u64,
    /// Signals that the hypervisor could not put into messages.
    pub overflow_count: u32,
    /// How many VPs the hypervisor says it has named; never 0. Like Linux, we take the set at its
    /// word where the two differ.
    pub vp_count: u16,
    /// The VPs.
    pub vps: VpSet,
}

/// `HVMSG_SCHEDULER_VP_SIGNAL_PAIR`: run these VPs of these partitions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VpSignalPair {
    /// Signals that the hypervisor could not put into messages.
    pub overflow_count: u32,
    len: u8,
    partition_ids: [u64; PAIR_MAX],
    vp_indexes: [VpIndex; PAIR_MAX],
}

/// Set of VP indices below [`BITSET_VP_MAX`] (TLFS `HV_VP_SET`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VpSet {
    banks: [u64; BANKS],
}

impl VpSignalBitset {
    /// Refuses what Linux refuses (`handle_bitset_message`), and banks that are not there or that
    /// no VP can be in.
    pub(super) fn parse(payload: Payload<'_>) -> Result<Self, ParseError> {
        let head: BitsetHead = payload.read()?;
        if head.format != FORMAT_SPARSE_4K {
            return Err(payload.bad_field("format", head.format));
        }
        if head.vp_count == 0 {
            return Err(payload.bad_field("vp_count", head.vp_count));
        }
        Ok(Self {
            partition_id: head.partition_id,
            overflow_count: head.overflow_count,
            vp_count: head.vp_count,
            vps: VpSet::parse(payload, head.valid_bank_mask)?,
        })
    }
}

impl VpSignalPair {
    /// Refuses a count beyond the arrays, which Linux would follow (`handle_pair_message`).
    pub(super) fn parse(payload: Payload<'_>) -> Result<Self, ParseError> {
        let body: PairBody = payload.read()?;
        if usize::from(body.vp_count) > PAIR_MAX {
            return Err(payload.bad_field("vp_count", body.vp_count));
        }
        Ok(Self {
            overflow_count: body.overflow_count,
            len: body.vp_count,
            partition_ids: body.partition_ids,
            vp_indexes: body.vp_indexes,
        })
    }

    /// Partition id and VP, in the order of the message.
    pub fn pairs(&self) -> impl Iterator<Item = (u64, VpIndex)> + '_ {
        let vps = self.vp_indexes.iter().copied();
        let all = self.partition_ids.iter().copied().zip(vps);
        all.take(usize::from(self.len))
    }
}

impl VpSet {
    /// The VPs, ascending.
    pub fn iter(&self) -> impl Iterator<Item = VpIndex> + '_ {
        let banks = self.banks.iter().zip((0..BITSET_VP_MAX).step_by(64));
        banks.flat_map(|(bank, first)| ones(*bank).map(move |bit| VpIndex::new(first | bit)))
    }

    /// Whether a VP is in the set.
    pub fn contains(&self, vp: VpIndex) -> bool {
        let bank = usize::try_from(vp.get() / 64).unwrap_or(usize::MAX);
        let contents = self.banks.get(bank).copied().unwrap_or(0);
        contents >> (vp.get() % 64) & 1 != 0
    }

    /// How many VPs are in the set.
    pub fn count(&self) -> u32 {
        self.banks.iter().map(|bank| bank.count_ones()).sum()
    }

    /// Spreads the banks out: the payload has only those in the mask, ascending.
    fn parse(payload: Payload<'_>, mask: u64) -> Result<Self, ParseError> {
        if mask >> BANKS != 0 {
            return Err(payload.bad_field("valid_bank_mask", mask));
        }
        let mut banks = [0; BANKS];
        let mut at = BitsetHead::SIZE;
        for (index, bank) in banks.iter_mut().enumerate() {
            if mask >> index & 1 != 0 {
                *bank = u64::read(payload.bytes, at).ok_or_else(|| too_few_banks(payload, mask))?;
                at = at.saturating_add(u64::SIZE);
            }
        }
        Ok(Self { banks })
    }
}

/// Numbers of the bits that are set, ascending.
fn ones(word: u64) -> impl Iterator<Item = u32> {
    let clear_lowest = |word: &u64| Some(word & word.wrapping_sub(1));
    std::iter::successors(Some(word), clear_lowest)
        .take_while(|word| *word != 0)
        .map(u64::trailing_zeros)
}

fn too_few_banks(payload: Payload<'_>, mask: u64) -> ParseError {
    let banks = ones(mask).count();
    payload.short(banks.saturating_mul(8).saturating_add(BitsetHead::SIZE))
}

/// `HV_GENERIC_SET_SPARSE_4K`, the only format of a VP set that names VPs one by one.
const FORMAT_SPARSE_4K: u64 = 0;

layout! {
    /// `hv_vp_signal_bitset_scheduler_message` up to the banks.
    struct BitsetHead[32] {
        /// The partition.
        0 => partition_id: u64,
        /// Signals left out.
        8 => overflow_count: u32,
        /// VPs named.
        12 => vp_count: u16,
        /// Format of the set.
        16 => format: u64,
        /// Which banks follow.
        24 => valid_bank_mask: u64,
    }

    /// `hv_vp_signal_pair_scheduler_message`.
    struct PairBody[240] {
        /// Signals left out.
        0 => overflow_count: u32,
        /// Pairs in use.
        4 => vp_count: u8,
        /// First halves.
        8 => partition_ids: [u64; PAIR_MAX],
        /// Second halves.
        160 => vp_indexes: [VpIndex; PAIR_MAX],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::abi::MessageType;

    fn payload(message_type: u32, bytes: &[u8]) -> Payload<'_> {
        Payload {
            message_type: MessageType::new(message_type).unwrap(),
            bytes,
        }
    }

    fn put(bytes: &mut [u8], at: usize, value: &[u8]) {
        bytes[at..at + value.len()].copy_from_slice(value);
    }

    /// VPs 1, 63, 130 and 1023 of partition 0x1122334455667788.
    fn bitset() -> [u8; 160] {
        let mut bytes = [0; 160];
        put(&mut bytes, 0, &0x1122_3344_5566_7788u64.to_le_bytes());
        put(&mut bytes, 8, &[9, 0, 0, 0, 4, 0]);
        put(&mut bytes, 24, &[0x05, 0x80]);
        put(&mut bytes, 32, &[0x02, 0, 0, 0, 0, 0, 0, 0x80]);
        put(&mut bytes, 40, &[0x04]);
        put(&mut bytes, 48, &[0, 0, 0, 0, 0, 0, 0, 0x80]);
        bytes
    }

    fn parse_bitset(bytes: &[u8]) -> Result<VpSignalBitset, ParseError> {
        VpSignalBitset::parse(payload(0x8000_0100, bytes))
    }

    fn refused(field: &'static str, value: u64) -> Result<VpSignalBitset, ParseError> {
        Err(ParseError::Field {
            message_type: 0x8000_0100,
            field,
            value,
        })
    }

    #[test]
    fn bitset_with_sparse_banks_names_the_vps_of_each_bank() {
        let signal = parse_bitset(&bitset()).unwrap();
        assert_eq!(signal.partition_id, 0x1122_3344_5566_7788);
        assert_eq!((signal.overflow_count, signal.vp_count), (9, 4));
        assert!(signal.vps.iter().map(VpIndex::get).eq([1, 63, 130, 1023]));
        assert_eq!(signal.vps.count(), 4);
    }

    #[test]
    fn bitset_of_another_format_is_refused() {
        let mut bytes = bitset();
        put(&mut bytes, 16, &[1]);
        assert_eq!(parse_bitset(&bytes), refused("format", 1));
    }

    #[test]
    fn bitset_without_vps_is_refused() {
        let mut bytes = bitset();
        put(&mut bytes, 12, &[0, 0]);
        assert_eq!(parse_bitset(&bytes), refused("vp_count", 0));
    }

    #[test]
    fn bitset_with_a_bank_above_vp_1023_is_refused() {
        let mut bytes = bitset();
        put(&mut bytes, 24, &[0, 0, 1]);
        assert_eq!(parse_bitset(&bytes), refused("valid_bank_mask", 0x1_0000));
    }

    #[test]
    fn bitset_cut_inside_a_bank_that_its_mask_names_is_refused() {
        let short = ParseError::Short {
            message_type: 0x8000_0100,
            needed: 56,
            got: 55,
        };
        assert_eq!(parse_bitset(&bitset()[..55]), Err(short));
        assert!(parse_bitset(&bitset()[..56]).is_ok());
    }

    #[test]
    fn set_asked_for_a_vp_beyond_it_does_not_contain_it() {
        let signal = parse_bitset(&bitset()).unwrap();
        assert!(signal.vps.contains(VpIndex::new(130)));
        assert!(!signal.vps.contains(VpIndex::new(1024 + 1)));
        assert!(!signal.vps.contains(VpIndex::new(u32::MAX)));
    }

    fn parse_pair(bytes: &[u8]) -> Result<VpSignalPair, ParseError> {
        VpSignalPair::parse(payload(0x8000_0101, bytes))
    }

    #[test]
    fn pair_message_lists_only_the_pairs_in_use() {
        let mut bytes = [0xFF; 240];
        put(&mut bytes, 0, &[3, 0, 0, 0, 2]);
        put(&mut bytes, 8, &[7, 0, 0, 0, 0, 0, 0, 0]);
        put(&mut bytes, 16, &[8, 0, 0, 0, 0, 0, 0, 1]);
        put(&mut bytes, 160, &[5, 0, 0, 0, 6, 1, 0, 0]);
        let signal = parse_pair(&bytes).unwrap();
        let expected = [
            (7, VpIndex::new(5)),
            (0x0100_0000_0000_0008, VpIndex::new(0x106)),
        ];
        assert!(signal.pairs().eq(expected));
        assert_eq!(signal.overflow_count, 3);
    }

    #[test]
    fn pair_count_above_nineteen_is_refused() {
        let mut bytes = [0; 240];
        bytes[4] = 19;
        assert_eq!(parse_pair(&bytes).unwrap().pairs().count(), 19);
        bytes[4] = 20;
        let refused = ParseError::Field {
            message_type: 0x8000_0101,
            field: "vp_count",
            value: 20,
        };
        assert_eq!(parse_pair(&bytes), Err(refused));
    }
}
