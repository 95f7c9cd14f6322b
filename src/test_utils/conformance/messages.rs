// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! Messages for the guest.

use super::guest::message;
use super::{Guest, Machine, Named, QUEUE, named};
use crate::abi::{
    MESSAGE_PAYLOAD_MAX, Message, MessageType, Register, SintAddr, SintIndex, VpIndex,
};
use crate::error::{NotReady, PostError};

pub(super) fn cases<M: Machine>() -> Vec<Named<M>> {
    named![
        post_when_the_slot_is_free_arrives_with_one_interrupt,
        post_when_the_slot_is_taken_arrives_after_the_one_before,
        post_of_more_than_a_slot_holds_arrives_in_order,
        post_of_every_size_keeps_its_payload,
        post_of_any_type_keeps_its_type,
        post_beyond_the_queue_would_block,
        post_after_would_block_is_taken_when_told,
        post_for_another_sint_does_not_wait,
        post_for_another_vp_does_not_wait,
        post_when_scontrol_is_off_is_refused,
        post_when_the_page_is_off_is_refused,
        post_when_the_sint_is_masked_is_refused,
        post_when_masked_after_another_waits_loses_neither,
        post_when_switched_on_again_is_taken,
        post_for_a_vp_that_is_not_there_is_the_callers_error,
        post_that_was_refused_counts_and_balances,
    ]
}

/// With `WhenMasked::Hold`.
pub(super) fn cases_of_hold<M: Machine>() -> Vec<Named<M>> {
    named![post_when_masked_and_held_arrives_once_unmasked]
}

fn post<M: Machine>(machine: &mut M, addr: SintAddr, body: u8) -> Result<(), PostError> {
    let posted = machine.manager().post_message(addr, &message(body));
    machine.settle();
    posted.map(|_| ())
}

fn refused(addr: SintAddr, cause: NotReady) -> Result<(), PostError> {
    Err(PostError::NotReady { addr, cause })
}

fn post_when_the_slot_is_free_arrives_with_one_interrupt<M: Machine>(machine: &mut M) {
    let guest = Guest::start(machine, 0);
    assert_eq!(post(machine, guest.addr(), 7), Ok(()));
    assert_eq!(machine.take_interrupts(guest.vp), [Guest::VECTOR]);
    assert_eq!(guest.take(machine, SintIndex::VMBUS), Some(message(7)));
    assert_eq!(guest.take(machine, SintIndex::VMBUS), None);
    assert_eq!(machine.take_interrupts(guest.vp), [0; 0]);
}

fn post_when_the_slot_is_taken_arrives_after_the_one_before<M: Machine>(machine: &mut M) {
    let guest = Guest::start(machine, 0);
    assert_eq!(post(machine, guest.addr(), 1), Ok(()));
    assert_eq!(post(machine, guest.addr(), 2), Ok(()));
    assert_eq!(machine.take_interrupts(guest.vp), [Guest::VECTOR]);
    assert_eq!(guest.take(machine, SintIndex::VMBUS), Some(message(1)));
    assert_eq!(machine.take_interrupts(guest.vp), [Guest::VECTOR]);
    assert_eq!(guest.take(machine, SintIndex::VMBUS), Some(message(2)));
}

fn post_of_more_than_a_slot_holds_arrives_in_order<M: Machine>(machine: &mut M) {
    let guest = Guest::start(machine, 0);
    let bodies: Vec<u8> = (0..=QUEUE as u8).collect();
    for body in &bodies {
        assert_eq!(post(machine, guest.addr(), *body), Ok(()));
    }
    assert_eq!(guest.take_all(machine), bodies);
}

