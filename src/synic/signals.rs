// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! What a SynIC wants the VMM to know, to be said when no lock is held.

use crate::abi::SintIndex;
use crate::stimer::TimerSignals;

/// What the VMM must be told, as sets of SINT bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[must_use]
pub(crate) struct Signals {
    /// Raise these SINTs.
    pub interrupts: u16,
    /// These SINTs take messages again.
    pub writable: u16,
    /// The VP's own thread has something to do.
    pub work: bool,
    /// About the synthetic timers.
    pub timers: TimerSignals,
}

impl Signals {
    pub const NONE: Self = Self {
        interrupts: 0,
        writable: 0,
        work: false,
        timers: TimerSignals::NONE,
    };
    pub(super) const WORK: Self = Self {
        work: true,
        ..Self::NONE
    };

    pub(super) fn raise(sint: SintIndex) -> Self {
        Self {
            interrupts: sint.bit(),
            ..Self::NONE
        }
    }

    pub fn and(self, other: Self) -> Self {
        Self {
            interrupts: self.interrupts | other.interrupts,
            writable: self.writable | other.writable,
            work: self.work | other.work,
            timers: self.timers.and(other.timers),
        }
    }
}
