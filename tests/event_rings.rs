// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! Event rings: every port that is rung is read, in order, whatever is off or full meanwhile.

use std::sync::Arc;
use vm_memory::GuestMemoryMmap;
use vm_synic::abi::Register;
use vm_synic::ownership::Owner::{Mshv, VmBus};
use vm_synic::ownership::SynicPage::{EventRing, Message as MessagePage};
use vm_synic::test_utils::{MockGuest, MockVm};
use vm_synic::{
    Config, DoorbellTarget, Message, MessageType, PortId, RingCounters, Role, SintIndex, VpIndex,
};

const VP: VpIndex = VpIndex::new(0);
const SINT0: SintIndex = SintIndex::INTERCEPT;
const SINT5: SintIndex = SintIndex::DOORBELL;

type Guest = MockGuest<Arc<GuestMemoryMmap<()>>>;

fn l1vh_config() -> Config {
    Config {
        role: Role::L1vh,
        ..Config::new(3)
    }
}

/// An L1VH's VP with both of Linux's drivers up.
fn l1vh() -> (MockVm, Guest) {
    let vm = MockVm::new(l1vh_config(), 1);
    let guest = load(&vm, VP);
    vm.host.take_calls();
    (vm, guest)
}

fn load(vm: &MockVm, vp: VpIndex) -> Guest {
    let mut guest = vm.guest(vp);
    guest.load(VmBus).unwrap();
    guest.load(Mshv).unwrap();
    guest
}

fn ring(vm: &MockVm, port: u32) {
    let (target, port) = (DoorbellTarget::Vp(VP), PortId::new(port).unwrap());
    vm.manager.ring_doorbell(target, SINT5, port).unwrap();
}

fn ring_all(vm: &MockVm, ports: impl IntoIterator<Item = u32>) {
    ports.into_iter().for_each(|port| ring(vm, port));
}

fn counters(vm: &MockVm) -> RingCounters {
    let counters = vm.manager.snapshot().vps[0].plain.counters(SINT5).ring;
    assert!(counters.balances(), "{counters:?}");
    counters
}

/// What Linux's handler does on an interrupt: takes the notice and drains the ring.
fn interrupt_handler(guest: &mut Guest) -> Vec<u32> {
    assert_eq!(guest.take_message(SINT0), Some(notice()));
    guest.drain_ring(SINT5)
}

fn notice() -> Message {
    Message::new(MessageType::new(0x8000_0061).unwrap(), &[5, 0, 0, 0]).unwrap()
}

#[test]
fn notice_comes_once_until_the_ring_is_drained() {
    let (vm, mut guest) = l1vh();
    ring_all(&vm, 1..=3);
    assert_eq!(vm.host.take_interrupts().len(), 1);
    assert_eq!(interrupt_handler(&mut guest), [1, 2, 3]);
    ring_all(&vm, [4]);
    assert_eq!(vm.host.take_interrupts().len(), 1);
    assert_eq!(interrupt_handler(&mut guest), [4]);
    assert_eq!(counters(&vm).notices, 2);
}

#[test]
fn same_port_rung_twice_has_two_entries() {
    let (vm, mut guest) = l1vh();
    ring_all(&vm, [7, 7]);
    assert_eq!(interrupt_handler(&mut guest), [7, 7]);
}

#[test]
fn ring_without_as_intercept_interrupts_by_its_own_sint() {
    let (vm, mut guest) = l1vh();
    guest.unmask(SINT5, 0x45);
    vm.host.take_calls();
    ring(&vm, 1);
    let interrupts = vm.host.take_interrupts();
    assert_eq!(
        (interrupts[0].addr.sint, interrupts[0].vector),
        (SINT5, 0x45)
    );
    assert_eq!(guest.take_message(SINT0), None);
    assert_eq!(guest.drain_ring(SINT5), [1]);
}

