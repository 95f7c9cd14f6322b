// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! Event flags: 2048 for each SINT, an interrupt when one goes from 0 to 1, and no bit elsewhere.

use std::sync::Arc;
use vm_memory::GuestMemoryMmap;
use vm_synic::abi::{Register, Sint};
use vm_synic::ownership::SynicPage::EventFlags;
use vm_synic::test_utils::{MockGuest, MockVm};
use vm_synic::{
    Bank, Config, EventCounters, EventFlag, NotReady, SignalError, SintAddr, SintIndex,
    SintInterrupt, VpIndex,
};

const VP: VpIndex = VpIndex::new(0);
const SINT: SintIndex = SintIndex::VMBUS;
const ADDR: SintAddr = SintAddr::new(VP, SINT);
const PAGE: usize = 4096;

type Memory = Arc<GuestMemoryMmap<()>>;

fn up() -> (MockVm, MockGuest<Memory>) {
    let config = Config {
        nested: true,
        ..Config::new(1)
    };
    let vm = MockVm::new(config, 1);
    let mut guest = vm.guest(VP);
    guest.enable_all();
    guest.unmask(SINT, 0xF3);
    vm.host.take_calls();
    (vm, guest)
}

fn signal(vm: &MockVm, flag: u16) -> Result<bool, SignalError> {
    vm.manager.signal_event(ADDR, EventFlag::new(flag).unwrap())
}

fn counters(vm: &MockVm) -> EventCounters {
    vm.manager.snapshot().vps[0].plain.counters(SINT).events
}

#[test]
fn each_of_the_2048_flags_is_its_own_bit_lsb_first() {
    let (vm, guest) = up();
    let area = guest.area(EventFlags, SINT);
    for flag in 0..2048u16 {
        assert_eq!(signal(&vm, flag), Ok(true), "{flag}");
        let byte = guest.read_ram(area + u64::from(flag / 8), 1)[0];
        assert_eq!(byte, 1 << (flag % 8), "{flag}");
        assert_eq!(guest.take_flags(SINT), [flag]);
    }
}

#[test]
fn flags_of_one_sint_are_in_its_area_and_nowhere_else() {
    let (vm, guest) = up();
    for sint in SintIndex::all() {
        guest.unmask(sint, 0xF3);
        for flag in (0..2048).filter_map(EventFlag::new) {
            let signalled = vm.manager.signal_event(SintAddr::new(VP, sint), flag);
            assert_eq!(signalled, Ok(true));
        }
        let page = guest.read_ram(guest.page(EventFlags), PAGE);
        let set = page.iter().map(|byte| byte.count_ones()).sum::<u32>();
        assert_eq!(set, 2048);
        assert_eq!(guest.take_flags(sint).len(), 2048, "{sint}");
    }
}

#[test]
fn flag_number_2048_is_no_flag() {
    assert_eq!(EventFlag::new(2047).map(EventFlag::get), Some(2047));
    assert_eq!(EventFlag::new(2048), None);
}

#[test]
fn signal_that_sets_a_flag_interrupts_once_with_the_vector_of_the_sint() {
    let (vm, guest) = up();
    let sint = Sint::new().with_vector(0x41).with_auto_eoi(true);
    guest.set_sint(SINT, sint);
    vm.host.take_calls();
    assert_eq!(signal(&vm, 3), Ok(true));
    let interrupt = SintInterrupt {
        addr: ADDR,
        vector: 0x41,
        auto_eoi: true,
    };
    assert_eq!(vm.host.take_interrupts(), [interrupt]);
}

#[test]
fn signals_of_a_set_flag_coalesce_until_the_guest_clears_it() {
    let (vm, guest) = up();
    let signalled = [(); 3].map(|()| signal(&vm, 3));
    assert_eq!(signalled, [Ok(true), Ok(false), Ok(false)]);
    assert_eq!(vm.host.take_interrupts().len(), 1);

    assert_eq!(guest.take_flags(SINT), [3]);
    assert_eq!(signal(&vm, 3), Ok(true));
    assert_eq!(vm.host.take_interrupts().len(), 1);
    let counters = counters(&vm);
    assert_eq!((counters.fresh, counters.coalesced), (2, 2));
}

