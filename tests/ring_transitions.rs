// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! What waits while a paravisor has a SINT or the manager is paused, and registers that change
//! meanwhile.

use std::sync::Arc;
use vm_memory::GuestMemoryMmap;
use vm_synic::abi::Register;
use vm_synic::test_utils::{HostCall, MockGuest, MockVm};
use vm_synic::{
    Config, DoorbellTarget, Message, MessageType, MessageWriter, PortId, Posted, RingCounters,
    SintAddr, SintIndex, VpIndex,
};

const VP: VpIndex = VpIndex::new(0);
const SINT0: SintIndex = SintIndex::INTERCEPT;
const SINT2: SintIndex = SintIndex::VMBUS;
const SINT5: SintIndex = SintIndex::DOORBELL;
const UNMASKED: u64 = 0xF3;
const MASKED: u64 = 0x1_00F3;
const PROXIED: u64 = 0x10_00F3;
const MASKED_AND_PROXIED: u64 = 0x11_00F3;
const AS_INTERCEPT: u64 = 0x8_00F3;

type Guest = MockGuest<Arc<GuestMemoryMmap<()>>>;

/// A VP with everything on.
fn up() -> (MockVm, Guest) {
    let vm = MockVm::new(Config::new(1), 1);
    let mut guest = vm.guest(VP);
    guest.enable_all();
    guest.unmask(SINT2, 0xF2);
    guest.unmask(SINT5, 0xF3);
    vm.host.take_calls();
    (vm, guest)
}

fn ring(vm: &MockVm, port: u32) {
    let (target, port) = (DoorbellTarget::Vp(VP), PortId::new(port).unwrap());
    vm.manager.ring_doorbell(target, SINT5, port).unwrap();
}

fn run(vm: &MockVm) {
    vm.manager.resume();
    vm.manager.pre_run(VP);
}

fn counters(vm: &MockVm) -> RingCounters {
    let counters = vm.manager.snapshot().vps[0].plain.counters(SINT5).ring;
    assert!(counters.balances(), "{counters:?}");
    counters
}

#[test]
fn doorbell_rung_while_a_paravisor_has_the_sint_comes_when_it_gives_it_back() {
    let (vm, mut guest) = up();
    guest.set(Register::Sint(SINT5), PROXIED).unwrap();
    ring(&vm, 4);
    assert_eq!(vm.host.take_raised(VP), 0);

    guest.set(Register::Sint(SINT5), UNMASKED).unwrap();

    assert_eq!(vm.host.take_raised(VP), SINT5.bit());
    assert_eq!(guest.drain_ring(SINT5), [4]);
    counters(&vm);
}

#[test]
fn doorbell_rung_while_a_paravisor_has_the_masked_sint_is_in_the_ring_when_only_masked() {
    let (vm, mut guest) = up();
    guest
        .set(Register::Sint(SINT5), MASKED_AND_PROXIED)
        .unwrap();
    ring(&vm, 4);

    guest.set(Register::Sint(SINT5), MASKED).unwrap();

    assert_eq!(vm.host.take_raised(VP), 0);
    assert_eq!(guest.drain_ring(SINT5), [4]);
    counters(&vm);
}

#[test]
fn sint_that_a_paravisor_has_still_when_unmasked_stays_silent() {
    let (vm, guest) = up();
    guest
        .set(Register::Sint(SINT5), MASKED_AND_PROXIED)
        .unwrap();
    ring(&vm, 4);

    guest.set(Register::Sint(SINT5), PROXIED).unwrap();

    assert_eq!(vm.host.take_raised(VP), 0);
    assert_eq!(counters(&vm).waiting, 1);
}

#[test]
fn message_that_a_pause_and_a_paravisor_held_comes_when_both_are_over() {
    let (vm, guest) = up();
    vm.manager.pause();
    let message = Message::new(MessageType::VMBUS, b"held").unwrap();
    let posted = vm.manager.post_message(SintAddr::new(VP, SINT2), &message);
    assert_eq!(posted, Ok(Posted::Queued));
    guest.set(Register::Sint(SINT2), PROXIED).unwrap();
    run(&vm);
    assert_eq!(vm.host.take_raised(VP), 0);

    guest.set(Register::Sint(SINT2), UNMASKED).unwrap();

    assert_eq!(vm.host.take_raised(VP), SINT2.bit());
    assert_eq!(guest.take_message(SINT2), Some(message));
}

