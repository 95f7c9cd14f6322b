// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! A manager that was saved and restored goes on as if nothing had happened.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};
use vm_synic::abi::{Register, Sint};
use vm_synic::state::State;
use vm_synic::test_utils::{HostCall, MockGuest, MockVm};
use vm_synic::{
    Bank, Config, DoorbellTarget, Error, EventFlag, Message, MessageType, PortId, PostError,
    Posted, Provider, SintAddr, SintIndex, VpIndex,
};

const VP: VpIndex = VpIndex::new(0);
const OTHER: VpIndex = VpIndex::new(1);
const SINT: SintIndex = SintIndex::VMBUS;
const RING: SintIndex = SintIndex::DOORBELL;
const ADDR: SintAddr = SintAddr::new(VP, SINT);

type Memory = Arc<GuestMemoryMmap<()>>;

fn config() -> Config {
    Config {
        nested: true,
        queue_depth: 4,
        ..Config::new(2)
    }
}

/// VP 0 with everything on, SINT2 and SINT5 unmasked in its plain bank, SINT2 in the nested one.
fn up() -> (MockVm, MockGuest<Memory>) {
    let vm = MockVm::new(config(), 2);
    let mut guest = vm.guest(VP);
    guest.enable_all();
    guest.unmask(SINT, 0xF3);
    guest.set_sint(RING, Sint::new().with_vector(0xF5).with_as_intercept(true));
    guest.unmask(SintIndex::INTERCEPT, 0xF0);
    let mut nested = guest.in_bank(Bank::Nested);
    nested.enable_all();
    nested.unmask(SINT, 0x44);
    (vm, nested.in_bank(Bank::Plain))
}

/// Something in every field of the state.
fn busy() -> (MockVm, MockGuest<Memory>) {
    let (vm, guest) = up();
    guest.wrmsr(0x4000_0000, 0x8100).unwrap();
    guest.wrmsr(0x4000_0001, 0x1001).unwrap();
    guest.set(Register::Eom, 0).unwrap();
    (1..=3).for_each(|body| assert!(post(&vm, body).is_ok()));
    let nested = ADDR.nested();
    vm.manager.post_message(nested, &message(9)).unwrap();
    vm.manager.post_message(nested, &message(10)).unwrap();
    (1..=70).for_each(|port| ring(&vm, port));
    signal(&vm, 1);
    vm.manager.pause();
    post(&vm, 4).unwrap();
    signal(&vm, 2000);
    ring(&vm, 71);
    vm.host.take_calls();
    (vm, guest)
}

fn message(body: u8) -> Message {
    Message::new(MessageType::VMBUS, &[body]).unwrap()
}

fn post(vm: &MockVm, body: u8) -> Result<Posted, PostError> {
    vm.manager.post_message(ADDR, &message(body))
}

fn signal(vm: &MockVm, flag: u16) {
    let flag = EventFlag::new(flag).unwrap();
    vm.manager.signal_event(ADDR, flag).unwrap();
}

fn ring(vm: &MockVm, port: u32) {
    let port = PortId::new(port).unwrap();
    let target = DoorbellTarget::Vp(VP);
    vm.manager.ring_doorbell(target, RING, port).unwrap();
}

fn ram(vm: &MockVm) -> Vec<u8> {
    let mut bytes = vec![0; (MockVm::FREE + 2 * MockVm::HEAP) as usize];
    vm.memory.read_slice(&mut bytes, GuestAddress(0)).unwrap();
    bytes
}

fn through_json(state: &State) -> State {
    let json = serde_json::to_string(state).unwrap();
    serde_json::from_str(&json).unwrap()
}

fn bodies(messages: &[Message]) -> Vec<u8> {
    messages.iter().flat_map(|m| m.payload().to_vec()).collect()
}

/// Another manager on the same memory, with this state.
fn restored(vm: &MockVm, state: &State) -> MockVm {
    let next = vm.successor(config());
    next.manager.restore(state).unwrap();
    next
}

fn run(vm: &MockVm) {
    vm.manager.resume();
    vm.manager.pre_run(VP);
}

#[test]
fn save_while_running_is_refused() {
    let (vm, _guest) = up();
    assert!(matches!(vm.manager.save(), Err(Error::NotPaused("save"))));
    vm.manager.pause();
    assert!(vm.manager.save().is_ok());
    vm.manager.resume();
    assert!(matches!(vm.manager.save(), Err(Error::NotPaused("save"))));
}

