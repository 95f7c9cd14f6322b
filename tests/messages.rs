// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! Messages arrive in order, each once, each with its interrupt, and each is accounted for.

use vm_synic::abi::{MESSAGE_PAYLOAD_MAX, Sint};
use vm_synic::test_utils::MockVm;
use vm_synic::{
    Config, Message, MessageType, NotReady, PostError, Posted, SintAddr, SintIndex, SintInterrupt,
    VpIndex, WhenDisabled, WhenMasked,
};

mod inbox;

use inbox::{ADDR, SINT, VP, bodies, counters, message, post, post_all, up};

#[test]
fn message_to_a_free_slot_is_there_with_one_interrupt_of_its_vector() {
    let (vm, guest) = up();
    let longest = Message::new(MessageType::VMBUS, &[7; MESSAGE_PAYLOAD_MAX]).unwrap();
    let longest = longest.with_sender(0x1234);

    assert_eq!(
        vm.manager.post_message(ADDR, &longest),
        Ok(Posted::Delivered)
    );

    let interrupt = SintInterrupt {
        addr: ADDR,
        vector: 0xF3,
        auto_eoi: false,
    };
    assert_eq!(vm.host.take_interrupts(), [interrupt]);
    assert_eq!(guest.take_message(SINT), Some(longest));
    assert_eq!(guest.take_message(SINT), None);
}

#[test]
fn empty_message_does_not_show_what_was_in_the_slot_before() {
    let (vm, guest) = up();
    post(&vm, 1).unwrap();
    guest.take_message(SINT);
    let empty = Message::new(MessageType::VMBUS, &[]).unwrap();
    vm.manager.post_message(ADDR, &empty).unwrap();
    assert_eq!(guest.take_message(SINT), Some(empty));
}

#[test]
fn interrupt_of_a_sint_with_auto_eoi_says_so() {
    let (vm, guest) = up();
    let sint = Sint::new().with_vector(0x50).with_auto_eoi(true);
    guest.set_sint(SINT, sint);
    post(&vm, 1).unwrap();
    let interrupts = vm.host.take_interrupts();
    assert_eq!((interrupts[0].vector, interrupts[0].auto_eoi), (0x50, true));
}

#[test]
fn message_to_a_busy_slot_waits_without_an_interrupt_and_asks_for_eom() {
    let (vm, guest) = up();
    post(&vm, 1).unwrap();
    assert!(!guest.is_message_pending(SINT));
    vm.host.take_calls();

    assert_eq!(post(&vm, 2), Ok(Posted::Queued));

    assert_eq!(vm.host.take_interrupts(), []);
    assert!(guest.is_message_pending(SINT));
    assert_eq!(guest.peek_message(SINT), Some(message(1)));
}

#[test]
fn messages_through_a_busy_slot_keep_their_order_and_interrupt_once_each() {
    let (vm, guest) = up();
    post_all(&vm, 1..=5);
    assert_eq!(bodies(&guest.take_messages(SINT)), [1, 2, 3, 4, 5]);
    assert_eq!(vm.host.take_interrupts().len(), 5);
}

#[test]
fn guest_owes_an_eom_for_each_message_but_the_last() {
    let (vm, guest) = up();
    post_all(&vm, 1..=3);
    guest.take_messages(SINT);
    let snapshot = vm.manager.snapshot();
    assert_eq!(snapshot.vps[0].plain.eoms, 2);
}

#[test]
fn eom_with_the_slot_still_full_moves_nothing() {
    let (vm, guest) = up();
    post(&vm, 1).unwrap();
    post(&vm, 2).unwrap();
    vm.host.take_calls();
    guest.end_of_message();
    assert_eq!(vm.host.take_interrupts(), []);
    assert_eq!(guest.peek_message(SINT), Some(message(1)));
}

#[test]
fn eom_moves_the_messages_of_every_sint() {
    let (vm, guest) = up();
    guest.unmask(SintIndex::DOORBELL, 0xF4);
    let other = SintAddr::new(VP, SintIndex::DOORBELL);
    for body in [1, 2] {
        post(&vm, body).unwrap();
        vm.manager.post_message(other, &message(body + 10)).unwrap();
    }
    guest.clear_slot(SINT);
    guest.clear_slot(SintIndex::DOORBELL);
    guest.end_of_message();
    assert_eq!(guest.peek_message(SINT), Some(message(2)));
    assert_eq!(guest.peek_message(SintIndex::DOORBELL), Some(message(12)));
}