#[test]
fn flag_beside_a_set_one_is_fresh() {
    let (vm, guest) = up();
    let flags = [0, 1, 7, 8, 63, 64, 2046, 2047];
    for flag in flags {
        assert_eq!(signal(&vm, flag), Ok(true), "{flag}");
    }
    assert_eq!(vm.host.take_interrupts().len(), flags.len());
    assert_eq!(guest.take_flags(SINT), flags);
}

#[test]
fn guest_that_clears_some_flags_keeps_the_others() {
    let (vm, guest) = up();
    signal(&vm, 0).unwrap();
    signal(&vm, 9).unwrap();
    guest.write_ram(guest.area(EventFlags, SINT), &[0]);
    assert_eq!(signal(&vm, 0), Ok(true));
    assert_eq!(signal(&vm, 9), Ok(false));
}

#[test]
fn signal_of_a_polling_sint_sets_the_flag_without_an_interrupt() {
    let (vm, guest) = up();
    let polling = Sint::new().with_vector(0xF3).with_polling(true);
    guest.set_sint(SINT, polling);
    assert_eq!(signal(&vm, 3), Ok(true));
    assert_eq!(guest.take_flags(SINT), [3]);
    assert_eq!(vm.host.take_interrupts(), []);
}

#[test]
fn signal_to_a_sint_that_is_not_ready_is_refused_by_name_and_sets_nothing() {
    type Act = fn(&MockGuest<Memory>);
    let proxied = |guest: &MockGuest<Memory>| {
        guest.set_sint(SINT, Sint::new().with_vector(0xF3).with_proxy(true));
    };
    let acts: [(NotReady, Act); 4] = [
        (NotReady::ScontrolOff, |guest| guest.set_scontrol(false)),
        (NotReady::PageOff, |guest| guest.disable(EventFlags)),
        (NotReady::Masked, |guest| guest.mask(SINT)),
        (NotReady::Proxied, proxied),
    ];
    for (cause, act) in acts {
        let (vm, guest) = up();
        act(&guest);
        vm.host.take_calls();
        let refused = Err(SignalError::NotReady { addr: ADDR, cause });
        assert_eq!(signal(&vm, 3), refused);
        assert_eq!(guest.take_flags(SINT), [0u16; 0], "{cause}");
        assert_eq!(vm.host.take_calls(), [], "{cause}");
        assert_eq!(counters(&vm).refused, 1, "{cause}");
    }
}

#[test]
fn event_that_was_refused_does_not_come_later() {
    let (vm, guest) = up();
    guest.mask(SINT);
    assert!(signal(&vm, 3).is_err());
    guest.unmask(SINT, 0xF3);
    guest.end_of_message();
    assert_eq!(guest.take_flags(SINT), [0u16; 0]);
    assert_eq!(vm.host.take_interrupts(), []);
}

#[test]
fn signal_to_a_vp_or_bank_that_is_not_there_is_the_vmms_fault() {
    let vm = MockVm::new(Config::new(2), 1);
    for addr in [ADDR.nested(), SintAddr::new(VpIndex::new(1), SINT)] {
        let signalled = vm.manager.signal_event(addr, EventFlag::new(0).unwrap());
        assert_eq!(signalled, Err(SignalError::NoVp(addr)));
    }
}

#[test]
fn signal_to_the_nested_bank_sets_the_flag_there() {
    let (vm, plain) = up();
    let nested = vm.guest(VP).in_bank(Bank::Nested);
    // Not the pages that the plain bank's kernel has taken from the heap.
    nested.set(Register::Siefp, 0x3001).unwrap();
    nested.set_scontrol(true);
    nested.unmask(SINT, 0x70);
    vm.host.take_calls();
    let flag = EventFlag::new(3).unwrap();
    assert_eq!(vm.manager.signal_event(ADDR.nested(), flag), Ok(true));
    assert_eq!(vm.host.take_interrupts()[0].vector, 0x70);
    assert_eq!(plain.take_flags(SINT), [0u16; 0]);
    assert_eq!(nested.take_flags(SINT), [3]);
}

#[test]
fn interrupt_that_the_host_cannot_raise_is_counted_and_the_flag_stays() {
    let (vm, guest) = up();
    vm.host.set_failing(true);
    assert_eq!(signal(&vm, 3), Ok(true));
    let interrupts = vm.manager.snapshot().vps[0].plain.counters(SINT).interrupts;
    assert_eq!((interrupts.raised, interrupts.failed), (1, 1));
    assert_eq!(guest.take_flags(SINT), [3]);
}