#[test]
fn each_sint_has_a_ring_of_its_own() {
    let (vm, mut guest) = l1vh();
    let sints = [
        SintIndex::new(6).unwrap(),
        SintIndex::new(15).unwrap(),
        SINT5,
    ];
    for (sint, port) in sints.into_iter().zip([6, 15, 5]) {
        guest.unmask(sint, 0x45);
        let (target, port) = (DoorbellTarget::Vp(VP), PortId::new(port).unwrap());
        vm.manager.ring_doorbell(target, sint, port).unwrap();
    }
    for (sint, port) in sints.into_iter().zip([6, 15, 5]) {
        assert_eq!(guest.drain_ring(sint), [port], "{sint}");
    }
}

#[test]
fn ring_holds_63_entries_and_what_overflows_follows_in_order() {
    for count in [63, 64, 126, 127, 200] {
        let (vm, mut guest) = l1vh();
        ring_all(&vm, 1..=count);
        let held = u64::from(count - 63);
        assert_eq!(counters(&vm).waiting, held);

        assert_eq!(
            interrupt_handler(&mut guest),
            (1..=count).collect::<Vec<_>>()
        );

        let counters = counters(&vm);
        assert_eq!((counters.held, counters.notices), (held, 1), "{count}");
        let refills = u64::from((count - 1) / 63);
        assert_eq!(counters.ring_empty, refills, "{count}");
    }
}

#[test]
fn port_that_waits_for_room_is_not_entered_twice() {
    let (vm, mut guest) = l1vh();
    ring_all(&vm, 1..=63);
    ring_all(&vm, [100, 101, 100, 101, 100]);
    assert_eq!(counters(&vm).coalesced, 3);
    let mut expected = (1..=63).collect::<Vec<_>>();
    expected.extend([100, 101]);
    assert_eq!(interrupt_handler(&mut guest), expected);
}

#[test]
fn ring_that_is_drained_at_every_pace_stays_in_order_across_its_end() {
    for pace in [1, 2, 31, 62, 63] {
        let (vm, mut guest) = l1vh();
        let mut seen = Vec::new();
        for chunk in (1..=300).collect::<Vec<u32>>().chunks(pace) {
            ring_all(&vm, chunk.iter().copied());
            seen.extend(guest.drain_ring(SINT5));
        }
        assert_eq!(seen, (1..=300).collect::<Vec<_>>(), "{pace}");
    }
}