#[test]
fn busy_slot_of_one_sint_holds_up_no_other() {
    let (vm, guest) = up();
    post(&vm, 1).unwrap();
    for sint in SintIndex::all().filter(|sint| *sint != SINT) {
        guest.unmask(sint, 0x40);
        let posted = vm
            .manager
            .post_message(SintAddr::new(VP, sint), &message(2));
        assert_eq!(posted, Ok(Posted::Delivered), "{sint}");
        assert_eq!(guest.take_message(sint), Some(message(2)), "{sint}");
    }
}

#[test]
fn guest_that_empties_the_slot_without_eom_gets_the_older_message_with_the_next_post() {
    let (vm, guest) = up();
    post(&vm, 1).unwrap();
    post(&vm, 2).unwrap();
    vm.host.take_calls();
    guest.clear_slot(SINT);

    assert_eq!(post(&vm, 3), Ok(Posted::Queued));

    assert_eq!(vm.host.take_interrupts().len(), 1);
    assert_eq!(bodies(&guest.take_messages(SINT)), [2, 3]);
    counters(&vm, SINT);
}

#[test]
fn messages_that_waited_when_the_sint_was_masked_are_drained_by_eom_without_an_interrupt() {
    let (vm, guest) = up();
    post_all(&vm, 1..=3);
    guest.mask(SINT);
    vm.host.take_calls();

    assert_eq!(bodies(&guest.take_messages(SINT)), [1, 2, 3]);

    assert_eq!(vm.host.take_interrupts(), []);
    let interrupts = vm.manager.snapshot().vps[0].plain.counters(SINT).interrupts;
    assert_eq!((interrupts.raised, interrupts.muted), (1, 2));
}

#[test]
fn unmask_with_a_message_that_an_eom_brought_meanwhile_raises_its_interrupt() {
    let (vm, guest) = up();
    post_all(&vm, 1..=2);
    guest.mask(SINT);
    guest.take_message(SINT);
    vm.host.take_calls();

    guest.unmask(SINT, 0xF3);

    assert_eq!(vm.host.take_interrupts().len(), 1);
    assert_eq!(guest.take_message(SINT), Some(message(2)));
}

#[test]
fn message_that_waited_when_the_sint_was_masked_comes_with_the_unmask() {
    let (vm, guest) = up();
    post(&vm, 1).unwrap();
    post(&vm, 2).unwrap();
    guest.mask(SINT);
    guest.clear_slot(SINT);
    vm.host.take_calls();
    guest.unmask(SINT, 0x61);
    assert_eq!(vm.host.take_interrupts()[0].vector, 0x61);
    assert_eq!(guest.take_message(SINT), Some(message(2)));
}

#[test]
fn message_to_a_polling_sint_is_written_without_an_interrupt() {
    let (vm, guest) = up();
    let polling = Sint::new().with_vector(0xF3).with_polling(true);
    guest.set_sint(SINT, polling);
    assert_eq!(post(&vm, 1), Ok(Posted::Delivered));
    post(&vm, 2).unwrap();
    assert_eq!(bodies(&guest.take_messages(SINT)), [1, 2]);
    assert_eq!(vm.host.take_interrupts(), []);
}

#[test]
fn message_to_a_proxied_sint_is_refused_whatever_the_policy() {
    for when_masked in [WhenMasked::Refuse, WhenMasked::Hold, WhenMasked::Write] {
        let config = Config {
            when_masked,
            when_disabled: WhenDisabled::Hold,
            ..Config::new(1)
        };
        let vm = MockVm::new(config, 1);
        let guest = vm.guest(VP);
        for sint in [Sint::RESET, Sint::new().with_vector(0xF3)] {
            guest.set_sint(SINT, sint.with_proxy(true));
            let refused = PostError::NotReady {
                addr: ADDR,
                cause: NotReady::Proxied,
            };
            assert_eq!(post(&vm, 1), Err(refused));
        }
        assert_eq!(counters(&vm, SINT).dropped.proxied, 2);
    }
}

#[test]
fn message_to_a_vp_or_bank_that_is_not_there_is_the_vmms_fault() {
    let (vm, _guest) = up();
    for addr in [ADDR.nested(), SintAddr::new(VpIndex::new(1), SINT)] {
        let posted = vm.manager.post_message(addr, &message(1));
        assert_eq!(posted, Err(PostError::NoVp(addr)));
    }
}

#[test]
fn interrupt_that_the_host_cannot_raise_is_counted_and_the_message_stays() {
    let (vm, guest) = up();
    vm.host.set_failing(true);
    assert_eq!(post(&vm, 1), Ok(Posted::Delivered));
    let interrupts = vm.manager.snapshot().vps[0].plain.counters(SINT).interrupts;
    assert_eq!(interrupts.failed, 1);
    assert_eq!(guest.take_message(SINT), Some(message(1)));
}
