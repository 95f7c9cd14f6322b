// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! What becomes of a message for a VP that is not ready for it: each policy, each cause.

use std::ops::RangeInclusive;
use vm_synic::ownership::SynicPage;
use vm_synic::test_utils::{MockGuest, MockVm};
use vm_synic::{
    Config, Dropped, GuestSpace, Message, MessageCounters, MessageType,
    NotReady::{self, Masked, PageOff, ScontrolOff},
    PostError, Posted, SintAddr, SintIndex, VpIndex, WhenDisabled, WhenMasked,
};

const VP: VpIndex = VpIndex::new(0);
const SINT: SintIndex = SintIndex::VMBUS;
const ADDR: SintAddr = SintAddr::new(VP, SINT);
const DISABLED: [WhenDisabled; 2] = [WhenDisabled::Refuse, WhenDisabled::Hold];
const MASKED: [WhenMasked; 3] = [WhenMasked::Refuse, WhenMasked::Hold, WhenMasked::Write];

fn vm(when_disabled: WhenDisabled, when_masked: WhenMasked) -> MockVm {
    let config = Config {
        when_disabled,
        when_masked,
        ..Config::new(1)
    };
    MockVm::new(config, 1)
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

fn refused(cause: NotReady) -> Result<Posted, PostError> {
    Err(PostError::NotReady { addr: ADDR, cause })
}

fn counters(vm: &MockVm) -> MessageCounters {
    let counters = vm.manager.snapshot().vps[0].plain.counters(SINT).messages;
    assert!(counters.balances(), "{counters:?}");
    counters
}

/// `count` messages dropped because of `cause`.
fn dropped(cause: NotReady, count: u64) -> Dropped {
    let mut dropped = Dropped::default();
    match cause {
        ScontrolOff => dropped.scontrol_off = count,
        PageOff => dropped.page_off = count,
        Masked => dropped.masked = count,
        NotReady::Proxied => dropped.proxied = count,
    }
    dropped
}

/// Takes away what `cause` names.
fn take_away(guest: &MockGuest<impl GuestSpace>, cause: NotReady) {
    match cause {
        ScontrolOff => guest.set_scontrol(false),
        PageOff => guest.disable(SynicPage::Message),
        _ => guest.mask(SINT),
    }
}

/// Gives back what `cause` names.
fn give_back(guest: &mut MockGuest<impl GuestSpace>, cause: NotReady) {
    match cause {
        ScontrolOff => guest.set_scontrol(true),
        PageOff => drop(guest.enable(SynicPage::Message)),
        _ => guest.unmask(SINT, 0xF3),
    }
}

fn up(vm: &MockVm) -> MockGuest<std::sync::Arc<vm_memory::GuestMemoryMmap>> {
    let mut guest = vm.guest(VP);
    guest.enable_all();
    guest.unmask(SINT, 0xF3);
    guest
}

#[test]
fn post_to_what_is_off_under_refuse_is_refused_by_name_and_never_seen() {
    for cause in [ScontrolOff, PageOff, Masked] {
        let vm = vm(WhenDisabled::Refuse, WhenMasked::Refuse);
        let mut guest = up(&vm);
        take_away(&guest, cause);
        vm.host.take_calls();

        assert_eq!(post(&vm, 1), refused(cause));

        assert_eq!(counters(&vm).dropped, dropped(cause, 1));
        give_back(&mut guest, cause);
        assert_eq!(guest.take_message(SINT), None);
        assert_eq!(vm.host.take_interrupts(), []);
    }
}

#[test]
fn post_to_what_is_off_under_hold_waits_and_comes_with_its_interrupt_when_it_is_on() {
    for cause in [ScontrolOff, PageOff, Masked] {
        let vm = vm(WhenDisabled::Hold, WhenMasked::Hold);
        let mut guest = up(&vm);
        take_away(&guest, cause);
        vm.host.take_calls();

        assert_eq!(post(&vm, 1), Ok(Posted::Queued));
        assert_eq!(post(&vm, 2), Ok(Posted::Queued));
        assert_eq!(vm.host.take_interrupts(), [], "{cause}");

        give_back(&mut guest, cause);
        assert_eq!(vm.host.take_interrupts().len(), 1, "{cause}");
        assert_eq!(
            guest.take_messages(SINT),
            [message(1), message(2)],
            "{cause}"
        );
        assert_eq!(counters(&vm).dropped, Dropped::default());
    }
}

#[test]
fn hold_is_bounded_by_the_depth_of_the_queue() {
    let config = Config {
        when_disabled: WhenDisabled::Hold,
        queue_depth: 2,
        ..Config::new(1)
    };
    let vm = MockVm::new(config, 1);
    let posted = [1, 2, 3].map(|body| post(&vm, body));
    let full = Err(PostError::WouldBlock(ADDR));
    assert_eq!(posted, [Ok(Posted::Queued), Ok(Posted::Queued), full]);
}

#[test]
fn messages_that_wait_when_the_guest_switches_off_are_dropped_under_refuse_and_kept_under_hold() {
    for cause in [ScontrolOff, PageOff] {
        for when_disabled in DISABLED {
            let vm = vm(when_disabled, WhenMasked::Refuse);
            let mut guest = up(&vm);
            post_all(&vm, 1..=3);
            take_away(&guest, cause);
            guest.clear_slot(SINT);

            give_back(&mut guest, cause);

            let seen = guest.take_messages(SINT);
            match when_disabled {
                WhenDisabled::Refuse => {
                    assert_eq!(seen, []);
                    assert_eq!(counters(&vm).dropped, dropped(cause, 2));
                }
                WhenDisabled::Hold => {
                    assert_eq!(seen, [message(2), message(3)]);
                    assert_eq!(counters(&vm).dropped, Dropped::default());
                }
            }
        }
    }
}

#[test]
fn messages_that_wait_at_a_mask_stay_under_every_policy() {
    for when_masked in MASKED {
        let vm = vm(WhenDisabled::Refuse, when_masked);
        let guest = up(&vm);
        post(&vm, 1).unwrap();
        post(&vm, 2).unwrap();
        guest.mask(SINT);
        let seen = guest.take_messages(SINT);
        assert_eq!(seen, [message(1), message(2)], "{when_masked:?}");
    }
}

#[test]
fn eom_drains_what_a_masked_sint_holds() {
    let vm = vm(WhenDisabled::Refuse, WhenMasked::Hold);
    let guest = up(&vm);
    guest.mask(SINT);
    post(&vm, 1).unwrap();
    assert_eq!(guest.take_message(SINT), None);
    guest.end_of_message();
    assert_eq!(guest.take_message(SINT), Some(message(1)));
    assert_eq!(vm.host.take_interrupts(), []);
}

#[test]
fn post_to_a_masked_sint_under_write_is_in_the_slot_without_an_interrupt() {
    let vm = vm(WhenDisabled::Refuse, WhenMasked::Write);
    let guest = up(&vm);
    guest.mask(SINT);
    assert_eq!(post(&vm, 1), Ok(Posted::Delivered));
    assert_eq!(post(&vm, 2), Ok(Posted::Queued));
    assert_eq!(guest.take_messages(SINT), [message(1), message(2)]);
    assert_eq!(vm.host.take_interrupts(), []);
    let interrupts = vm.manager.snapshot().vps[0].plain.counters(SINT).interrupts;
    assert_eq!((interrupts.raised, interrupts.muted), (0, 2));
}

#[test]
fn post_to_a_masked_sint_of_a_vp_that_is_off_follows_the_policy_for_what_is_off() {
    for cause in [ScontrolOff, PageOff] {
        for when_masked in MASKED {
            let vm = vm(WhenDisabled::Refuse, when_masked);
            let guest = up(&vm);
            guest.mask(SINT);
            take_away(&guest, cause);
            assert_eq!(post(&vm, 1), refused(cause), "{when_masked:?}");
        }
    }
}

#[test]
fn post_to_a_vp_that_has_not_started_waits_where_what_is_off_is_held() {
    let vm = vm(WhenDisabled::Hold, WhenMasked::Refuse);
    assert_eq!(post(&vm, 1), Ok(Posted::Queued));
    let guest = up(&vm);
    assert_eq!(guest.take_message(SINT), Some(message(1)));
}

#[test]
fn message_held_for_a_masked_sint_under_write_is_written_when_the_page_comes_on() {
    let vm = vm(WhenDisabled::Hold, WhenMasked::Write);
    let mut guest = up(&vm);
    guest.mask(SINT);
    for cause in [PageOff, ScontrolOff] {
        take_away(&guest, cause);
        assert_eq!(post(&vm, 1), Ok(Posted::Queued));
        give_back(&mut guest, cause);
        assert_eq!(guest.take_message(SINT), Some(message(1)), "{cause}");
    }
    assert_eq!(vm.host.take_interrupts(), []);
}

#[test]
fn message_posted_while_paused_for_a_masked_sint_under_write_is_written_at_resume() {
    let vm = vm(WhenDisabled::Refuse, WhenMasked::Write);
    let guest = up(&vm);
    guest.mask(SINT);
    vm.manager.pause();
    assert_eq!(post(&vm, 1), Ok(Posted::Queued));
    vm.manager.resume();
    vm.manager.pre_run(VP);
    assert_eq!(guest.take_message(SINT), Some(message(1)));
}

#[test]
fn messages_that_wait_at_a_reset_are_dropped_and_counted_so() {
    let vm = vm(WhenDisabled::Hold, WhenMasked::Hold);
    let mut guest = up(&vm);
    post_all(&vm, 1..=3);
    vm.manager.reset();
    assert_eq!(counters(&vm).dropped.reset, 2);
    guest.enable_all();
    guest.unmask(SINT, 0xF3);
    assert_eq!(guest.take_message(SINT), None);
}