/// Switches off what stands between a doorbell and its guest, and on again.
type Switch = (&'static str, fn(&mut Guest), fn(&mut Guest));

const SWITCHES: [Switch; 4] = [
    (
        "SIRBP",
        |guest| guest.disable(EventRing),
        |guest| {
            let sirbp = guest.get(Register::Sirbp);
            guest.set(Register::Sirbp, sirbp | 1).unwrap();
        },
    ),
    (
        "SINT5",
        |guest| guest.mask(SINT5),
        |guest| {
            guest.set(Register::Sint(SINT5), 0x800F3).unwrap();
        },
    ),
    (
        "SINT0",
        |guest| guest.mask(SINT0),
        |guest| guest.unmask(SINT0, 0xF3),
    ),
    (
        "SIMP",
        |guest| guest.disable(MessagePage),
        |guest| {
            let simp = guest.get(Register::Simp);
            guest.set(Register::Simp, simp | 1).unwrap();
        },
    ),
];

#[test]
fn doorbell_rung_while_something_is_off_comes_when_it_is_on() {
    for (name, off, on) in SWITCHES {
        let (vm, mut guest) = l1vh();
        off(&mut guest);
        ring_all(&vm, 1..=100);
        assert_eq!(vm.host.take_interrupts(), [], "{name}");

        on(&mut guest);

        assert_eq!(vm.host.take_interrupts().len(), 1, "{name}");
        let seen = interrupt_handler(&mut guest);
        assert_eq!(seen, (1..=100).collect::<Vec<_>>(), "{name}");
        counters(&vm);
    }
}

#[test]
fn doorbells_undrained_when_something_goes_off_come_when_it_is_on() {
    for (name, off, on) in SWITCHES {
        let (vm, mut guest) = l1vh();
        ring_all(&vm, 1..=70);
        off(&mut guest);
        ring_all(&vm, 71..=80);
        on(&mut guest);
        guest.take_messages(SINT0);
        let seen = guest.drain_ring(SINT5);
        assert_eq!(seen, (1..=80).collect::<Vec<_>>(), "{name}");
        counters(&vm);
    }
}

#[test]
fn root_that_switches_scontrol_off_and_on_gets_its_doorbells() {
    let config = Config {
        role: Role::Root,
        ..Config::new(1)
    };
    let vm = MockVm::new(config, 1);
    let mut guest = vm.guest(VP);
    guest.enable_all();
    guest.unmask(SINT5, 0xF3);
    ring_all(&vm, 1..=10);
    guest.set_scontrol(false);
    ring_all(&vm, 11..=20);
    vm.host.take_calls();
    guest.set_scontrol(true);
    assert_eq!(vm.host.take_interrupts().len(), 1);
    assert_eq!(guest.drain_ring(SINT5), (1..=20).collect::<Vec<_>>());
}

#[test]
fn reload_of_mshv_keeps_the_order_and_loses_nothing_though_the_tail_lives_on() {
    let (vm, mut guest) = l1vh();
    let mut seen = Vec::new();
    for round in 0..5 {
        let first = round * 100 + 1;
        ring_all(&vm, first..first + 70);
        seen.extend((0..17).filter_map(|_| guest.next_port(SINT5)));
        guest.unload(Mshv).unwrap();
        ring_all(&vm, first + 70..first + 100);
        guest.load(Mshv).unwrap();
        guest.take_messages(SINT0);
        seen.extend(guest.drain_ring(SINT5));
    }
    assert_eq!(seen, (1..=500).collect::<Vec<_>>());
    guest.check_freed_pages();
}

#[test]
fn page_that_moves_with_a_port_in_the_ring_and_waiting_accounts_for_both() {
    let (vm, mut guest) = l1vh();
    ring_all(&vm, 1..=63);
    ring_all(&vm, [1]);
    guest.disable(EventRing);
    counters(&vm);
    guest.set(Register::Sirbp, 0x3001).unwrap();
    guest.take_messages(SINT0);
    let mut seen = guest.drain_ring(SINT5);
    seen.sort_unstable();
    assert_eq!(seen, (1..=63).collect::<Vec<_>>(), "each at least once");
    counters(&vm);
}

#[test]
fn guest_that_forges_entries_costs_no_memory() {
    let (vm, guest) = l1vh();
    ring(&vm, 1);
    guest.set(Register::Sint(SINT5), 0x1_0000).unwrap();
    for round in 0..50u32 {
        let forged = (0..63).flat_map(|i| (round * 63 + i + 100).to_le_bytes());
        let entries = guest.area(EventRing, SINT5) + 4;
        guest.write_ram(entries, &forged.collect::<Vec<_>>());
        guest.disable(EventRing);
        guest.set(Register::Sirbp, 0x3001).unwrap();
    }
    assert!(counters(&vm).waiting <= 63, "{:?}", counters(&vm));
}

#[test]
fn ring_after_the_kernel_has_handed_over_starts_at_entry_0() {
    let (vm, mut guest) = l1vh();
    guest.wrmsr(0x4000_0000, 0x8100_0007_020D_0000).unwrap();
    ring_all(&vm, 1..=10);
    interrupt_handler(&mut guest);
    ring_all(&vm, 11..=20);
    guest.unload(Mshv).unwrap();
    guest.unload(VmBus).unwrap();
    guest.wrmsr(0x4000_0000, 0).unwrap();
    guest.forget_tails();

    guest.load(VmBus).unwrap();
    guest.load(Mshv).unwrap();
    ring_all(&vm, 30..=32);

    assert_eq!(interrupt_handler(&mut guest), [30, 31, 32]);
}

#[test]
fn page_that_comes_on_while_the_sint_is_masked_holds_what_waited() {
    let vm = MockVm::new(l1vh_config(), 1);
    let mut guest = vm.guest(VP);
    guest.load(VmBus).unwrap();
    ring(&vm, 4);

    guest.set(Register::Sirbp, 0x3001).unwrap();

    assert_eq!(guest.get(Register::Sint(SINT5)), 0x1_0000, "masked");
    assert_eq!(guest.drain_ring(SINT5), [4]);
    counters(&vm);
}
