// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! The synthetic timers: their number, and the bits of their configuration.

use super::{SintIndex, TimerIndex};
use bitfield_struct::bitfield;

/// Number of synthetic timers of a VP (TLFS `HV_SYNIC_STIMER_COUNT`).
pub const TIMER_COUNT: usize = 4;

impl TimerIndex {
    /// All four, ascending.
    pub fn all() -> impl DoubleEndedIterator<Item = Self> {
        (0..TIMER_COUNT as u8).filter_map(Self::new)
    }

    /// For indexing a `[_; TIMER_COUNT]`; always below [`TIMER_COUNT`].
    pub const fn index(self) -> usize {
        self.get() as usize
    }

    /// The bit of this timer in an 8-bit set.
    pub const fn bit(self) -> u8 {
        1 << self.get()
    }
}

/// STIMERn_CONFIG. Reserved bits are preserved as the guest wrote them, as KVM does.
#[bitfield(u64)]
#[derive(PartialEq, Eq)]
pub struct StimerConfig {
    /// The timer runs.
    pub enable: bool,
    /// COUNT is a period, not a time.
    pub periodic: bool,
    /// The guest does not mind missed periods.
    pub lazy: bool,
    /// A write of a nonzero COUNT enables the timer.
    pub auto_enable: bool,
    /// The vector of direct mode.
    pub apic_vector: u8,
    /// The timer interrupts the VP itself and sends no message.
    pub direct_mode: bool,
    #[bits(3)]
    _reserved: u8,
    #[bits(4)]
    sintx: u8,
    #[bits(44)]
    _reserved2: u64,
}

impl StimerConfig {
    /// Where the message goes; `None` in direct mode.
    pub const fn sint(self) -> Option<SintIndex> {
        if self.direct_mode() {
            None
        } else {
            SintIndex::new(self.sintx())
        }
    }

    /// One shot, sending messages to a SINT.
    pub const fn to_sint(sint: SintIndex) -> Self {
        Self::new().with_sintx(sint.get()).with_enable(true)
    }

    /// One shot, interrupting by a vector.
    pub const fn direct(vector: u8) -> Self {
        Self::new()
            .with_direct_mode(true)
            .with_apic_vector(vector)
            .with_enable(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn config_bits_are_where_linux_has_them() {
        let messages = StimerConfig::to_sint(SintIndex::VMBUS).with_auto_enable(true);
        let direct = StimerConfig::direct(0xED).with_auto_enable(true);
        assert_eq!(u64::from(messages), 0x2_0009);
        assert_eq!(u64::from(direct), 0x1ED9);
    }

    #[test]
    fn sint_of_a_direct_timer_is_none() {
        let direct = StimerConfig::from(0xF_1ED9);
        assert_eq!(direct.sint(), None);
        assert_eq!(StimerConfig::from(0x2_0009).sint(), Some(SintIndex::VMBUS));
    }
}
