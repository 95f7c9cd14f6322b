// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! What the programs are made of.

use crate::action::Action;
use crate::op::Op;

/// Steps of a program.
pub type Steps = Vec<(Action, Op)>;

/// Registers as VMBus sets them up: SIMP, SIEFP, SINT2, SCONTROL.
pub fn bring_up(vp: u8) -> Steps {
    let pages = 0x2000 + 0x4000 * u64::from(vp);
    let values = [(3, pages | 1), (2, pages + 0x1001), (0x12, 0xF3), (0, 1)];
    values
        .map(|(number, value)| write(vp, number, value))
        .into()
}

pub fn bring_down(vp: u8) -> Steps {
    let values = [(0x12, 0x1_00F3), (3, 0x2000), (2, 0x3000), (0, 0)];
    values
        .map(|(number, value)| write(vp, number, value))
        .into()
}

/// Registers as MSHV sets them up on VP 0: SIRBP, SINT0, SINT5.
pub fn mshv() -> Steps {
    let values = [(5, 0x4001), (0x10, 0xF3), (0x15, 0x800F3)];
    values.map(|(number, value)| write(0, number, value)).into()
}

pub fn nested() -> Steps {
    let values: [(u32, u64); 4] = [(3, 0x8001), (2, 0x9001), (0x12, 0xF3), (0, 1)];
    let nested = |(number, value)| write(0, 1 << 24 | number, value);
    let post = (
        Action::Post,
        Op {
            small: 0x80,
            ..vmbus()
        },
    );
    let take = (
        Action::TakeMessage,
        Op {
            small: 0x80,
            ..vmbus()
        },
    );
    [values.map(nested).to_vec(), vec![post, post, take, take]].concat()
}

pub fn masked_and_off() -> Steps {
    let masked = write(0, 0x12, 0x1_00F3);
    let off = write(0, 0, 0);
    [
        bring_up(0),
        vec![masked],
        posts(3),
        bring_up(0),
        vec![off],
        posts(2),
        bring_up(0),
    ]
    .concat()
}

pub fn unplug_while_paused() -> Steps {
    let plug = |small| (Action::Plug, Op { small, ..op() });
    let steps = vec![step(Action::Pause), plug(1), step(Action::Resume), plug(0)];
    [steps, bring_up(0), posts(1)].concat()
}

pub fn reset_before_first_run() -> Steps {
    let reset = (Action::Reset, Op { small: 1, ..op() });
    [vec![reset, step(Action::PreRun)], bring_up(0), posts(1)].concat()
}

pub fn forged(choice: u8, value: u64) -> Steps {
    let all = u64::MAX;
    let forged = Op {
        small: choice,
        sint: 2,
        number: 300,
        value,
        other: all,
        ..op()
    };
    vec![(Action::RestoreHostile, forged), step(Action::PreRun)]
}

pub fn identity() -> Steps {
    [(0, 1), (1, 0xD001), (0, 0)]
        .map(|(number, value)| write(0, 2 << 24 | number, value))
        .into()
}

pub fn paused() -> Steps {
    let signal = (
        Action::Signal,
        Op {
            number: 77,
            ..vmbus()
        },
    );
    let steps = vec![
        step(Action::Pause),
        signal,
        (Action::Post, vmbus()),
        step(Action::Resume),
    ];
    [steps, vec![step(Action::PreRun)]].concat()
}

pub fn migrated() -> Steps {
    vec![step(Action::Migrate), step(Action::PreRun)]
}

pub fn three_messages() -> Steps {
    [posts(3), takes(3)].concat()
}

pub fn posts(count: usize) -> Steps {
    vec![(Action::Post, vmbus()); count]
}

pub fn takes(count: usize) -> Steps {
    vec![(Action::TakeMessage, vmbus()); count]
}

pub fn signals() -> Steps {
    let signal = |number| (Action::Signal, Op { number, ..vmbus() });
    [0, 1, 127, 128, 2047].map(signal).into()
}

pub fn doorbells() -> Steps {
    let ring = |number| {
        (
            Action::Ring,
            Op {
                sint: 5,
                number,
                ..op()
            },
        )
    };
    [1, 2, 2, 3].map(ring).into()
}

/// Drained each time, so that each doorbell is announced anew, to a guest that never reads SINT0.
pub fn notices() -> Steps {
    let ring = (Action::Ring, Op { sint: 5, ..op() });
    (0..30).flat_map(|_| [ring, drain()]).collect()
}

pub fn many_doorbells() -> Steps {
    let ring = |number| {
        (
            Action::Ring,
            Op {
                sint: 5,
                number,
                ..op()
            },
        )
    };
    (0..80).map(ring).collect()
}

/// A periodic timer with messages on SINT2, and a one-shot in direct mode.
pub fn timers() -> Steps {
    let timer = |number: u32, value| write(0, 3 << 24 | number, value);
    let passes = (
        Action::TimerDue,
        Op {
            value: 20_000,
            ..op()
        },
    );
    let take = (Action::TakeMessage, vmbus());
    let programmed = [(1, 10_000), (0, 0x2_0003), (3, 15_000), (2, 0x1ED1)];
    let ran = [passes, passes, take, passes, take];
    [
        programmed
            .map(|(number, value)| timer(number, value))
            .to_vec(),
        ran.to_vec(),
    ]
    .concat()
}

pub fn mmio() -> Steps {
    let write = |number| {
        (
            Action::Mmio,
            Op {
                small: 4,
                number,
                value: 7,
                ..op()
            },
        )
    };
    (0..5).map(write).collect()
}

pub fn toggle(number: u32) -> Steps {
    let action = if number > 8 {
        Action::ToggleDoorbell
    } else {
        Action::TogglePort
    };
    vec![(action, Op { number, ..op() })]
}

pub fn poke(at: u64, value: u64, other: u64) -> Steps {
    let number = at as u32;
    vec![(
        Action::Poke,
        Op {
            number,
            value,
            other,
            ..op()
        },
    )]
}

pub fn write(vp: u8, number: u32, value: u64) -> (Action, Op) {
    (
        Action::WriteMsr,
        Op {
            vp,
            number,
            value,
            ..op()
        },
    )
}

pub fn drain() -> (Action, Op) {
    (Action::DrainRing, Op { sint: 5, ..op() })
}

pub fn show() -> (Action, Op) {
    step(Action::Show)
}

pub fn step(action: Action) -> (Action, Op) {
    (action, op())
}

pub fn vmbus() -> Op {
    Op {
        sint: 2,
        number: 1,
        ..op()
    }
}

pub fn op() -> Op {
    Op::default()
}
