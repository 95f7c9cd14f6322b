// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! What a test can make wrong in a driver, to see that the model notices.

use super::*;
use crate::ownership::Ownership;

/// One thing wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(in crate::ownership) enum Flaw {
    /// MSHV enables SIMP once more, at the very end of its init.
    HandsOn,
    /// The driver leaves the address in the register of a page that it frees.
    KeepsBase,
    /// VMBus disables SIMP before it masks SINT2.
    PageBeforeMask,
    /// VMBus clears SCONTROL before it disables SIEFP.
    ScontrolTooEarly,
    /// VMBus leaves SCONTROL on.
    ScontrolNever,
    /// MSHV disables the ring before it masks SINT5.
    RingBeforeMask,
    /// MSHV frees the ring before SIRBP lets go of it.
    FreeBeforeOff,
    /// MSHV's failed init leaves SINT0 unmasked.
    UndoForgets,
    /// The driver switches off all that is its own, whether it switched it on or not.
    UndoesUnasked,
}

impl Flaw {
    pub(super) fn order(self) -> Option<&'static Order> {
        match self {
            Self::HandsOn => Some(&HANDS_ON),
            Self::KeepsBase | Self::UndoesUnasked => None,
            Self::PageBeforeMask => Some(&PAGE_BEFORE_MASK),
            Self::ScontrolTooEarly => Some(&SCONTROL_TOO_EARLY),
            Self::ScontrolNever => Some(&SCONTROL_NEVER),
            Self::RingBeforeMask => Some(&RING_BEFORE_MASK),
            Self::FreeBeforeOff => Some(&FREE_BEFORE_OFF),
            Self::UndoForgets => Some(&UNDO_FORGETS),
        }
    }

    pub(super) fn row(self, register: Register, row: Ownership) -> Ownership {
        match self {
            Self::HandsOn if register == SIMP => Ownership {
                switch: Some(Owner::Mshv),
                ..row
            },
            _ => row,
        }
    }
}

impl Driver {
    /// A driver with something wrong in it.
    pub(in crate::ownership) fn with_flaw(self, flaw: Flaw) -> Self {
        Self {
            flaw: Some(flaw),
            ..self
        }
    }
}

#[rustfmt::skip]
const HANDS_ON: Order = Order {
    init: &[
        Take(Page::Message), Take(Page::EventFlags), Take(Page::EventRing),
        On(SIRBP), On(SINT0), On(SINT5),
        On(SIMP),
    ],
    exit: &[
        Off(SINT0), Off(SINT5),
        Off(SIRBP), Release(Page::EventRing),
        Release(Page::EventFlags), Release(Page::Message),
    ],
    undo: &[
        Off(SINT0), Off(SINT5),
        Off(SIRBP), Release(Page::EventRing),
        Release(Page::EventFlags), Release(Page::Message),
    ],
};

#[rustfmt::skip]
const PAGE_BEFORE_MASK: Order = Order {
    exit: &[
        Off(SIMP), Off(SINT2), Off(SIEFP),
        Off(SCONTROL),
        Release(Page::Message), Release(Page::EventFlags),
    ],
    ..VMBUS
};

#[rustfmt::skip]
const SCONTROL_TOO_EARLY: Order = Order {
    exit: &[
        Off(SINT2), Off(SIMP),
        Off(SCONTROL),
        Off(SIEFP),
        Release(Page::Message), Release(Page::EventFlags),
    ],
    ..VMBUS
};

#[rustfmt::skip]
const SCONTROL_NEVER: Order = Order {
    exit: &[
        Off(SINT2), Off(SIMP), Off(SIEFP),
        Release(Page::Message), Release(Page::EventFlags),
    ],
    ..VMBUS
};

#[rustfmt::skip]
const RING_BEFORE_MASK: Order = Order {
    exit: &[
        Off(SINT0), Off(SIRBP), Off(SINT5),
        Release(Page::EventRing), Release(Page::EventFlags), Release(Page::Message),
    ],
    ..MSHV
};

#[rustfmt::skip]
const FREE_BEFORE_OFF: Order = Order {
    exit: &[
        Off(SINT0), Off(SINT5),
        Release(Page::EventRing), Off(SIRBP),
        Release(Page::EventFlags), Release(Page::Message),
    ],
    ..MSHV
};

#[rustfmt::skip]
const UNDO_FORGETS: Order = Order {
    undo: &[
        Off(SINT5),
        Off(SIRBP), Release(Page::EventRing),
        Release(Page::EventFlags), Release(Page::Message),
    ],
    ..MSHV
};
