// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! Synthetic timers expire when their time has come, by a message or by an interrupt.

mod timers;

use timers::*;
use vm_synic::abi::{Register, RegisterId, StimerConfig};
use vm_synic::test_utils::{HostCall, MockVm};
use vm_synic::{
    Bank, Config, Message, MessageType, MsrError, Posted, SintAddr, SintIndex, WhenMasked,
};

#[test]
fn one_shot_when_its_time_has_come_sends_a_message_and_is_disabled() {
    let (vm, guest) = up();
    start(&guest, 1, to_sint(), 500);
    assert_eq!(vm.host.take_deadlines(), [(VP, Some(500))]);

    due_at(&vm, 499);
    assert_eq!(guest.peek_message(SINT), None);
    assert_eq!(
        vm.host.take_deadlines(),
        [(VP, Some(500))],
        "it was used up"
    );
    due_at(&vm, 510);

    assert_eq!(vm.host.take_raised(VP), SINT.bit());
    assert_eq!(guest.take_message(SINT), Some(expired(1, 500, 510)));
    assert_eq!(config(&guest, 1), to_sint().with_enable(false));
    assert_eq!(vm.host.take_deadlines(), []);
}

#[test]
fn one_shot_with_a_time_in_the_past_expires_at_once() {
    let (vm, guest) = up();
    vm.host.set_time(1000);
    start(&guest, 0, to_sint(), 1);
    assert_eq!(guest.take_message(SINT), Some(expired(0, 1, 1000)));
    assert_eq!(vm.host.take_deadlines(), []);
}

#[test]
fn direct_timer_interrupts_and_writes_no_page() {
    let (vm, guest) = up();
    start(&guest, 0, StimerConfig::direct(0xED), 500);
    vm.host.take_calls();
    due_at(&vm, 500);
    assert_eq!(vm.host.take_calls(), [HostCall::AssertVector(VP, 0xED)]);
    assert_eq!(guest.peek_message(SINT), None);
    let counters = timer(&vm, 0).counters;
    assert_eq!((counters.expired, counters.interrupts), (1, 1));
}

#[test]
fn direct_timer_when_the_vp_has_switched_its_synic_off_interrupts_all_the_same() {
    let (vm, guest) = up();
    guest.set_scontrol(false);
    start(&guest, 0, StimerConfig::direct(0xED), 500);
    vm.host.take_calls();
    due_at(&vm, 500);
    assert_eq!(vm.host.take_calls(), [HostCall::AssertVector(VP, 0xED)]);
}

#[test]
fn direct_timer_when_the_host_fails_or_the_vector_is_none_is_counted() {
    let (vm, guest) = up();
    vm.host.set_failing(true);
    start(&guest, 0, StimerConfig::direct(0xED), 500);
    start(&guest, 1, StimerConfig::direct(15), 500);
    vm.host.take_calls();
    due_at(&vm, 500);
    assert_eq!(vm.host.take_calls(), [HostCall::AssertVector(VP, 0xED)]);
    assert_eq!(timer(&vm, 0).counters.failed, 1);
    assert_eq!(timer(&vm, 1).counters.failed, 1);
}

#[test]
fn periodic_timer_expires_at_each_multiple() {
    let (vm, guest) = up();
    start(&guest, 0, to_sint().with_periodic(true), PERIOD);
    for round in 1..=3 {
        let deadline = round * PERIOD;
        assert_eq!(vm.host.take_deadlines(), [(VP, Some(deadline))]);
        due_at(&vm, deadline + 3);
        let message = expired(0, deadline, deadline + 3);
        assert_eq!(guest.take_message(SINT), Some(message));
    }
    assert!(config(&guest, 0).enable());
}

#[test]
fn periodic_timer_that_is_late_skips_what_it_missed() {
    let (vm, guest) = up();
    start(&guest, 0, to_sint().with_periodic(true), PERIOD);
    due_at(&vm, 5 * PERIOD + 1);
    assert_eq!(guest.take_messages(SINT).len(), 1);
    assert_eq!(timer(&vm, 0).expiration, Some(6 * PERIOD));
    assert_eq!(timer(&vm, 0).counters.skipped, 4);
}

#[test]
fn periodic_timer_with_a_tiny_period_expires_every_200_us() {
    let (vm, guest) = up();
    start(&guest, 0, to_sint().with_periodic(true), 1);
    for now in (0..20_000).step_by(10) {
        due_at(&vm, now);
        guest.take_message(SINT);
    }
    assert_eq!(timer(&vm, 0).counters.messages, 9);
    assert_eq!(guest.get(count_of(0)), 1);
}

