// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! Event flags for the guest.

use super::{Guest, Machine, Named, named};
use crate::abi::{EventFlag, Register, SintAddr, SintIndex, VpIndex};
use crate::error::{NotReady, SignalError};

pub(super) fn cases<M: Machine>() -> Vec<Named<M>> {
    named![
        signal_of_a_clear_flag_sets_it_with_one_interrupt,
        signal_of_a_set_flag_raises_nothing,
        signal_of_the_first_and_last_flag_sets_no_other,
        signal_of_one_sint_sets_no_flag_of_another,
        signal_when_a_message_waits_does_not_wait,
        signal_when_scontrol_is_off_is_refused,
        signal_when_the_page_is_off_is_refused,
        signal_when_the_sint_is_masked_is_refused,
        signal_for_a_vp_that_is_not_there_is_the_callers_error,
    ]
}

fn signal<M: Machine>(machine: &mut M, addr: SintAddr, flag: u16) -> Result<bool, SignalError> {
    let flag = EventFlag::new(flag).expect("below 2048");
    let signalled = machine.manager().signal_event(addr, flag);
    machine.settle();
    signalled
}

fn refused(addr: SintAddr, cause: NotReady) -> Result<bool, SignalError> {
    Err(SignalError::NotReady { addr, cause })
}

fn signal_of_a_clear_flag_sets_it_with_one_interrupt<M: Machine>(machine: &mut M) {
    let guest = Guest::start(machine, 0);
    assert_eq!(signal(machine, guest.addr(), 42), Ok(true));
    assert_eq!(machine.take_interrupts(guest.vp), [Guest::VECTOR]);
    assert_eq!(guest.take_flags(machine, SintIndex::VMBUS), [42]);
}

fn signal_of_a_set_flag_raises_nothing<M: Machine>(machine: &mut M) {
    let guest = Guest::start(machine, 0);
    assert_eq!(signal(machine, guest.addr(), 42), Ok(true));
    assert_eq!(signal(machine, guest.addr(), 42), Ok(false));
    assert_eq!(machine.take_interrupts(guest.vp), [Guest::VECTOR]);
    assert_eq!(guest.take_flags(machine, SintIndex::VMBUS), [42]);
    assert_eq!(signal(machine, guest.addr(), 42), Ok(true));
}

fn signal_of_the_first_and_last_flag_sets_no_other<M: Machine>(machine: &mut M) {
    let guest = Guest::start(machine, 0);
    for flag in [0, 63, 64, 2047] {
        assert_eq!(signal(machine, guest.addr(), flag), Ok(true));
    }
    let flags = guest.take_flags(machine, SintIndex::VMBUS);
    assert_eq!(flags, [0, 63, 64, 2047]);
    for sint in SintIndex::all() {
        assert_eq!(guest.take_flags(machine, sint), [0; 0], "{sint}");
    }
}

fn signal_of_one_sint_sets_no_flag_of_another<M: Machine>(machine: &mut M) {
    let guest = Guest::start(machine, 0);
    let other = SintAddr::new(guest.vp, Guest::OTHER);
    assert_eq!(signal(machine, guest.addr(), 1), Ok(true));
    assert_eq!(signal(machine, other, 1), Ok(true));
    let vectors = machine.take_interrupts(guest.vp);
    assert_eq!(vectors, [Guest::VECTOR, Guest::OTHER_VECTOR]);
    assert_eq!(guest.take_flags(machine, Guest::OTHER), [1]);
    assert_eq!(guest.take_flags(machine, SintIndex::VMBUS), [1]);
}

fn signal_when_a_message_waits_does_not_wait<M: Machine>(machine: &mut M) {
    let guest = Guest::start(machine, 0);
    for body in [1, 2] {
        let message = super::guest::message(body);
        let posted = machine.manager().post_message(guest.addr(), &message);
        assert!(posted.is_ok(), "{posted:?}");
        machine.settle();
    }
    assert_eq!(signal(machine, guest.addr(), 5), Ok(true));
    assert_eq!(guest.take_flags(machine, SintIndex::VMBUS), [5]);
    assert_eq!(guest.take_all(machine), [1, 2]);
}

fn signal_when_scontrol_is_off_is_refused<M: Machine>(machine: &mut M) {
    let guest = Guest::start(machine, 0);
    guest.set(machine, Register::Scontrol, 0);
    let expected = refused(guest.addr(), NotReady::ScontrolOff);
    assert_eq!(signal(machine, guest.addr(), 1), expected);
    assert_eq!(guest.take_flags(machine, SintIndex::VMBUS), [0; 0]);
}

fn signal_when_the_page_is_off_is_refused<M: Machine>(machine: &mut M) {
    let guest = Guest::start(machine, 0);
    guest.set(machine, Register::Siefp, 0);
    let expected = refused(guest.addr(), NotReady::PageOff);
    assert_eq!(signal(machine, guest.addr(), 1), expected);
    assert_eq!(guest.take_flags(machine, SintIndex::VMBUS), [0; 0]);
}

fn signal_when_the_sint_is_masked_is_refused<M: Machine>(machine: &mut M) {
    let guest = Guest::start(machine, 0);
    guest.mask(machine);
    let expected = refused(guest.addr(), NotReady::Masked);
    assert_eq!(signal(machine, guest.addr(), 1), expected);
    assert_eq!(machine.take_interrupts(guest.vp), [0; 0]);
}

fn signal_for_a_vp_that_is_not_there_is_the_callers_error<M: Machine>(machine: &mut M) {
    for vp in [2, u32::MAX] {
        let addr = SintAddr::new(VpIndex::new(vp), SintIndex::VMBUS);
        assert_eq!(signal(machine, addr, 1), Err(SignalError::NoVp(addr)));
    }
}
