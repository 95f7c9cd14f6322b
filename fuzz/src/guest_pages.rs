// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! A guest that writes anything into the message, event flags and event ring pages, and moves them
//! about, while messages, events and doorbells arrive.

use crate::action::Action;
use crate::world;

/// What a step can be.
pub const ACTIONS: &[Action] = &[
    Action::Poke,
    Action::MovePage,
    Action::WriteMsr,
    Action::Post,
    Action::Signal,
    Action::Ring,
    Action::Mmio,
    Action::TakeMessage,
    Action::DrainRing,
    Action::PreRun,
    Action::Pause,
    Action::Resume,
    Action::Migrate,
    Action::Plug,
    Action::MemoryChanged,
    Action::TimerDue,
];

/// Runs the steps of an input.
pub fn run(data: &[u8]) {
    world::run(data, ACTIONS);
}