#[test]
fn any_count_leaves_the_timer_whole() {
    let (vm, guest) = up();
    let modes = [to_sint(), to_sint().with_periodic(true)];
    for mode in modes {
        for count in [1, 1 << 63, u64::MAX] {
            start(&guest, 0, mode, count);
            due_at(&vm, 1 << 40);
            guest.take_message(SINT);
        }
    }
    due_at(&vm, u64::MAX);
    start(&guest, 0, to_sint().with_periodic(true), u64::MAX);
    assert_eq!(timer(&vm, 0).expiration, Some(u64::MAX));
}

#[test]
fn message_waits_while_the_slot_is_taken_and_goes_first_at_the_eom() {
    let (vm, guest) = up();
    for body in 1..=3 {
        post(&vm, body);
    }
    start(&guest, 0, to_sint().with_periodic(true), PERIOD);
    due_at(&vm, PERIOD);
    vm.host.take_calls();
    assert!(guest.is_message_pending(SINT));
    due_at(&vm, 3 * PERIOD);
    assert_eq!(timer(&vm, 0).expiration, Some(PERIOD), "it stands still");

    vm.host.set_time(3 * PERIOD + 5);
    assert_eq!(guest.take_message(SINT), Some(message(1)));
    let late = expired(0, PERIOD, 3 * PERIOD + 5);
    assert_eq!(vm.host.take_deadlines(), [(VP, Some(4 * PERIOD))]);
    assert_eq!(guest.take_message(SINT), Some(late));
    assert_eq!(guest.take_messages(SINT), [message(2), message(3)]);
    assert_eq!(timer(&vm, 0).counters.skipped, 2);
}

#[test]
fn message_when_the_queue_is_full_takes_no_place_and_is_not_refused() {
    let (vm, guest) = up();
    assert_eq!(post(&vm, 1), Some(Posted::Delivered));
    (2..=1 + u8::try_from(DEPTH).unwrap()).for_each(|body| assert!(post(&vm, body).is_some()));
    assert_eq!(post(&vm, 9), None, "full");
    for index in 0..4 {
        expire(&vm, &guest, index, to_sint());
    }
    assert_eq!(counters(&vm).waiting, u64::from(DEPTH) + 4);
    assert_eq!(post(&vm, 9), None, "as full as before");

    vm.host.set_time(15);
    assert_eq!(guest.take_message(SINT), Some(message(1)));
    let firsts = (0..4).map(|_| guest.take_message(SINT));
    let timers = (0..4).map(|index| Some(expired(index, 1, 15)));
    assert!(firsts.eq(timers));
    assert_eq!(guest.take_messages(SINT).len(), usize::from(DEPTH));
}

#[test]
fn message_that_waits_does_not_lose_the_slot_to_a_poster_for_good() {
    let (vm, guest) = up();
    post(&vm, 1);
    expire(&vm, &guest, 0, to_sint());
    guest.clear_slot(SINT);
    post(&vm, 2);
    assert!(
        guest.is_message_pending(SINT),
        "the guest is asked for an EOM"
    );
    assert_eq!(guest.take_message(SINT), Some(message(2)));
    assert_eq!(guest.take_message(SINT), Some(expired(0, 1, 10)));
}

#[test]
fn config_write_stops_the_timer_and_takes_its_message_back() {
    let (vm, guest) = up();
    post(&vm, 1);
    expire(&vm, &guest, 0, to_sint());
    assert!(timer(&vm, 0).is_undelivered);
    guest.set(config_of(0), 0).unwrap();
    assert_eq!(guest.take_messages(SINT), [message(1)]);
    assert_eq!(counters(&vm).dropped.withdrawn, 1);
    assert_eq!(timer(&vm, 0).counters.withdrawn, 1);
}

#[test]
fn config_write_with_sint0_disables_the_timer() {
    let (vm, guest) = up();
    start(&guest, 0, to_sint(), 500);
    let to_none = StimerConfig::to_sint(SintIndex::INTERCEPT);
    guest.set(config_of(0), to_none.into()).unwrap();
    assert_eq!(config(&guest, 0), to_none.with_enable(false));
    vm.host.take_calls();
    due_at(&vm, 500);
    assert_eq!(vm.host.take_calls(), []);
}

