// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! Messages arrive in order, each once, each with its interrupt, and each is accounted for.

use std::io;
use std::ops::RangeInclusive;
use std::sync::{Arc, OnceLock};
use vm_memory::GuestMemoryMmap;
use vm_synic::abi::{MESSAGE_PAYLOAD_MAX, Register, Sint};
use vm_synic::ownership::SynicPage;
use vm_synic::test_utils::{MockGuest, MockVm, RecordingHost};
use vm_synic::{
    Config, DoorbellTarget, Host, Message, MessageCounters, MessageType, NotReady, PortId,
    PostError, Posted, SintAddr, SintIndex, SintInterrupt, SynicManager, VpIndex, WhenDisabled,
    WhenMasked,
};

const VP: VpIndex = VpIndex::new(0);
const SINT: SintIndex = SintIndex::VMBUS;
const ADDR: SintAddr = SintAddr::new(VP, SINT);
const DEPTH: u16 = 4;

type Memory = Arc<GuestMemoryMmap<()>>;

/// A VP that takes messages on SINT2.
fn up() -> (MockVm, MockGuest<Memory>) {
    let config = Config {
        queue_depth: DEPTH,
        ..Config::new(1)
    };
    let vm = MockVm::new(config, 1);
    let mut guest = vm.guest(VP);
    guest.enable_all();
    guest.unmask(SINT, 0xF3);
    vm.host.take_calls();
    (vm, guest)
}

fn message(body: u8) -> Message {
    Message::new(MessageType::VMBUS, &[body]).unwrap()
}

fn post(vm: &MockVm, body: u8) -> Result<Posted, PostError> {
    vm.manager.post_message(ADDR, &message(body))
}

fn post_all(vm: &MockVm, bodies: RangeInclusive<u8>) {
    for body in bodies {
        post(vm, body).unwrap();
    }
}

fn bodies(messages: &[Message]) -> Vec<u8> {
    messages.iter().map(|m| m.payload()[0]).collect()
}

fn counters(vm: &MockVm, sint: SintIndex) -> MessageCounters {
    let counters = vm.manager.snapshot().vps[0].plain.counters(sint).messages;
    assert!(counters.balances(), "{counters:?}");
    counters
}

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
fn interrupt_that_the_host_cannot_raise_is_counted_and_the_message_stays() {
    let (vm, guest) = up();
    vm.host.set_failing(true);
    assert_eq!(post(&vm, 1), Ok(Posted::Delivered));
    let interrupts = vm.manager.snapshot().vps[0].plain.counters(SINT).interrupts;
    assert_eq!(interrupts.failed, 1);
    assert_eq!(guest.take_message(SINT), Some(message(1)));
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

/// A VMM that posts as soon as it hears of an interrupt or of room.
#[derive(Default)]
struct Eager {
    manager: OnceLock<Arc<SynicManager<Memory>>>,
    seen: RecordingHost,
}

impl Eager {
    fn post(&self, body: u8) {
        let manager = self.manager.get().unwrap();
        let _ = manager.post_message(ADDR, &message(body));
        let _ = manager.snapshot();
    }
}

impl Host for Eager {
    fn assert_sint(&self, interrupt: SintInterrupt) -> io::Result<()> {
        self.post(1);
        self.seen.assert_sint(interrupt)
    }

    fn writable(&self, addr: SintAddr) {
        self.post(2);
        self.seen.writable(addr);
    }
}

#[test]
fn host_may_call_the_manager_from_each_of_its_callbacks() {
    let host = Arc::new(Eager::default());
    let vm = MockVm::new(Config::new(1), 0);
    let config = Config {
        queue_depth: 1,
        ..Config::new(1)
    };
    let manager = SynicManager::new(config, vm.memory.clone(), host.clone());
    assert!(host.manager.set(manager.clone()).is_ok());
    manager.add_vp(VP).unwrap();
    let mut guest = MockGuest::new(manager.clone(), vm.memory, VP, 0x1000..0x8000);
    guest.enable_all();
    guest.unmask(SINT, 0xF3);

    manager.post_message(ADDR, &message(0)).unwrap();
    assert!(manager.post_message(ADDR, &message(9)).is_err());
    let taken = [(); 3].map(|()| guest.take_message(SINT));

    assert_eq!(
        taken,
        [Some(message(0)), Some(message(1)), Some(message(1))]
    );
    assert_ne!(host.seen.take_writable(), []);
}
