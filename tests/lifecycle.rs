// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! VPs are plugged in and out, the manager pauses, resumes and resets, and the memory map changes.

use std::sync::Arc;
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};
use vm_synic::abi::Register;
use vm_synic::test_utils::{HostCall, MockGuest, MockVm};
use vm_synic::{
    Config, DoorbellTarget, Error, EventFlag, Message, MessageType, MsrError, NotReady, PortId,
    PostError, Posted, RingError, SignalError, SintAddr, SintIndex, VpIndex, WhenMasked,
};

const VP: VpIndex = VpIndex::new(0);
const OTHER: VpIndex = VpIndex::new(1);
const SINT: SintIndex = SintIndex::VMBUS;
const RING: SintIndex = SintIndex::DOORBELL;
const ADDR: SintAddr = SintAddr::new(VP, SINT);

type Memory = Arc<GuestMemoryMmap<()>>;

/// One VP of two, with everything on, SINT2 and SINT5 unmasked, and no call of the host pending.
fn up() -> (MockVm, MockGuest<Memory>) {
    up_with(Config::new(2))
}

fn up_with(config: Config) -> (MockVm, MockGuest<Memory>) {
    let vm = MockVm::new(config, 1);
    let mut guest = vm.guest(VP);
    guest.enable_all();
    guest.unmask(SINT, 0xF3);
    guest.unmask(RING, 0xF5);
    vm.host.take_calls();
    (vm, guest)
}

fn message(body: u8) -> Message {
    Message::new(MessageType::VMBUS, &[body]).unwrap()
}

fn post(vm: &MockVm, body: u8) -> Result<Posted, PostError> {
    vm.manager.post_message(ADDR, &message(body))
}

fn signal(vm: &MockVm, flag: u16) -> Result<bool, SignalError> {
    vm.manager.signal_event(ADDR, EventFlag::new(flag).unwrap())
}

fn ring(vm: &MockVm, port: u32) -> Result<(), RingError> {
    let port = PortId::new(port).unwrap();
    let target = DoorbellTarget::Vp(VP);
    vm.manager.ring_doorbell(target, RING, port)
}

/// All of guest memory.
fn ram(vm: &MockVm) -> Vec<u8> {
    let mut bytes = vec![0; (MockVm::FREE + MockVm::HEAP) as usize];
    vm.memory.read_slice(&mut bytes, GuestAddress(0)).unwrap();
    bytes
}

fn bodies(messages: &[Message]) -> Vec<u8> {
    messages.iter().flat_map(|m| m.payload().to_vec()).collect()
}

#[track_caller]
fn assert_balanced(vm: &MockVm) {
    for vp in vm.manager.snapshot().vps {
        assert!(vp.plain.balances(), "{:?}", vp.plain.counters);
    }
}

#[test]
fn add_vp_that_is_there_or_out_of_range_is_refused_and_so_is_removing_none() {
    let vm = MockVm::new(Config::new(2), 1);
    let beyond = VpIndex::new(2);
    assert!(matches!(vm.manager.add_vp(VP), Err(Error::VpExists(VP))));
    let added = vm.manager.add_vp(beyond);
    assert!(matches!(added, Err(Error::VpOutOfRange { vp, max: 2 }) if vp == beyond));
    assert!(matches!(
        vm.manager.remove_vp(OTHER),
        Err(Error::NoVp(OTHER))
    ));
    assert!(matches!(vm.manager.reset_vp(beyond), Err(Error::NoVp(_))));
}

#[test]
fn vp_that_is_unplugged_takes_nothing_and_its_pages_are_left_alone() {
    let (vm, guest) = up();
    vm.manager.remove_vp(VP).unwrap();
    let before = ram(&vm);

    assert_eq!(post(&vm, 1), Err(PostError::NoVp(ADDR)));
    assert_eq!(signal(&vm, 1), Err(SignalError::NoVp(ADDR)));
    assert!(matches!(ring(&vm, 1), Err(RingError::NoVp(_))));
    assert_eq!(guest.rdmsr(0x4000_0080), Err(MsrError::Fault));
    assert_eq!(guest.wrmsr(0x4000_0080, 1), Err(MsrError::Fault));
    vm.manager.pre_run(VP);

    assert_eq!(ram(&vm), before);
    assert!(vm.manager.snapshot().vps.is_empty());
    let any = vm
        .manager
        .ring_doorbell(DoorbellTarget::AnyVp, RING, PortId::new(1).unwrap());
    assert!(matches!(any, Err(RingError::NoVpAtAll(_))));
}