fn post_of_every_size_keeps_its_payload<M: Machine>(machine: &mut M) {
    let guest = Guest::start(machine, 0);
    for size in [0, 1, 7, 8, 9, 239, MESSAGE_PAYLOAD_MAX] {
        let payload: Vec<u8> = (0..size).map(|byte| byte as u8 ^ 0x5A).collect();
        let sent = Message::new(MessageType::VMBUS, &payload).expect("at most 240 bytes");
        let posted = machine.manager().post_message(guest.addr(), &sent);
        assert!(posted.is_ok(), "{size} bytes: {posted:?}");
        machine.settle();
        let taken = guest.take(machine, SintIndex::VMBUS);
        assert_eq!(taken, Some(sent), "{size} bytes");
    }
}

fn post_of_any_type_keeps_its_type<M: Machine>(machine: &mut M) {
    let guest = Guest::start(machine, 0);
    for message_type in [1, 0x7FFF_FFFF, 0x8000_0010, u32::MAX] {
        let message_type = MessageType::new(message_type).expect("not 0");
        let sent = Message::new(message_type, &[1]).expect("one byte");
        let posted = machine.manager().post_message(guest.addr(), &sent);
        assert!(posted.is_ok(), "{message_type:?}: {posted:?}");
        machine.settle();
        assert_eq!(guest.take(machine, SintIndex::VMBUS), Some(sent));
    }
}

/// Fills slot and queue; gives how many messages that took.
fn fill<M: Machine>(machine: &mut M, guest: &Guest) -> u8 {
    let mut sent = 0;
    while post(machine, guest.addr(), sent) == Ok(()) {
        sent += 1;
        assert!(u16::from(sent) <= QUEUE + 1, "the queue is bounded");
    }
    sent
}

fn post_beyond_the_queue_would_block<M: Machine>(machine: &mut M) {
    let guest = Guest::start(machine, 0);
    let sent = fill(machine, &guest);
    assert!(u16::from(sent) >= QUEUE, "{sent} fit");
    let posted = post(machine, guest.addr(), 99);
    assert_eq!(posted, Err(PostError::WouldBlock(guest.addr())));
    // What was refused did not arrive, and nothing else is missing.
    assert_eq!(guest.take_all(machine), (0..sent).collect::<Vec<_>>());
}

fn post_after_would_block_is_taken_when_told<M: Machine>(machine: &mut M) {
    let guest = Guest::start(machine, 0);
    let sent = fill(machine, &guest);
    assert_eq!(machine.take_writable(), []);
    assert_eq!(guest.take(machine, SintIndex::VMBUS), Some(message(0)));
    assert_eq!(machine.take_writable(), [guest.addr()]);
    assert_eq!(post(machine, guest.addr(), sent), Ok(()));
    assert_eq!(guest.take_all(machine), (1..=sent).collect::<Vec<_>>());
}

fn post_for_another_sint_does_not_wait<M: Machine>(machine: &mut M) {
    let guest = Guest::start(machine, 0);
    assert_eq!(post(machine, guest.addr(), 1), Ok(()));
    let other = SintAddr::new(guest.vp, Guest::OTHER);
    assert_eq!(post(machine, other, 2), Ok(()));
    let vectors = machine.take_interrupts(guest.vp);
    assert_eq!(vectors, [Guest::VECTOR, Guest::OTHER_VECTOR]);
    assert_eq!(guest.take(machine, Guest::OTHER), Some(message(2)));
    assert_eq!(guest.take(machine, SintIndex::VMBUS), Some(message(1)));
}

fn post_for_another_vp_does_not_wait<M: Machine>(machine: &mut M) {
    let [guest, other] = [0, 1].map(|vp| Guest::start(machine, vp));
    assert_eq!(post(machine, guest.addr(), 1), Ok(()));
    assert_eq!(post(machine, other.addr(), 2), Ok(()));
    assert_eq!(machine.take_interrupts(other.vp), [Guest::VECTOR]);
    assert_eq!(other.take_all(machine), [2]);
    assert_eq!(machine.take_interrupts(guest.vp), [Guest::VECTOR]);
    assert_eq!(guest.take_all(machine), [1]);
}

