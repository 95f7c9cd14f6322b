// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! Doorbells that wait while something is off, each way in which it can come on again.

use super::steps::*;
use super::{BY_VP, PLAIN, Program};
use crate::action::Action;
use crate::op::Op;

/// Programs of `guest_pages`.
pub fn rings() -> Vec<Program> {
    let programs = [
        ("ring_on_while_masked", on_while_masked()),
        ("ring_moves_after_migrate", rung([migrated(), moved()])),
        ("ring_moves_while_paused", rung([while_paused(moved())])),
        ("ring_goes_while_paused", goes_while_paused()),
        ("ring_after_proxy", after_proxy(0)),
        ("ring_after_proxy_while_masked", after_proxy(MASKED)),
        ("drained_while_off", drained_while_off()),
        (
            "drained_after_the_kernel_left",
            rung([identity(), vec![drain()], moved(), doorbells()]),
        ),
        ("offline_after_the_kernel_left", offline_after_leaving()),
        ("migrated_without_a_vp", migrated_without_a_vp()),
        (
            "forged_ring_moves",
            forged_ring_moves(write(0, 0x15, 0x900F3), &[]),
        ),
        (
            "forged_ring_moves_and_migrates",
            forged_ring_moves(write(0, 0, 0), &migrated()),
        ),
    ];
    let mut programs: Vec<_> = programs.map(|(name, steps)| (name, PLAIN, steps)).into();
    programs.push(("notice_after_pause_by_the_vp", BY_VP, notice_after_pause()));
    programs
}

/// Doorbells are rung, then these things happen, then the guest drains its ring.
fn rung<const N: usize>(then: [Steps; N]) -> Steps {
    [on(), doorbells(), then.concat(), vec![drain()]].concat()
}

fn on() -> Steps {
    [bring_up(0), mshv()].concat()
}

fn moved() -> Steps {
    vec![move_ring(6)]
}

fn move_ring(number: u32) -> (Action, Op) {
    let small = 2;
    let op = Op {
        small,
        number,
        ..op()
    };
    (Action::MovePage, op)
}

fn while_paused(steps: Steps) -> Steps {
    [
        vec![step(Action::Pause)],
        steps,
        vec![step(Action::Resume), step(Action::PreRun)],
    ]
    .concat()
}

fn on_while_masked() -> Steps {
    [
        vec![write(0, 0, 1)],
        doorbells(),
        vec![move_ring(6), drain()],
    ]
    .concat()
}

fn goes_while_paused() -> Steps {
    let off = vec![write(0, 5, 0x4000)];
    rung([while_paused(off), moved()])
}

/// A paravisor takes the interrupt, and gives it back.
fn after_proxy(masked: u64) -> Steps {
    let proxy = |bit| vec![write(0, 0x15, 0xF3 | masked | bit)];
    [on(), proxy(PROXY), doorbells(), proxy(0), vec![drain()]].concat()
}

fn drained_while_off() -> Steps {
    let scontrol = |value| vec![write(0, 0, value)];
    rung([scontrol(0), vec![drain()], scontrol(1)])
}

fn offline_after_leaving() -> Steps {
    let scontrol = |value| vec![write(0, 0, value)];
    [
        on(),
        identity(),
        doorbells(),
        scontrol(0),
        moved(),
        scontrol(1),
        vec![drain()],
    ]
    .concat()
}

fn migrated_without_a_vp() -> Steps {
    let plug = |small| vec![(Action::Plug, Op { small, ..op() })];
    [on(), doorbells(), plug(1), migrated(), plug(0)].concat()
}

/// The doorbell's notice goes behind a message that nobody has taken.
fn notice_after_pause() -> Steps {
    let intercept = Op { number: 1, ..op() };
    [
        on(),
        vec![(Action::Post, intercept), step(Action::Pause)],
        doorbells(),
        vec![step(Action::Resume), (Action::TakeMessage, intercept)],
    ]
    .concat()
}

/// The guest writes port ids of its own into its ring and moves it, which is when the manager takes
/// them for unread ones. It has the SINT be silent first, and `between` happens before each move.
fn forged_ring_moves(silence: (Action, Op), between: &[(Action, Op)]) -> Steps {
    let mut steps = [on(), doorbells(), vec![silence]].concat();
    for round in 0..16 {
        let (page, next) = if round % 2 == 0 { (4, 5) } else { (5, 4) };
        let ids = 0x0201_0001 + 0x1000 * round;
        let [one, other] = [ids, ids + 0x400].map(|id| {
            let id = id & 0xFF_FFFF;
            id | ((id + 0x200) << 32)
        });
        let forged = Op {
            small: 15,
            ..poke(page * 0x1000 + 5 * 256 + 4, one, other)[0].1
        };
        steps.push((Action::Poke, forged));
        steps.extend_from_slice(between);
        steps.push(move_ring(next));
    }
    steps
}

const MASKED: u64 = 1 << 16;
const PROXY: u64 = 1 << 20;
