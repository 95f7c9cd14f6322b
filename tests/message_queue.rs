// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! The queue behind a slot: bounded, honest to who posts, and open to notices.

use vm_synic::abi::{Register, Sint};
use vm_synic::ownership::SynicPage;
use vm_synic::test_utils::{MockGuest, MockVm};
use vm_synic::{
    Config, DoorbellTarget, MessageType, PortId, PostError, Posted, SintAddr, SintIndex, WhenMasked,
};

mod inbox;

use inbox::{ADDR, DEPTH, Memory, SINT, VP, bodies, counters, message, post, post_all, up};

#[test]
fn queue_takes_its_depth_and_refuses_the_next_until_there_is_room() {
    let (vm, guest) = up();
    post_all(&vm, 0..=DEPTH as u8);
    assert_eq!(post(&vm, 99), Err(PostError::WouldBlock(ADDR)));
    assert_eq!(counters(&vm, SINT).dropped.full, 1);

    guest.take_message(SINT);
    assert_eq!(vm.host.take_writable(), [ADDR]);
    assert_eq!(post(&vm, 5), Ok(Posted::Queued));
    assert_eq!(bodies(&guest.take_messages(SINT)), [1, 2, 3, 4, 5]);
    assert_eq!(vm.host.take_writable(), [], "nobody was refused since");
}

#[test]
fn queue_of_depth_0_takes_what_fits_the_slot() {
    let config = Config {
        queue_depth: 0,
        ..Config::new(1)
    };
    let vm = MockVm::new(config, 1);
    let mut guest = vm.guest(VP);
    guest.enable_all();
    guest.unmask(SINT, 0xF3);
    assert_eq!(post(&vm, 1), Ok(Posted::Delivered));
    assert_eq!(post(&vm, 2), Err(PostError::WouldBlock(ADDR)));
}

/// Fills the queue of SINT2 behind a busy slot, and has a poster refused.
fn overfill(vm: &MockVm) {
    post_all(vm, 0..=DEPTH as u8);
    assert_eq!(post(vm, 99), Err(PostError::WouldBlock(ADDR)));
    vm.host.take_calls();
}

#[test]
fn poster_that_was_refused_hears_when_the_guest_gives_the_queue_up() {
    type Act = fn(&MockVm, &MockGuest<Memory>);
    let acts: [Act; 4] = [
        |_, guest| guest.set_scontrol(false),
        |_, guest| guest.disable(SynicPage::Message),
        |vm, _| vm.manager.reset(),
        |vm, _| vm.manager.reset_vp(VP).unwrap(),
    ];
    for (number, act) in acts.into_iter().enumerate() {
        let (vm, guest) = up();
        overfill(&vm);
        act(&vm, &guest);
        assert_eq!(vm.host.take_writable(), [ADDR], "act {number}");
    }
}

#[test]
fn poster_that_was_refused_hears_when_an_unmask_makes_room() {
    let config = Config {
        queue_depth: 1,
        when_masked: WhenMasked::Hold,
        ..Config::new(1)
    };
    let vm = MockVm::new(config, 1);
    let mut guest = vm.guest(VP);
    guest.enable_all();
    post(&vm, 1).unwrap();
    assert_eq!(post(&vm, 2), Err(PostError::WouldBlock(ADDR)));
    vm.host.take_calls();

    guest.unmask(SINT, 0xF3);

    assert_eq!(vm.host.take_writable(), [ADDR]);
    assert_eq!(post(&vm, 2), Ok(Posted::Queued));
    assert_eq!(bodies(&guest.take_messages(SINT)), [1, 2]);
}

#[test]
fn notice_of_an_event_ring_is_accepted_by_a_full_queue_and_by_a_masked_sint0() {
    for is_masked in [false, true] {
        let (vm, guest) = up();
        let doorbell = Sint::new().with_vector(0xF3).with_as_intercept(true);
        guest.unmask(SintIndex::INTERCEPT, 0xF3);
        guest.set_sint(SintIndex::DOORBELL, doorbell);
        let sint0 = SintAddr::new(VP, SintIndex::INTERCEPT);
        while vm.manager.post_message(sint0, &message(1)).is_ok() {}
        if is_masked {
            guest.mask(SintIndex::INTERCEPT);
        }

        let (target, port) = (DoorbellTarget::Vp(VP), PortId::new(1).unwrap());
        let rung = vm.manager.ring_doorbell(target, SintIndex::DOORBELL, port);

        assert_eq!(rung, Ok(()));
        let last = *guest.take_messages(SintIndex::INTERCEPT).last().unwrap();
        assert_eq!(last.message_type(), MessageType::SYNIC_SINT_INTERCEPT);
        assert_eq!(last.payload(), 5u32.to_le_bytes());
        counters(&vm, SintIndex::INTERCEPT);
    }
}

/// The slot and the queue of SINT0 full, with a notice at the head of the queue.
fn overfill_behind_a_notice(vm: &MockVm, guest: &MockGuest<Memory>) -> SintAddr {
    let doorbell = Sint::new().with_vector(0xF3).with_as_intercept(true);
    guest.unmask(SintIndex::INTERCEPT, 0xF3);
    guest.set_sint(SintIndex::DOORBELL, doorbell);
    let sint0 = SintAddr::new(VP, SintIndex::INTERCEPT);
    vm.manager.post_message(sint0, &message(0)).unwrap();
    let (target, port) = (DoorbellTarget::Vp(VP), PortId::new(1).unwrap());
    let rung = vm.manager.ring_doorbell(target, SintIndex::DOORBELL, port);
    rung.unwrap();
    while vm.manager.post_message(sint0, &message(1)).is_ok() {}
    vm.host.take_calls();
    sint0
}

#[test]
fn post_that_finds_the_slot_just_emptied_and_the_queue_full_interrupts_for_what_it_moved_on() {
    let (vm, guest) = up();
    let sint0 = overfill_behind_a_notice(&vm, &guest);
    guest.clear_slot(SintIndex::INTERCEPT);

    let _ = vm.manager.post_message(sint0, &message(2));

    let moved_on = guest.peek_message(SintIndex::INTERCEPT).unwrap();
    assert_eq!(moved_on.message_type(), MessageType::SYNIC_SINT_INTERCEPT);
    assert_eq!(vm.host.take_interrupts().len(), 1);
}

#[test]
fn counters_tell_what_became_of_each_message() {
    let (vm, guest) = up();
    overfill(&vm);
    guest.take_message(SINT);
    guest.mask(SINT);
    assert!(post(&vm, 9).is_err());
    guest.set(Register::Simp, 0).unwrap();

    let counters = counters(&vm, SINT);

    assert_eq!((counters.posted, counters.delivered), (7, 2));
    assert_eq!((counters.queued, counters.redelivered), (4, 1));
    assert_eq!((counters.dropped.full, counters.dropped.masked), (1, 1));
    assert_eq!((counters.dropped.page_off, counters.waiting), (3, 0));
}