#[test]
fn ring_page_that_moves_while_paused_takes_its_doorbells_along() {
    let (vm, mut guest) = up();
    ring(&vm, 4);
    vm.manager.pause();
    guest.set(Register::Sirbp, 0x3001).unwrap();
    ring(&vm, 5);
    run(&vm);
    assert_eq!(guest.drain_ring(SINT5), [4, 5]);
    counters(&vm);
}

#[test]
fn ring_page_that_goes_while_paused_gives_its_doorbells_to_the_next() {
    let (vm, mut guest) = up();
    ring(&vm, 4);
    vm.manager.pause();
    guest.set(Register::Sirbp, 0x3000).unwrap();
    run(&vm);
    guest.set(Register::Sirbp, 0x3001).unwrap();
    assert_eq!(guest.drain_ring(SINT5), [4]);
    counters(&vm);
}

#[test]
fn sint_unmasked_while_paused_is_signalled_for_its_ring_when_the_vp_runs() {
    let (vm, mut guest) = up();
    guest.mask(SINT5);
    ring(&vm, 4);
    vm.manager.pause();
    guest.unmask(SINT5, 0xF3);
    assert_eq!(vm.host.take_raised(VP), 0);

    run(&vm);

    assert_eq!(vm.host.take_raised(VP), SINT5.bit());
    assert_eq!(guest.drain_ring(SINT5), [4]);
}

#[test]
fn pause_and_resume_signal_no_ring_a_second_time() {
    let (vm, mut guest) = up();
    ring(&vm, 4);
    assert_eq!(vm.host.take_raised(VP), SINT5.bit());
    vm.manager.pause();
    run(&vm);
    assert_eq!(vm.host.take_raised(VP), 0);
    assert_eq!(guest.drain_ring(SINT5), [4]);
}

#[test]
fn notice_that_a_pause_held_goes_out_at_once_where_the_vp_writes_its_messages() {
    let config = Config {
        message_writer: MessageWriter::VpThread,
        ..Config::new(1)
    };
    let vm = MockVm::new(config, 1);
    let mut guest = vm.guest(VP);
    guest.enable_all();
    guest.unmask(SINT0, 0xF0);
    guest.set(Register::Sint(SINT5), AS_INTERCEPT).unwrap();
    vm.manager.pause();
    ring(&vm, 4);
    vm.manager.resume();
    vm.host.take_calls();

    vm.manager.pre_run(VP);

    let calls = vm.host.take_calls();
    assert!(
        matches!(calls[..], [HostCall::Assert(interrupt)] if interrupt.addr.sint == SINT0),
        "{calls:?}"
    );
}

#[test]
fn restore_into_a_manager_that_was_used_leaves_the_ring_of_the_guest_alone() {
    let (vm, mut guest) = up();
    ring(&vm, 4);
    vm.manager.pause();
    let state = vm.manager.save().unwrap();

    vm.manager.restore(&state).unwrap();
    run(&vm);

    assert_eq!(guest.drain_ring(SINT5), [4]);
    counters(&vm);
}

#[test]
fn guest_that_forges_entries_before_each_migration_costs_no_memory() {
    let (mut vm, mut guest) = up();
    ring(&vm, 1);
    guest.set_scontrol(false);
    for round in 0..10u32 {
        let forged = (0..63).flat_map(|i| (round * 63 + i + 100).to_le_bytes());
        let page = guest.get(Register::Sirbp) & !1;
        guest.write_ram(page + FIRST_ENTRY, &forged.collect::<Vec<_>>());
        vm.manager.pause();
        let state = vm.manager.save().unwrap();
        vm = vm.successor(Config::new(1));
        vm.manager.restore(&state).unwrap();
        run(&vm);
        guest = guest.under(vm.manager.clone());
        let next = 0x3001 + 0x1000 * u64::from(round % 2);
        guest.set(Register::Sirbp, next).unwrap();
    }
    assert!(counters(&vm).waiting <= 63, "{:?}", counters(&vm));
}

/// Where SINT5's ring begins on its page, after the two flags.
const FIRST_ENTRY: u64 = 5 * 256 + 4;
