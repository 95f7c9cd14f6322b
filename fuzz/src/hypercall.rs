// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! A guest that makes hypercalls with any control word, any input block and any addresses.

use crate::action::Action;
use crate::world;

/// What a step can be.
pub const ACTIONS: &[Action] = &[
    Action::Hypercall,
    Action::Poke,
    Action::WriteMsr,
    Action::TakeMessage,
    Action::DrainRing,
    Action::Mmio,
    Action::TogglePort,
    Action::ToggleDoorbell,
    Action::Post,
    Action::Reset,
    Action::Plug,
];

/// Runs the steps of an input.
pub fn run(data: &[u8]) {
    world::run(data, ACTIONS);
}
