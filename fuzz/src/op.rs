// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! An input as a list of steps: fixed-size records, so that a crash reads as a program and a
//! program is easily written down as a seed.

/// Bytes of a step.
pub const OP_SIZE: usize = 24;
/// Bytes before the first step: they configure the manager.
pub const HEAD_SIZE: usize = 8;

/// One step. What the fields mean is up to the action that `action` selects; each action reduces
/// them to what it can use, so that every record is a valid step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Op {
    /// Selects the action, modulo the number of actions of the target.
    pub action: u8,
    /// Which VP.
    pub vp: u8,
    /// Which SINT.
    pub sint: u8,
    /// A small number: a bank, a length, a choice.
    pub small: u8,
    /// An MSR, a port, an offset.
    pub number: u32,
    /// A register value, an address.
    pub value: u64,
    /// A second one.
    pub other: u64,
}

impl Op {
    /// Reads a record.
    pub fn decode(bytes: &[u8; OP_SIZE]) -> Self {
        let [action, vp, sint, small, rest @ ..] = *bytes;
        let mut words = rest.chunks_exact(4).map(|word| {
            let word: [u8; 4] = word.try_into().unwrap_or_default();
            u32::from_le_bytes(word)
        });
        let mut word = || words.next().unwrap_or_default();
        Self {
            action,
            vp,
            sint,
            small,
            number: word(),
            value: u64::from(word()) | u64::from(word()) << 32,
            other: u64::from(word()) | u64::from(word()) << 32,
        }
    }

    /// Writes a record.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![self.action, self.vp, self.sint, self.small];
        bytes.extend(self.number.to_le_bytes());
        bytes.extend(self.value.to_le_bytes());
        bytes.extend(self.other.to_le_bytes());
        bytes
    }
}

/// Splits an input into its head, padded with zeroes, and its steps; a last half step is ignored.
pub fn split(data: &[u8]) -> ([u8; HEAD_SIZE], impl Iterator<Item = Op>) {
    let (first, steps) = data.split_at(data.len().min(HEAD_SIZE));
    let mut head = [0; HEAD_SIZE];
    head[..first.len()].copy_from_slice(first);
    let records = steps
        .chunks_exact(OP_SIZE)
        .filter_map(|step| step.try_into().ok());
    (head, records.map(Op::decode))
}

/// The inverse of [`split`].
pub fn join(head: [u8; HEAD_SIZE], ops: &[Op]) -> Vec<u8> {
    let mut bytes = head.to_vec();
    bytes.extend(ops.iter().flat_map(Op::encode));
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn split_gives_back_what_join_was_given() {
        let op = Op {
            action: 1,
            vp: 2,
            sint: 3,
            small: 4,
            number: 0x0807_0605,
            value: 0x100F_0E0D_0C0B_0A09,
            other: 0x1817_1615_1413_1211,
        };
        let bytes = join([9; HEAD_SIZE], &[op, Op::default()]);
        let (head, ops) = split(&bytes);
        assert_eq!(head, [9; HEAD_SIZE]);
        assert_eq!(ops.collect::<Vec<_>>(), [op, Op::default()]);
        assert_eq!(
            bytes[HEAD_SIZE..][..OP_SIZE],
            std::array::from_fn::<u8, OP_SIZE, _>(|i| i as u8 + 1)
        );
    }
}
