// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! The seed corpora: one short program for each thing that the targets should know from the start.

mod messages;
mod mshv;
mod rings;
pub mod states;
mod steps;

use crate::action::Action;
use crate::op::{self, HEAD_SIZE, Op};
use crate::world::{CHILD, DOORBELL_GPA};
use crate::{guest_pages, hypercall, msr};
use rings::rings;
use steps::*;

/// Seeds of a target: a name, and the input.
pub type Seeds = Vec<(&'static str, Vec<u8>)>;

/// The seeds of each target, by its name.
pub fn all() -> [(&'static str, Seeds); 6] {
    [
        ("message_parse", messages::message_parse()),
        ("msr", programs(msr::ACTIONS, &msr())),
        ("hypercall", programs(hypercall::ACTIONS, &hypercall())),
        (
            "guest_pages",
            programs(guest_pages::ACTIONS, &[guest_pages(), rings()].concat()),
        ),
        ("mshv_exit", mshv::mshv_exit()),
        ("state_json", states::all()),
    ]
}

type Program = (&'static str, [u8; HEAD_SIZE], Vec<(Action, Op)>);

fn programs(actions: &[Action], programs: &[Program]) -> Seeds {
    let encode = |(action, op): &(Action, Op)| {
        let action = actions.iter().position(|other| other == action);
        let action = action.expect("an action of this target") as u8;
        Op { action, ..*op }
    };
    let programs = programs.iter().map(|(name, head, steps)| {
        let ops: Vec<_> = steps.iter().map(encode).collect();
        (*name, op::join(*head, &ops))
    });
    programs.collect()
}

fn msr() -> Vec<Program> {
    let on = || bring_up(0);
    vec![
        (
            "vmbus",
            PLAIN,
            [on(), three_messages(), bring_down(0)].concat(),
        ),
        ("nested", [0, 0, 2, 0, 4, 0, 0, 0], nested()),
        (
            "mshv_beside_vmbus",
            [1, 0, 0, 0, 4, 8, 0, 0],
            [on(), mshv(), doorbells()].concat(),
        ),
        ("masked_and_off", [0, 0, 4, 1, 2, 0, 3, 0], masked_and_off()),
        (
            "queue_overflow",
            PLAIN,
            [on(), posts(8), takes(8), vec![show()]].concat(),
        ),
        (
            "paused_migrate",
            PLAIN,
            [on(), paused(), vec![step(Action::Migrate)]].concat(),
        ),
        ("by_the_vp", BY_VP, [on(), posts(8), takes(8)].concat()),
        ("timers", TIMERS, [on(), timers()].concat()),
        ("unplug_while_paused", PLAIN, unplug_while_paused()),
        (
            "reset_before_first_run",
            PLAIN,
            [on(), paused(), reset_before_first_run()].concat(),
        ),
        (
            "forged_counters",
            PLAIN,
            [on(), forged(16, u64::MAX), three_messages()].concat(),
        ),
        (
            "forged_registers",
            PLAIN,
            [on(), forged(11, 0xFFFF_FFFF_F001), forged(13, 3)].concat(),
        ),
        (
            "forged_queues",
            PLAIN,
            [on(), forged(18, 1), forged(19, 1), forged(20, 1)].concat(),
        ),
        (
            "kexec",
            PLAIN,
            [
                on(),
                identity(),
                mshv(),
                doorbells(),
                identity(),
                doorbells(),
            ]
            .concat(),
        ),
    ]
}

/// A port of the guest's own from its creation to its deletion, rung in between.
fn ports_life() -> Vec<(Action, Op)> {
    let call = |small, control, input, output| {
        let op = Op {
            small,
            number: output,
            value: control,
            other: input,
            ..op()
        };
        vec![(Action::Hypercall, op)]
    };
    let (own, port, doorbell, any_vp) = (u64::MAX, 3, 4, 0xFFFF_FFFF << 32);
    let (fast, any_value) = (1 << 16, 1 << 31);
    [
        bring_up(0),
        poke(INPUT, own, port),
        poke(INPUT + 16, CHILD, doorbell),
        poke(INPUT + 32, 5 | any_vp, 0),
        poke(INPUT + 48, 0, 0),
        call(5, 0, INPUT, 0),
        poke(INPUT, CHILD, port),
        poke(INPUT + 16, own, port),
        poke(INPUT + 32, doorbell, DOORBELL_GPA),
        poke(INPUT + 48, 0, any_value),
        poke(INPUT + 64, 0, 0),
        call(6, 0, INPUT, 0),
        vec![(Action::Mmio, Op { small: 4, ..op() })],
        poke(INPUT, CHILD, port | 1 << 32),
        call(8, 0, INPUT, 0),
        call(7, fast, own, 3),
    ]
    .concat()
}

fn hypercall() -> Vec<Program> {
    let call = |code, value, other| {
        vec![(
            Action::Hypercall,
            Op {
                small: code,
                value,
                other,
                ..op()
            },
        )]
    };
    let header = |connection: u64, size: u64| poke(INPUT, connection, 1 | size << 32);
    let crossing = poke(CROSSING, 1, 1 | 240 << 32);
    let registers = |vp: u64| poke(INPUT, u64::MAX, vp);
    let names = poke(INPUT + 16, 0x000A_0002_000A_0012, 0x0009_0003_000A_1015);
    let association = [poke(INPUT + 16, 0x000A_0002, 0), poke(INPUT + 32, 0xF3, 0)].concat();
    let fast = 1 << 16;
    vec![
        ("ports_life", PLAIN, ports_life()),
        (
            "post_to_handler",
            PLAIN,
            [header(1, 64), call(0, 0, INPUT)].concat(),
        ),
        (
            "post_to_sint",
            PLAIN,
            [bring_up(0), header(2, 240), call(0, 0, INPUT)].concat(),
        ),
        (
            "post_too_long",
            PLAIN,
            [header(1, 241), call(0, 0, INPUT)].concat(),
        ),
        (
            "post_unaligned",
            PLAIN,
            [header(1, 8), call(0, 0, INPUT + 4)].concat(),
        ),
        (
            "post_across_pages",
            PLAIN,
            [crossing, call(0, 0, CROSSING)].concat(),
        ),
        (
            "post_as_the_hypervisor",
            PLAIN,
            [poke(INPUT, 1, 0x8000_0061 | 4 << 32), call(0, 0, INPUT)].concat(),
        ),
        ("signal_handler", PLAIN, call(1, fast, 6 << 32 | 4)),
        (
            "signal_sint",
            PLAIN,
            [bring_up(1), call(1, fast, 47 << 32 | 5)].concat(),
        ),
        (
            "signal_beyond_flags",
            PLAIN,
            [bring_up(1), call(1, fast, 48 << 32 | 5)].concat(),
        ),
        (
            "signal_in_memory",
            PLAIN,
            [poke(INPUT, 4, 0), call(1, 0, INPUT)].concat(),
        ),
        (
            "ring_empty",
            PLAIN,
            [bring_up(0), mshv(), call(2, fast, 5)].concat(),
        ),
        (
            "get_registers",
            PLAIN,
            [registers(0), names, call(3, 4 << 32, INPUT)].concat(),
        ),
        (
            "set_registers",
            PLAIN,
            [registers(1), association, call(4, 1 << 32, INPUT)].concat(),
        ),
        (
            "unplugged_port",
            PLAIN,
            [header(1, 8), toggle(0), call(0, 0, INPUT), toggle(0)].concat(),
        ),
        (
            "doorbells",
            PLAIN,
            [bring_up(0), mshv(), mmio(), toggle(9), mmio()].concat(),
        ),
    ]
}

fn guest_pages() -> Vec<Program> {
    let on = || [bring_up(0), mshv()].concat();
    let ring_page = 0x4000 + 5 * 256;
    let move_ring = |number| {
        vec![(
            Action::MovePage,
            Op {
                small: 2,
                number,
                ..op()
            },
        )]
    };
    let forge_ring = |ids: u64| {
        (
            Action::Poke,
            Op {
                small: 15,
                ..poke(ring_page + 4, ids, ids + 2)[0].1
            },
        )
    };
    vec![
        ("many_notices", PLAIN, [on(), notices()].concat()),
        (
            "clean_ring",
            PLAIN,
            [on(), doorbells(), vec![drain()]].concat(),
        ),
        (
            "forged_ring",
            PLAIN,
            [on(), doorbells(), vec![forge_ring(0x0003_0001), drain()]].concat(),
        ),
        (
            "forged_ring_flags",
            PLAIN,
            [on(), poke(ring_page, 0x0101, 0), doorbells(), vec![drain()]].concat(),
        ),
        (
            "full_ring",
            PLAIN,
            [on(), many_doorbells(), vec![drain(), drain()]].concat(),
        ),
        (
            "forged_slot",
            PLAIN,
            [on(), poke(0x2200, 1, 0), three_messages()].concat(),
        ),
        (
            "forged_notice",
            PLAIN,
            [on(), poke(0x2000, 0x04_8000_0061, 0), doorbells()].concat(),
        ),
        (
            "all_flags_set",
            PLAIN,
            [on(), poke(0x3200, u64::MAX, u64::MAX), signals()].concat(),
        ),
        (
            "pages_on_top_of_each_other",
            PLAIN,
            [on(), move_ring(2), three_messages(), doorbells()].concat(),
        ),
        (
            "move_beyond_ram",
            PLAIN,
            [on(), move_ring(16), doorbells()].concat(),
        ),
        (
            "paused_pages",
            PLAIN,
            [
                on(),
                paused(),
                vec![step(Action::MemoryChanged), step(Action::Migrate)],
            ]
            .concat(),
        ),
    ]
}

/// A plain guest; four messages may wait.
const PLAIN: [u8; HEAD_SIZE] = [0, 0, 0, 0, 4, 0, 0, 0];
/// The same, with messages written by the VP's thread.
const BY_VP: [u8; HEAD_SIZE] = [0, 0, 32, 0, 4, 0, 0, 0];
/// The same, with timers.
const TIMERS: [u8; HEAD_SIZE] = [0, 0, 64, 0, 4, 0, 0, 0];
/// Where a hypercall's input block is.
const INPUT: u64 = 0x8000;
/// Where one is that crosses a page.
const CROSSING: u64 = 0x8FE0;