#[test]
fn vp_that_comes_back_is_as_after_power_on_and_has_its_drops_counted() {
    let (vm, guest) = up();
    (1..=3).for_each(|body| assert!(post(&vm, body).is_ok()));
    vm.manager.remove_vp(VP).unwrap();

    vm.manager.add_vp(VP).unwrap();

    for register in [
        Register::Scontrol,
        Register::Simp,
        Register::Siefp,
        Register::Sirbp,
    ] {
        assert_eq!(guest.get(register), 0, "{register}");
    }
    assert_eq!(guest.get(Register::Sint(SINT)), 0x10000);
    let counters = vm.manager.snapshot().vps[0].plain.counters(SINT);
    assert_eq!(counters.messages.dropped.reset, 2);
    assert_balanced(&vm);
}

#[test]
fn vp_that_comes_back_works_whatever_the_manager_did_meanwhile() {
    let leave_and_return: [fn(&MockVm); 3] = [
        |vm| {
            vm.manager.remove_vp(VP).unwrap();
            vm.manager.add_vp(VP).unwrap();
        },
        |vm| {
            vm.manager.pause();
            vm.manager.remove_vp(VP).unwrap();
            vm.manager.resume();
            vm.manager.add_vp(VP).unwrap();
        },
        |vm| {
            vm.manager.pause();
            vm.manager.resume();
            vm.manager.remove_vp(VP).unwrap();
            vm.manager.add_vp(VP).unwrap();
        },
    ];
    for (case, leave_and_return) in leave_and_return.iter().enumerate() {
        let (vm, mut guest) = up();
        leave_and_return(&vm);
        guest.enable_all();
        guest.unmask(SINT, 0xF3);
        assert_eq!(post(&vm, 1), Ok(Posted::Delivered), "case {case}");
    }
}

#[test]
fn vp_that_is_added_while_paused_holds_until_the_manager_resumes() {
    let vm = MockVm::new(Config::new(1), 1).successor(Config::new(1));
    vm.manager.pause();
    vm.manager.add_vp(VP).unwrap();
    let mut guest = vm.guest(VP);
    guest.enable_all();
    guest.unmask(SINT, 0xF3);
    assert_eq!(post(&vm, 1), Ok(Posted::Queued));
    assert_eq!(guest.peek_message(SINT), None);

    vm.manager.resume();
    vm.manager.pre_run(VP);

    assert_eq!(guest.take_message(SINT), Some(message(1)));
}

#[test]
fn pause_holds_everything_and_writes_nothing_until_the_vp_runs_again() {
    let (vm, mut guest) = up();
    vm.manager.pause();
    let before = ram(&vm);

    assert_eq!([1, 2].map(|body| post(&vm, body)), [Ok(Posted::Queued); 2]);
    assert!([3, 2000, 3].iter().all(|flag| signal(&vm, *flag).is_ok()));
    assert!((1..=65).all(|port| ring(&vm, port).is_ok()));
    assert!(ram(&vm) == before, "paused");
    assert_eq!(vm.host.take_calls(), []);
    vm.manager.resume();
    assert!(ram(&vm) == before, "the VP has not run");
    assert_eq!(vm.host.take_calls(), [HostCall::Kick(VP)]);

    vm.manager.pre_run(VP);

    let raised = vm.host.take_interrupts();
    assert_eq!(
        raised.iter().map(|i| i.addr.sint).collect::<Vec<_>>(),
        [SINT, RING]
    );
    assert_eq!(bodies(&guest.take_messages(SINT)), [1, 2]);
    assert_eq!(guest.take_flags(SINT), [3, 2000]);
    assert_eq!(guest.drain_ring(RING), Vec::from_iter(1..=65));
    assert_balanced(&vm);
}

#[test]
fn posts_between_resume_and_the_next_run_keep_their_order() {
    let (vm, guest) = up();
    vm.manager.pause();
    assert!(post(&vm, 1).is_ok());
    vm.manager.resume();
    assert_eq!(post(&vm, 2), Ok(Posted::Queued));
    vm.manager.pre_run(VP);
    assert!(post(&vm, 3).is_ok());
    assert_eq!(bodies(&guest.take_messages(SINT)), [1, 2, 3]);
}

