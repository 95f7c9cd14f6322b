// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! Indices and identifiers that a guest can name, each with its range.

use std::fmt;

/// Number of synthetic interrupt sources of a SynIC (TLFS `HV_SYNIC_SINT_COUNT`).
pub const SINT_COUNT: usize = 16;

/// A number that is not a valid identifier of its kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{value:#x} is not a valid {kind}")]
pub struct InvalidId {
    /// What the number was meant to name.
    pub kind: &'static str,
    /// The number.
    pub value: u32,
}

/// Index of a virtual processor, as the guest reads it from `HV_X64_MSR_VP_INDEX`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(transparent))]
pub struct VpIndex(u32);

impl VpIndex {
    /// Names the VP with this index; whether it exists is the manager's to say.
    pub const fn new(index: u32) -> Self {
        Self(index)
    }

    /// The number.
    pub const fn get(self) -> u32 {
        self.0
    }
}

impl fmt::Display for VpIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "VP {}", self.0)
    }
}

/// A partition, as the guest names it in hypercalls (TLFS `HV_PARTITION_ID`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(transparent))]
pub struct PartitionId(u64);

impl PartitionId {
    /// The caller's own (`HV_PARTITION_ID_SELF`).
    pub const SELF: Self = Self(u64::MAX);

    /// Names the partition with this id; whether it exists is the hypervisor's to say.
    pub const fn new(id: u64) -> Self {
        Self(id)
    }

    /// The number.
    pub const fn get(self) -> u64 {
        self.0
    }
}

impl fmt::Display for PartitionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::SELF => f.write_str("partition SELF"),
            Self(id) => write!(f, "partition {id:#x}"),
        }
    }
}

/// Defines a checked identifier: a newtype that only holds numbers its range allows.
macro_rules! checked_id {
    ($(#[$doc:meta])* $name:ident($inner:ty), $kind:literal, $display:literal, |$v:ident| $valid:expr) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
        #[cfg_attr(feature = "serde", serde(try_from = "u32", into = "u32"))]
        pub struct $name($inner);

        impl $name {
            /// `None` where the number is out of range.
            pub const fn new($v: $inner) -> Option<Self> {
                if $valid { Some(Self($v)) } else { None }
            }

            /// The number.
            pub const fn get(self) -> $inner {
                self.0
            }
        }

        impl TryFrom<u32> for $name {
            type Error = InvalidId;

            fn try_from(value: u32) -> Result<Self, InvalidId> {
                <$inner>::try_from(value)
                    .ok()
                    .and_then(Self::new)
                    .ok_or(InvalidId { kind: $kind, value })
            }
        }

        impl From<$name> for u32 {
            fn from(id: $name) -> Self {
                Self::from(id.0)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, $display, self.0)
            }
        }
    };
}

checked_id! {
    /// Index of a synthetic interrupt source, 0 to 15.
    SintIndex(u8), "SINT index", "SINT{}", |v| v < 16
}

checked_id! {
    /// Index of a synthetic timer of one VP, 0 to 3.
    TimerIndex(u8), "synthetic timer index", "STIMER{}", |v| v < 4
}

checked_id! {
    /// Number of an event flag of one SINT, 0 to 2047 (TLFS `HV_EVENT_FLAGS_COUNT`).
    EventFlag(u16), "event flag number", "flag {}", |v| v < 2048
}

checked_id! {
    /// Identifier of a port: 24 bits, and never 0, which marks an empty entry of an event ring.
    PortId(u32), "port id", "port {:#x}", |v| v != 0 && v < 1 << 24
}

checked_id! {
    /// Identifier of a connection, which a guest names in `HvPostMessage` and `HvSignalEvent`:
    /// 24 bits (TLFS `HV_CONNECTION_ID`).
    ConnectionId(u32), "connection id", "connection {:#x}", |v| v < 1 << 24
}

impl SintIndex {
    /// SINT0: intercepts, scheduler messages and doorbell notifications.
    pub const INTERCEPT: Self = Self(0);
    /// SINT2: VMBus (`VMBUS_MESSAGE_SINT`).
    pub const VMBUS: Self = Self(2);
    /// SINT5: the doorbells of a guest's MSHV driver (`HV_SYNIC_FIRST_UNUSED_SINT_INDEX`).
    pub const DOORBELL: Self = Self(5);

    /// All sixteen, ascending.
    pub fn all() -> impl DoubleEndedIterator<Item = Self> {
        (0..16).map(Self)
    }

    /// Those whose [`bit`](Self::bit) is in a set, ascending.
    pub(crate) fn of_set(mut set: u16) -> impl Iterator<Item = Self> {
        std::iter::from_fn(move || {
            let lowest = Self::new(set.trailing_zeros() as u8)?;
            set &= !lowest.bit();
            Some(lowest)
        })
    }

    /// For indexing a `[_; SINT_COUNT]`; always below [`SINT_COUNT`].
    pub const fn index(self) -> usize {
        self.0 as usize
    }

    /// The bit of this SINT in a 16-bit set.
    pub const fn bit(self) -> u16 {
        1 << self.0
    }
}

/// Which of a VP's two SynICs: its own, or the one that it offers as an L1 hypervisor's guest.
///
/// With nested virtualization, Linux redirects VMBus to the `NESTED` registers while MSHV keeps
/// to the plain ones (`hv_get_nested_msr`), so ownership belongs to a register of a bank.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Bank {
    /// MSRs 0x40000080 and up.
    #[default]
    Plain,
    /// MSRs 0x40001080 and up.
    Nested,
}

/// One SINT of one VP: where a message, an event or a doorbell goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct SintAddr {
    /// The virtual processor.
    pub vp: VpIndex,
    /// Which of its SynICs.
    pub bank: Bank,
    /// The source.
    pub sint: SintIndex,
}

impl SintAddr {
    /// A SINT of the VP's plain bank.
    pub const fn new(vp: VpIndex, sint: SintIndex) -> Self {
        Self {
            vp,
            bank: Bank::Plain,
            sint,
        }
    }

    /// The same SINT in the nested bank.
    pub const fn nested(self) -> Self {
        Self {
            bank: Bank::Nested,
            ..self
        }
    }
}

impl fmt::Display for SintAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.bank {
            Bank::Plain => write!(f, "{} of {}", self.sint, self.vp),
            Bank::Nested => write!(f, "nested {} of {}", self.sint, self.vp),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sint_index_above_fifteen_is_refused() {
        assert_eq!(SintIndex::new(15).map(SintIndex::get), Some(15));
        assert_eq!(SintIndex::new(16), None);
    }

    #[test]
    fn of_set_yields_the_sints_of_the_set_bits_ascending() {
        let sints: Vec<_> = SintIndex::of_set(0x8025).map(SintIndex::get).collect();
        assert_eq!(sints, [0, 2, 5, 15]);
        assert_eq!(SintIndex::of_set(0).count(), 0);
    }

    #[test]
    fn port_id_zero_and_above_24_bits_are_refused() {
        assert_eq!(PortId::new(0), None);
        assert_eq!(PortId::new(0xFF_FFFF).map(PortId::get), Some(0xFF_FFFF));
        assert_eq!(PortId::new(0x100_0000), None);
    }

    #[test]
    fn event_flag_from_wide_number_is_refused_not_truncated() {
        assert_eq!(
            EventFlag::try_from(0x1_0001),
            Err(InvalidId {
                kind: "event flag number",
                value: 0x1_0001
            })
        );
    }
}