fn post_when_scontrol_is_off_is_refused<M: Machine>(machine: &mut M) {
    let guest = Guest::start(machine, 0);
    guest.set(machine, Register::Scontrol, 0);
    let expected = refused(guest.addr(), NotReady::ScontrolOff);
    assert_eq!(post(machine, guest.addr(), 1), expected);
    assert_eq!(machine.take_interrupts(guest.vp), [0; 0]);
}

fn post_when_the_page_is_off_is_refused<M: Machine>(machine: &mut M) {
    let guest = Guest::start(machine, 0);
    let gpa = machine.pages(guest.vp);
    guest.set(machine, Register::Simp, gpa);
    let expected = refused(guest.addr(), NotReady::PageOff);
    assert_eq!(post(machine, guest.addr(), 1), expected);
    assert_eq!(machine.take_interrupts(guest.vp), [0; 0]);
}

fn post_when_the_sint_is_masked_is_refused<M: Machine>(machine: &mut M) {
    let guest = Guest::start(machine, 0);
    guest.mask(machine);
    let expected = refused(guest.addr(), NotReady::Masked);
    assert_eq!(post(machine, guest.addr(), 1), expected);
    assert_eq!(guest.take(machine, SintIndex::VMBUS), None);
}

fn post_when_masked_after_another_waits_loses_neither<M: Machine>(machine: &mut M) {
    let guest = Guest::start(machine, 0);
    assert_eq!(post(machine, guest.addr(), 1), Ok(()));
    assert_eq!(post(machine, guest.addr(), 2), Ok(()));
    guest.mask(machine);
    assert_eq!(guest.take(machine, SintIndex::VMBUS), Some(message(1)));
    guest.unmask(machine);
    machine.settle();
    assert_eq!(guest.take_all(machine), [2]);
}

fn post_when_switched_on_again_is_taken<M: Machine>(machine: &mut M) {
    let guest = Guest::start(machine, 0);
    guest.set(machine, Register::Scontrol, 0);
    let expected = refused(guest.addr(), NotReady::ScontrolOff);
    assert_eq!(post(machine, guest.addr(), 1), expected);
    guest.set(machine, Register::Scontrol, 1);
    assert_eq!(post(machine, guest.addr(), 2), Ok(()));
    assert_eq!(guest.take_all(machine), [2]);
}

fn post_for_a_vp_that_is_not_there_is_the_callers_error<M: Machine>(machine: &mut M) {
    for vp in [2, 1000, u32::MAX] {
        let addr = SintAddr::new(VpIndex::new(vp), SintIndex::VMBUS);
        assert_eq!(post(machine, addr, 1), Err(PostError::NoVp(addr)));
    }
}

fn post_that_was_refused_counts_and_balances<M: Machine>(machine: &mut M) {
    let guest = Guest::start(machine, 0);
    let sent = fill(machine, &guest);
    guest.mask(machine);
    let _ = post(machine, guest.addr(), 99);
    let snapshot = machine.manager().snapshot();
    let messages = snapshot.vps[0].plain.counters[2].messages;
    let refused = messages.dropped.full + messages.dropped.masked;
    assert_eq!(messages.posted, u64::from(sent) + refused, "{messages:?}");
    let went = messages.delivered + messages.waiting + messages.dropped.total();
    assert_eq!(messages.posted, went, "{messages:?}");
}

fn post_when_masked_and_held_arrives_once_unmasked<M: Machine>(machine: &mut M) {
    let guest = Guest::start(machine, 0);
    guest.mask(machine);
    assert_eq!(post(machine, guest.addr(), 1), Ok(()));
    assert_eq!(guest.take(machine, SintIndex::VMBUS), None);
    guest.unmask(machine);
    machine.settle();
    assert_eq!(machine.take_interrupts(guest.vp), [Guest::VECTOR]);
    assert_eq!(guest.take_all(machine), [1]);
}
