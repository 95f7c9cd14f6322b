// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! Seeds of `mshv_exit`.

use super::Seeds;
use crate::mshv_exit::{ACTIONS, Action, MESSAGE_OPS};
use crate::op::{self, HEAD_SIZE, OP_SIZE, Op};
use vm_synic::abi::MESSAGE_SIZE;

type Steps = Vec<Op>;

pub fn mshv_exit() -> Seeds {
    let programs = [posts(), hypercalls(), exits()];
    let programs = programs.into_iter().flatten();
    programs
        .map(|(name, head, steps)| (name, op::join(head, &steps.concat())))
        .collect()
}

type Program = (&'static str, [u8; HEAD_SIZE], Vec<Steps>);

/// What the VMM does, with a hypervisor that agrees or does not.
fn posts() -> Vec<Program> {
    let (post, take, run) = (Action::Post, Action::Take, Action::Run);
    vec![
        (
            "queue",
            REFUSE,
            vec![many(post, 6), many(take, 1), many(run, 1), many(take, 2)],
        ),
        (
            "told_while_paused",
            REFUSE,
            vec![
                many(post, 3),
                many(Action::Pause, 1),
                many(take, 1),
                many(run, 1),
                many(Action::Resume, 1),
                many(run, 2),
            ],
        ),
        (
            "migrate",
            REFUSE,
            vec![many(post, 3), many(Action::Migrate, 1), many(take, 1)],
        ),
        (
            "reset",
            REFUSE,
            vec![many(post, 3), many(Action::Reset, 1), many(post, 2)],
        ),
        (
            "busy_by_status",
            REFUSE,
            vec![fail(0, 0x13), many(post, 1), fail(0, 0x19), many(run, 3)],
        ),
        (
            "failed_by_status",
            REFUSE,
            vec![
                fail(0, 0x71),
                many(post, 3),
                fail(0, 1 << 31 | 5),
                many(take, 1),
                many(run, 1),
            ],
        ),
        (
            "not_ready_by_status",
            HOLD,
            vec![fail(0, 0x18), many(post, 2), set(0, 0), many(post, 2)],
        ),
        (
            "notice_refused",
            REFUSE,
            vec![many(post, 1), fail(2, 0x0B), many(post, 2), many(take, 1)],
        ),
        (
            "masked_and_off",
            HOLD,
            vec![
                set(3, 0x1_00F3),
                many(post, 2),
                set(1, 0),
                many(post, 1),
                set(1, 1),
                set(3, 0xF3),
                many(run, 2),
            ],
        ),
        (
            "events",
            REFUSE,
            vec![
                many(Action::Signal, 2),
                many(Action::Pause, 1),
                many(Action::Signal, 2),
                many(Action::Resume, 1),
                fail(1, 0x18),
                many(Action::PreRun, 1),
                many(Action::TakeFlags, 1),
            ],
        ),
    ]
}

/// What the guest asks of its ports.
fn hypercalls() -> Vec<Program> {
    let header = |connection: u64| poke(connection, 1 | 16 << 32);
    let post = || call(0, 0, INPUT);
    let signal = |connection: u64, flag: u64| call(1, 1 << 16, connection | flag << 32);
    let run = || many(Action::Run, 1);
    let take_own = step(Op {
        small: 1,
        ..op(Action::Take)
    });
    vec![
        (
            "posts_to_ports",
            REFUSE,
            vec![header(1), post(), run(), header(2), post(), run(), take_own],
        ),
        (
            "signals_of_ports",
            REFUSE,
            vec![
                signal(3, 6),
                run(),
                signal(4, 47),
                run(),
                signal(9, 0),
                run(),
            ],
        ),
        (
            "calls_denied",
            DENY,
            vec![header(1), post(), run(), signal(3, 0), run()],
        ),
    ]
}

/// One exit after the other, without a reason.
fn exits() -> Vec<Program> {
    let exit = |message_type, size, fields: &[(usize, u64)]| exit(0, message_type, size, fields);
    let rip = u64::MAX;
    let hypercall = |rcx, rdx| {
        let fields = [VMCALL, (24, rip), (56, rcx), (64, rdx)];
        exit(0x8000_0050, 200, &fields)
    };
    let cut = exit(0x8000_0050, 8, &[]);
    let too_long = exit(0x8000_0062, 255, &[(40, 4)]);
    let legacy = exit(0x8000_0050, 200, &[(56, 0x5C)]);
    let refused = self::exit(1, 0x8000_0050, 200, &[VMCALL, (56, 0x1_005D)]);
    let deliverable = exit(0x8000_0062, 48, &[(40, 0xFFFF)]);
    let msr = |msr| exit(0x8001_0001, 64, &[(40, msr)]);
    vec![
        (
            "exits_with_hypercalls",
            REFUSE,
            vec![
                hypercall(0x1_005D, 3),
                hypercall(0x5C, INPUT),
                hypercall(2, 0),
            ],
        ),
        (
            "exits_that_cannot_be",
            REFUSE,
            vec![cut, too_long, legacy, refused],
        ),
        (
            "exits_with_notices",
            REFUSE,
            vec![
                many(Action::Post, 2),
                deliverable,
                exit(0x8000_0060, 12, &[]),
                exit(0x8000_0061, 4, &[]),
            ],
        ),
        (
            "exits_with_msrs",
            REFUSE,
            vec![msr(0x4000_0083), msr(0x4000_0092), msr(0xC000_0080)],
        ),
        (
            "exits_of_others",
            REFUSE,
            vec![
                exit(0x8001_0000, 80, &[]),
                exit(0x8001_0000, 255, &[]),
                exit(0x8001_0007, 40, &[]),
                exit(0x8000_0000, 240, &[]),
                exit(1, 240, &[]),
                exit(0, 0, &[]),
            ],
        ),
    ]
}

fn op(action: Action) -> Op {
    let position = ACTIONS.iter().position(|other| *other == action);
    Op {
        action: position.expect("an action of this target") as u8,
        sint: 1,
        ..Op::default()
    }
}

fn step(op: Op) -> Steps {
    vec![op]
}

fn many(action: Action, count: usize) -> Steps {
    vec![op(action); count]
}

/// Two calls fail with a status; `call`: post, signal, set registers, get registers.
fn fail(call: u8, status: u32) -> Steps {
    step(Op {
        small: call | 4,
        number: status,
        ..op(Action::Fail)
    })
}

/// The guest writes SCONTROL, SIMP, SIEFP or SINT2.
fn set(register: u8, value: u64) -> Steps {
    step(Op {
        small: register,
        value,
        ..op(Action::Register)
    })
}

fn call(code: u8, control: u64, input: u64) -> Steps {
    step(Op {
        small: code,
        value: control,
        other: input,
        ..op(Action::Hypercall)
    })
}

fn poke(value: u64, other: u64) -> Steps {
    step(Op {
        value,
        other,
        ..op(Action::Poke)
    })
}

/// An exit with a message of this type and size; fields by their offsets in the payload.
fn exit(small: u8, message_type: u32, size: u8, fields: &[(usize, u64)]) -> Steps {
    let mut bytes = [0; MESSAGE_OPS * OP_SIZE];
    bytes[..4].copy_from_slice(&message_type.to_le_bytes());
    bytes[4] = size;
    for (offset, value) in fields {
        bytes[16 + offset..][..8].copy_from_slice(&value.to_le_bytes());
    }
    let exit = Op {
        small,
        ..op(Action::Exit)
    };
    let message = bytes.chunks_exact(OP_SIZE).map(|record| {
        let record = record.try_into().expect("a record");
        Op::decode(record)
    });
    std::iter::once(exit).chain(message).collect()
}

const _: () = assert!(MESSAGE_OPS * OP_SIZE >= MESSAGE_SIZE);
/// Messages are refused where the guest is not ready for them; four may wait.
const REFUSE: [u8; HEAD_SIZE] = [0, 0, 4, 0, 0, 0, 0, 0];
/// They are held.
const HOLD: [u8; HEAD_SIZE] = [1, 1, 4, 0, 0, 0, 0, 0];
/// The guest may neither post nor signal.
const DENY: [u8; HEAD_SIZE] = [6, 0, 4, 0, 0, 0, 0, 0];
/// Length of the instruction, and EFER.LMA.
const VMCALL: (usize, u64) = (0, 3 << 32 | 1 << 52);
/// Where a hypercall's input block is.
const INPUT: u64 = 0x8000;