#[test]
fn count_write_of_0_disables_and_of_another_value_enables_if_asked_to() {
    let (vm, guest) = up();
    let auto = to_sint().with_enable(false).with_auto_enable(true);
    guest.set(config_of(0), auto.into()).unwrap();
    guest.set(count_of(0), 500).unwrap();
    assert_eq!(config(&guest, 0), auto.with_enable(true));
    assert_eq!(vm.host.take_deadlines(), [(VP, Some(500))]);
    guest.set(count_of(0), 0).unwrap();
    assert_eq!(config(&guest, 0), auto);
    assert_eq!(vm.host.take_deadlines(), [(VP, None)]);
    let manual = to_sint().with_enable(false);
    guest.set(config_of(0), manual.into()).unwrap();
    guest.set(count_of(0), 500).unwrap();
    assert_eq!(config(&guest, 0), manual);
}

#[test]
fn reserved_bits_and_lazy_are_read_back() {
    let (_vm, guest) = up();
    let all = StimerConfig::from(u64::MAX).with_enable(false);
    guest.set(config_of(3), all.into()).unwrap();
    assert_eq!(config(&guest, 3), all);
}

#[test]
fn message_when_the_sint_is_masked_waits_until_it_is_not() {
    let (vm, guest) = up();
    guest.mask(SINT);
    expire(&vm, &guest, 0, to_sint());
    assert_eq!(guest.peek_message(SINT), None);
    vm.host.set_time(20);
    guest.unmask(SINT, 0xF3);
    assert_eq!(guest.take_message(SINT), Some(expired(0, 1, 20)));
    assert_eq!(vm.host.take_raised(VP), SINT.bit());
}

#[test]
fn message_when_the_sint_is_masked_and_written_anyway_raises_nothing() {
    let (vm, guest) = up_with(Config {
        when_masked: WhenMasked::Write,
        ..timers::config_with_timers()
    });
    guest.mask(SINT);
    expire(&vm, &guest, 0, to_sint());
    assert_eq!(guest.take_message(SINT), Some(expired(0, 1, 10)));
    assert_eq!(vm.host.take_raised(VP), 0);
}

#[test]
fn message_when_scontrol_or_the_page_is_off_waits_until_it_is_on() {
    let (vm, guest) = up();
    guest.set_scontrol(false);
    expire(&vm, &guest, 0, to_sint());
    guest.set_scontrol(true);
    assert_eq!(guest.take_message(SINT), Some(expired(0, 1, 10)));

    let page = guest.get(Register::Simp);
    guest.set(Register::Simp, page & !1).unwrap();
    expire(&vm, &guest, 0, to_sint());
    guest.set(Register::Simp, page).unwrap();
    assert_eq!(guest.take_message(SINT), Some(expired(0, 1, 10)));
    assert!(vm.manager.snapshot().vps[0].plain.balances());
}

#[test]
fn registers_where_there_are_no_timers_are_not_ours() {
    let vm = MockVm::new(Config::new(1), 1);
    let guest = vm.guest(VP);
    for msr in 0x4000_00B0..=0x4000_00B7 {
        assert_eq!(guest.rdmsr(msr), Err(MsrError::NotMine(msr)));
        assert_eq!(guest.wrmsr(msr, 1), Err(MsrError::NotMine(msr)));
    }
    let id = RegisterId::plain(count_of(0));
    assert_eq!(vm.manager.read_register(VP, id), Err(MsrError::Fault));
}

#[test]
fn registers_of_the_nested_bank_include_no_timers() {
    let (vm, _guest) = up_with(Config {
        nested: true,
        ..timers::config_with_timers()
    });
    let (bank, register) = (Bank::Nested, count_of(0));
    let id = RegisterId { bank, register };
    assert_eq!(vm.manager.write_register(VP, id, 1), Err(MsrError::Fault));
}

#[test]
fn registers_by_name_are_those_of_the_msrs() {
    let (vm, guest) = up();
    let id = RegisterId::from_name(0x000B_0005).unwrap();
    vm.manager.write_register(VP, id, 77).unwrap();
    assert_eq!(guest.rdmsr(0x4000_00B5), Ok(77));
}

#[test]
fn message_of_the_vmms_own_with_a_timers_type_is_no_timers() {
    let (vm, guest) = up();
    post(&vm, 1);
    let own = Message::new(MessageType::TIMER_EXPIRED, &[0; 24]).unwrap();
    let addr = SintAddr::new(VP, SINT);
    vm.manager.post_message(addr, &own).unwrap();
    expire(&vm, &guest, 0, to_sint());
    let taken = guest.take_messages(SINT);
    assert_eq!(taken, [message(1), expired(0, 1, 10), own]);
}