#[test]
fn state_through_json_is_the_same() {
    let (vm, _guest) = busy();
    let state = vm.manager.save().unwrap();
    assert!(through_json(&state) == state);
    assert!(
        vm.manager.save().unwrap() == state,
        "saving changes nothing"
    );
}

#[test]
fn restore_touches_no_guest_memory_and_calls_for_no_interrupt() {
    let (vm, _guest) = busy();
    let state = through_json(&vm.manager.save().unwrap());
    let before = ram(&vm);

    let next = restored(&vm, &state);

    assert!(ram(&vm) == before);
    let quiet = |call: &HostCall| matches!(call, HostCall::Route(..));
    assert!(vm.host.take_calls().iter().all(quiet));
    assert_eq!(
        next.manager.save().unwrap(),
        state,
        "nothing is lost or made up"
    );
}

#[test]
fn restored_manager_goes_on_where_the_saved_one_stopped() {
    let (vm, guest) = busy();
    let state = through_json(&vm.manager.save().unwrap());
    let next = restored(&vm, &state);
    drop(vm);

    run(&next);

    let mut guest = guest.under(next.manager.clone());
    let raised = next.host.take_raised(VP);
    assert_eq!(
        raised,
        SINT.bit(),
        "for the flag; the slot and the ring wait for the guest"
    );
    assert_eq!(bodies(&guest.take_messages(SINT)), [1, 2, 3, 4]);
    assert_eq!(guest.take_flags(SINT), [1, 2000]);
    let notice = guest.take_message(SintIndex::INTERCEPT).unwrap();
    assert_eq!(notice.message_type(), MessageType::SYNIC_SINT_INTERCEPT);
    assert_eq!(guest.drain_ring(RING), Vec::from_iter(1..=71));
    let nested = guest.in_bank(Bank::Nested);
    assert_eq!(bodies(&nested.take_messages(SINT)), [9, 10]);
    for vp in next.manager.snapshot().vps {
        assert!(vp.plain.balances(), "{:?}", vp.plain.counters);
        assert!(vp.nested.is_none_or(|nested| nested.balances()));
    }
}

#[test]
fn restored_registers_read_as_before_and_routes_are_told_to_the_host() {
    let (vm, guest) = busy();
    let all = (0x4000_0080..=0x4000_009F).chain(0x4000_1080..=0x4000_109F);
    let all = all.chain([0x4000_0000, 0x4000_0001, 0x4000_0002]);
    let before: Vec<_> = all.map(|msr| (msr, guest.rdmsr(msr))).collect();
    let next = restored(&vm, &vm.manager.save().unwrap());
    let guest = guest.under(next.manager.clone());

    for (msr, value) in before {
        assert_eq!(guest.rdmsr(msr), value, "{msr:#x}");
    }
    let calls = next.host.take_calls();
    let route = HostCall::Route(SintAddr::new(VP, RING), Some(0xF5));
    assert!(calls.contains(&route), "{calls:?}");
}

#[test]
fn restore_into_a_manager_that_was_used_leaves_nothing_of_its_past() {
    let (vm, _guest) = busy();
    let state = vm.manager.save().unwrap();
    // On with it: other flags, other rings, more of everything.
    run(&vm);
    (0..100).for_each(|flag| signal(&vm, flag));
    let sint9 = SintIndex::new(9).unwrap();
    let target = DoorbellTarget::Vp(VP);
    vm.manager
        .ring_doorbell(target, sint9, PortId::new(5).unwrap())
        .unwrap();
    while post(&vm, 7).is_ok() {}

    vm.manager.restore(&state).unwrap();

    assert!(vm.manager.save().unwrap() == state);
}

#[test]
fn restore_leaves_the_manager_paused_until_it_is_resumed() {
    let (vm, _guest) = up();
    vm.manager.pause();
    let next = restored(&vm, &vm.manager.save().unwrap());
    assert_eq!(post(&next, 1), Ok(Posted::Queued));
    next.manager.pre_run(VP);
    assert_eq!(post(&next, 2), Ok(Posted::Queued));
    run(&next);
    assert_eq!(next.host.take_raised(VP), SINT.bit());
}

#[test]
fn poster_that_was_refused_before_the_save_hears_of_room_after_the_restore() {
    let (vm, guest) = up();
    while post(&vm, 1).is_ok() {}
    vm.manager.pause();
    let next = restored(&vm, &through_json(&vm.manager.save().unwrap()));
    run(&next);
    assert_eq!(next.host.take_writable(), []);

    guest.under(next.manager.clone()).take_message(SINT);

    assert_eq!(next.host.take_writable(), [ADDR]);
}