#[test]
fn pause_bounds_what_waits_and_tells_the_poster_when_it_is_over() {
    let (vm, guest) = up_with(Config {
        queue_depth: 2,
        ..Config::new(1)
    });
    vm.manager.pause();
    let posts = [1, 2, 3].map(|body| post(&vm, body));
    let held = Ok(Posted::Queued);
    assert_eq!(posts, [held, held, Err(PostError::WouldBlock(ADDR))]);

    vm.manager.resume();
    vm.manager.pre_run(VP);

    assert_eq!(vm.host.take_writable(), [ADDR]);
    assert!(post(&vm, 3).is_ok());
    assert_eq!(bodies(&guest.take_messages(SINT)), [1, 2, 3]);
}

#[test]
fn slot_that_is_taken_at_resume_asks_for_an_eom() {
    let (vm, guest) = up();
    assert_eq!(post(&vm, 1), Ok(Posted::Delivered));
    vm.manager.pause();
    assert!(post(&vm, 2).is_ok());
    assert!(!guest.is_message_pending(SINT));

    vm.manager.resume();
    vm.manager.pre_run(VP);

    assert!(guest.is_message_pending(SINT));
    assert_eq!(bodies(&guest.take_messages(SINT)), [1, 2]);
}

#[test]
fn message_for_a_masked_sint_that_a_pause_held_goes_where_the_policy_says() {
    for (when_masked, arrives) in [(WhenMasked::Write, true), (WhenMasked::Hold, false)] {
        let (vm, guest) = up_with(Config {
            when_masked,
            ..Config::new(1)
        });
        guest.mask(SINT);
        vm.manager.pause();
        assert!(post(&vm, 1).is_ok());
        vm.manager.resume();
        vm.manager.pre_run(VP);
        assert_eq!(
            guest.peek_message(SINT).is_some(),
            arrives,
            "{when_masked:?}"
        );
        assert_eq!(vm.host.take_interrupts(), []);
    }
}

#[test]
fn pause_twice_and_resume_twice_are_as_once() {
    let (vm, guest) = up();
    vm.manager.pause();
    vm.manager.pause();
    assert!(post(&vm, 1).is_ok());
    vm.manager.resume();
    vm.manager.resume();
    vm.manager.pre_run(VP);
    vm.manager.pre_run(VP);
    assert_eq!(vm.host.take_interrupts().len(), 1);
    assert_eq!(bodies(&guest.take_messages(SINT)), [1]);
}

#[test]
fn pause_before_the_vp_ran_again_goes_on_holding() {
    let (vm, _guest) = up();
    vm.manager.pause();
    assert!(post(&vm, 1).is_ok());
    vm.manager.resume();
    vm.manager.pause();
    let before = ram(&vm);
    vm.manager.pre_run(VP);
    assert_eq!(post(&vm, 2), Ok(Posted::Queued));
    assert!(ram(&vm) == before);
}

#[test]
fn reset_switches_everything_off_and_counts_what_waited() {
    let (vm, guest) = up();
    guest.wrmsr(0x4000_0000, 0x8100).unwrap();
    guest.wrmsr(0x4000_0001, 0x1001).unwrap();
    (1..=3).for_each(|body| assert!(post(&vm, body).is_ok()));
    assert!((1..=70).all(|port| ring(&vm, port).is_ok()));
    vm.manager.pause();
    assert!(signal(&vm, 9).is_ok());
    vm.manager.reset();
    let before = ram(&vm);
    vm.manager.resume();
    vm.manager.pre_run(VP);

    assert_eq!(
        [0x4000_0000, 0x4000_0001].map(|msr| guest.rdmsr(msr)),
        [Ok(0); 2]
    );
    assert_eq!(guest.get(Register::Scontrol), 0);
    let refused = |cause| Err(PostError::NotReady { addr: ADDR, cause });
    assert_eq!(post(&vm, 4), refused(NotReady::ScontrolOff));
    assert!(
        ram(&vm) == before,
        "nothing is written to a page that was given up"
    );
    let plain = &vm.manager.snapshot().vps[0].plain;
    assert_eq!(plain.counters(SINT).messages.dropped.reset, 2);
    assert_eq!(plain.counters(SINT).events.refused, 1);
    assert_eq!(plain.counters(RING).ring.forgotten, 7);
    assert_balanced(&vm);
}
