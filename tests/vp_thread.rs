// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! A manager that leaves the message page to the thread of the VP, as KVM's own SynIC needs it.

use vm_synic::abi::{Register, Sint};
use vm_synic::ownership::SynicPage;
use vm_synic::test_utils::{HostCall, MockGuest, MockVm};
use vm_synic::{
    Config, DoorbellTarget, MessageWriter, PortId, PostError, Posted, SintAddr, SintIndex,
};

mod inbox;

use inbox::{ADDR, DEPTH, Memory, SINT, VP, bodies, counters, message, post, post_all};

/// A VP that takes messages on SINT2, and has them written by its own thread.
fn up_with(depth: u16) -> (MockVm, MockGuest<Memory>) {
    let config = Config {
        queue_depth: depth,
        message_writer: MessageWriter::VpThread,
        ..Config::new(1)
    };
    let vm = MockVm::new(config, 1);
    let mut guest = vm.guest(VP);
    guest.enable_all();
    guest.unmask(SINT, 0xF3);
    vm.host.take_calls();
    (vm, guest)
}

#[test]
fn post_is_queued_and_kicks_the_vp_whose_thread_fills_the_slot() {
    let (vm, guest) = up_with(DEPTH);

    assert_eq!(post(&vm, 1), Ok(Posted::Queued));
    assert_eq!(vm.host.take_calls(), [HostCall::Kick(VP)]);
    assert_eq!(guest.peek_message(SINT), None, "nobody else writes");

    vm.manager.pre_run(VP);
    assert_eq!(vm.host.take_raised(VP), SINT.bit());
    assert_eq!(guest.take_message(SINT), Some(message(1)));
    assert_eq!(counters(&vm, SINT).delivered, 1);
}

#[test]
fn slot_freed_with_a_message_waiting_has_the_vp_deliver_it() {
    let (vm, guest) = up_with(DEPTH);
    post_all(&vm, 1..=2);
    vm.manager.pre_run(VP);
    // KVM takes the EOM itself.
    guest.write_ram(slot(&guest), &[0; 4]);
    vm.host.take_calls();

    vm.manager.slot_freed(ADDR);
    assert_eq!(vm.host.take_calls(), [HostCall::Kick(VP)]);
    vm.manager.pre_run(VP);

    assert_eq!(guest.take_message(SINT), Some(message(2)));
}

#[test]
fn slot_freed_with_nothing_waiting_disturbs_nobody() {
    let (vm, _guest) = up_with(DEPTH);
    post(&vm, 1).unwrap();
    vm.manager.pre_run(VP);
    vm.host.take_calls();

    vm.manager.slot_freed(ADDR);
    vm.manager
        .slot_freed(SintAddr::new(VP, SintIndex::DOORBELL));

    assert_eq!(vm.host.take_calls(), []);
}

#[test]
fn slot_freed_where_any_thread_writes_delivers_at_once() {
    let (vm, guest) = inbox::up();
    post_all(&vm, 1..=2);
    guest.write_ram(slot(&guest), &[0; 4]);
    vm.host.take_calls();

    vm.manager.slot_freed(ADDR);

    assert_eq!(vm.host.take_raised(VP), SINT.bit());
    assert_eq!(guest.take_message(SINT), Some(message(2)));
}

#[test]
fn messages_of_a_full_queue_come_in_order_and_the_poster_hears_of_room() {
    let (vm, guest) = up_with(DEPTH);
    post_all(&vm, 1..=DEPTH as u8);
    assert_eq!(post(&vm, 99), Err(PostError::WouldBlock(ADDR)));

    vm.manager.pre_run(VP);
    assert_eq!(vm.host.take_writable(), [ADDR]);

    let taken = bodies(&guest.take_messages(SINT));
    assert_eq!(taken, (1..=DEPTH as u8).collect::<Vec<_>>());
}

#[test]
fn queue_of_depth_0_still_holds_what_is_on_its_way_to_the_slot() {
    let (vm, guest) = up_with(0);
    assert_eq!(post(&vm, 1), Ok(Posted::Queued));
    assert_eq!(post(&vm, 2), Err(PostError::WouldBlock(ADDR)));
    vm.manager.pre_run(VP);
    assert_eq!(guest.take_message(SINT), Some(message(1)));
}

#[test]
fn notice_of_a_doorbell_is_written_by_the_vp_too() {
    let (vm, mut guest) = up_with(DEPTH);
    guest.enable(SynicPage::EventRing);
    guest.unmask(SintIndex::INTERCEPT, 0xF3);
    let doorbell = Sint::new().with_vector(0xF3).with_as_intercept(true);
    guest
        .set(Register::Sint(SintIndex::DOORBELL), doorbell.into())
        .unwrap();
    vm.manager.pre_run(VP);
    vm.host.take_calls();

    let port = PortId::new(7).unwrap();
    let rung = vm
        .manager
        .ring_doorbell(DoorbellTarget::Vp(VP), SintIndex::DOORBELL, port);
    rung.unwrap();
    assert_eq!(guest.peek_message(SintIndex::INTERCEPT), None);
    assert_eq!(vm.host.take_calls(), [HostCall::Kick(VP)]);

    vm.manager.pre_run(VP);
    assert!(guest.take_message(SintIndex::INTERCEPT).is_some());
    assert_eq!(guest.drain_ring(SintIndex::DOORBELL), [7]);
}

fn slot(guest: &MockGuest<Memory>) -> u64 {
    guest.area(SynicPage::Message, SINT)
}
