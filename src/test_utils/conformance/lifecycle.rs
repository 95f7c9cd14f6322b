// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! Pause, resume, reset, and VPs that come and go.

use super::guest::message;
use super::{Guest, Machine, Named, named};
use crate::abi::{EventFlag, SintIndex};
use crate::error::PostError;

pub(super) fn cases<M: Machine>() -> Vec<Named<M>> {
    named![
        pause_holds_messages_until_the_resume,
        pause_holds_events_until_the_resume,
        pause_between_messages_keeps_their_order,
        pause_while_the_slot_empties_delivers_after_the_resume,
        pause_and_resume_with_nothing_to_do_raises_nothing,
        reset_drops_what_waits,
        remove_vp_refuses_what_comes_and_adding_it_starts_anew,
    ]
}

fn post<M: Machine>(machine: &mut M, guest: &Guest, body: u8) {
    let posted = machine.manager().post_message(guest.addr(), &message(body));
    assert!(posted.is_ok(), "{posted:?}");
    machine.settle();
}

fn resume<M: Machine>(machine: &mut M) {
    machine.manager().resume();
    machine.settle();
}

fn pause_holds_messages_until_the_resume<M: Machine>(machine: &mut M) {
    let guest = Guest::start(machine, 0);
    machine.manager().pause();
    post(machine, &guest, 1);
    assert_eq!(machine.take_interrupts(guest.vp), [0; 0]);
    resume(machine);
    assert_eq!(machine.take_interrupts(guest.vp), [Guest::VECTOR]);
    assert_eq!(guest.take_all(machine), [1]);
}

fn pause_holds_events_until_the_resume<M: Machine>(machine: &mut M) {
    let guest = Guest::start(machine, 0);
    machine.manager().pause();
    let flag = EventFlag::new(3).expect("below 2048");
    for _ in 0..2 {
        let signalled = machine.manager().signal_event(guest.addr(), flag);
        assert!(signalled.is_ok(), "{signalled:?}");
    }
    assert_eq!(guest.take_flags(machine, SintIndex::VMBUS), [0; 0]);
    resume(machine);
    assert_eq!(machine.take_interrupts(guest.vp), [Guest::VECTOR]);
    assert_eq!(guest.take_flags(machine, SintIndex::VMBUS), [3]);
}

fn pause_between_messages_keeps_their_order<M: Machine>(machine: &mut M) {
    let guest = Guest::start(machine, 0);
    post(machine, &guest, 1);
    machine.manager().pause();
    post(machine, &guest, 2);
    resume(machine);
    post(machine, &guest, 3);
    assert_eq!(guest.take_all(machine), [1, 2, 3]);
}

fn pause_while_the_slot_empties_delivers_after_the_resume<M: Machine>(machine: &mut M) {
    let guest = Guest::start(machine, 0);
    post(machine, &guest, 1);
    post(machine, &guest, 2);
    machine.manager().pause();
    assert_eq!(guest.take(machine, SintIndex::VMBUS), Some(message(1)));
    assert_eq!(guest.take(machine, SintIndex::VMBUS), None);
    resume(machine);
    assert_eq!(guest.take_all(machine), [2]);
}

fn pause_and_resume_with_nothing_to_do_raises_nothing<M: Machine>(machine: &mut M) {
    let guest = Guest::start(machine, 0);
    post(machine, &guest, 1);
    assert_eq!(machine.take_interrupts(guest.vp), [Guest::VECTOR]);
    machine.manager().pause();
    resume(machine);
    assert_eq!(machine.take_interrupts(guest.vp), [0; 0]);
    assert_eq!(guest.take_all(machine), [1]);
}

fn reset_drops_what_waits<M: Machine>(machine: &mut M) {
    let guest = Guest::start(machine, 0);
    post(machine, &guest, 1);
    post(machine, &guest, 2);
    let reset = machine.manager().reset_vp(guest.vp);
    assert!(reset.is_ok(), "{reset:?}");
    // The VMM resets the VP as well, and its next kernel starts.
    let guest = Guest::start(machine, 0);
    while guest.take(machine, SintIndex::VMBUS) == Some(message(1)) {}
    post(machine, &guest, 3);
    assert_eq!(guest.take_all(machine), [3]);
}

fn remove_vp_refuses_what_comes_and_adding_it_starts_anew<M: Machine>(machine: &mut M) {
    let guest = Guest::start(machine, 1);
    post(machine, &guest, 1);
    post(machine, &guest, 2);
    let removed = machine.manager().remove_vp(guest.vp);
    assert!(removed.is_ok(), "{removed:?}");
    let posted = machine.manager().post_message(guest.addr(), &message(3));
    assert_eq!(posted, Err(PostError::NoVp(guest.addr())));
    let added = machine.manager().add_vp(guest.vp);
    assert!(added.is_ok(), "{added:?}");
    let guest = Guest::start(machine, 1);
    while guest.take(machine, SintIndex::VMBUS) == Some(message(1)) {}
    post(machine, &guest, 4);
    assert_eq!(guest.take_all(machine), [4]);
}