#[test]
fn ring_whose_kernel_is_gone_is_left_alone_after_a_restore_too() {
    let (vm, guest) = up();
    guest.wrmsr(0x4000_0000, 0x8100).unwrap();
    ring(&vm, 1);
    guest.wrmsr(0x4000_0000, 0).unwrap();
    vm.manager.pause();
    let state = through_json(&vm.manager.save().unwrap());
    let before = ram(&vm);

    let next = restored(&vm, &state);
    run(&next);
    ring(&next, 2);
    next.manager.memory_changed();
    ring(&next, 3);

    assert!(ram(&vm) == before);
    assert_eq!(
        guest.under(next.manager.clone()).get(Register::Sirbp) & 1,
        1
    );
}

#[test]
fn save_while_posters_go_on_is_of_one_moment() {
    let (vm, _guest) = up();
    vm.manager.pause();
    let stop = Arc::new(AtomicBool::new(false));
    let poster = {
        let (vm, stop) = (vm.clone(), stop.clone());
        std::thread::spawn(move || {
            let mut port = 0;
            while !stop.load(Ordering::SeqCst) {
                let _ = post(&vm, 1);
                port = port % 1000 + 1;
                ring(&vm, port);
            }
        })
    };

    let states: Vec<_> = (0..100).map(|_| vm.manager.save().unwrap()).collect();
    stop.store(true, Ordering::SeqCst);
    poster.join().unwrap();

    // A state whose counters and queues are not of one moment is refused.
    states.iter().for_each(|state| drop(restored(&vm, state)));
}

#[test]
fn vps_that_are_not_in_the_state_are_unplugged_by_a_restore() {
    let (vm, _guest) = up();
    vm.manager.remove_vp(OTHER).unwrap();
    vm.manager.pause();
    let state = vm.manager.save().unwrap();
    vm.manager.add_vp(OTHER).unwrap();

    vm.manager.restore(&state).unwrap();

    assert!(vm.manager.save().unwrap() == state);
}

#[test]
fn violations_are_remembered_though_their_writes_are_not() {
    let config = Config {
        ledger_depth: 1,
        ..Config::new(1)
    };
    let vm = MockVm::new(config.clone(), 1);
    let mut guest = vm.guest(VP);
    guest.enable_all();
    guest.unmask(SINT, 0xF3);
    // MSHV, in a guest, has no business with VMBus's message page.
    guest.disable(vm_synic::ownership::SynicPage::Message);
    guest.mask(SINT);
    let before = vm.manager.snapshot().vps.remove(0);
    assert_eq!(
        (before.violation_count, before.ledger.len()),
        (1, 1),
        "the premise"
    );
    vm.manager.pause();

    let next = vm.successor(config);
    next.manager
        .restore(&through_json(&vm.manager.save().unwrap()))
        .unwrap();

    let after = next.manager.snapshot().vps.remove(0);
    assert_eq!(after.violations, before.violations);
    assert_eq!(after.violation_count, 1);
    assert_eq!(after.ledger, before.ledger);
}

/// A guest with an identity and a hypercall page, where the manager writes that page.
fn with_hypercall_page() -> (MockVm, State) {
    let (vm, _guest) = up();
    vm.manager.write_msr(VP, 0x4000_0000, 0x8100).unwrap();
    vm.manager.write_msr(VP, 0x4000_0001, 0x1001).unwrap();
    vm.manager.pause();
    let state = vm.manager.save().unwrap();
    (vm, state)
}

fn where_the_hypervisor_has_the_page(vm: &MockVm) -> MockVm {
    vm.successor(Config {
        hypercall_page: Provider::Hypervisor,
        ..config()
    })
}

#[test]
fn hypercall_page_that_somebody_else_has_written_is_refused() {
    let (vm, state) = with_hypercall_page();
    assert_eq!(state.hypercall_page, Provider::Manager);
    let next = where_the_hypervisor_has_the_page(&vm);
    let refused = next.manager.restore(&state).unwrap_err();
    assert_eq!(
        refused.to_string(),
        "Cannot restore the saved state: hypercall_page: Manager has written it, and here \
         Hypervisor does"
    );
}

#[test]
fn hypercall_page_that_is_off_is_nobodys() {
    let (vm, mut state) = with_hypercall_page();
    state.hypercall &= !1;
    let next = where_the_hypervisor_has_the_page(&vm);
    next.manager.restore(&state).unwrap();
    let saved = next.manager.save().unwrap();
    assert_eq!(saved.hypercall_page, Provider::Hypervisor);
    assert_eq!((saved.guest_os_id, saved.hypercall), (0x8100, 0x1000));
}
