// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! A guest that writes any value to any register at any time, while the VMM posts, signals, rings,
//! pauses, resumes, resets, plugs VPs, and restores states that somebody has tampered with.

use crate::action::Action;
use crate::world;

/// What a step can be.
pub const ACTIONS: &[Action] = &[
    Action::WriteMsr,
    Action::ReadMsr,
    Action::Post,
    Action::Signal,
    Action::Ring,
    Action::TakeMessage,
    Action::DrainRing,
    Action::PreRun,
    Action::Pause,
    Action::Resume,
    Action::Reset,
    Action::Plug,
    Action::Migrate,
    Action::RestoreHostile,
    Action::Show,
    Action::TimerDue,
];

/// Runs the steps of an input.
pub fn run(data: &[u8]) {
    world::run(data, ACTIONS);
}
