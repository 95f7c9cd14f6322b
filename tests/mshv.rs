// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! The backend for /dev/mshv, on a double of it: what the suite of all backends does not see.

use std::sync::Arc;

use vm_memory::GuestMemoryMmap;
use vm_synic::abi::Register;
use vm_synic::backend::mshv::{CallError, MshvPartition};
use vm_synic::ownership::SynicView;
use vm_synic::test_utils::{MockGuest, MshvDouble, RecordingHost};
use vm_synic::{
    Config, DoorbellTarget, EventFlag, Message, MessageType, MsrError, NotReady, PartitionError,
    PortId, PostError, Posted, RingError, SignalError, SintAddr, SintIndex, SynicManager, VpIndex,
};

const VP: VpIndex = VpIndex::new(0);
const ADDR: SintAddr = SintAddr::new(VP, SintIndex::VMBUS);
const POST: u16 = 0xC1;
const SIGNAL: u16 = 0xC0;
const SET_REGISTERS: u16 = 0x51;
const GET_REGISTERS: u16 = 0x50;

struct Vm {
    double: Arc<MshvDouble>,
    manager: Arc<SynicManager<Arc<GuestMemoryMmap>>>,
    guest: MockGuest<Arc<GuestMemoryMmap>>,
}

impl Vm {
    fn new() -> Self {
        let double = MshvDouble::new(1);
        let manager = SynicManager::of_partition(
            Config::new(1),
            double.vm.memory.clone(),
            Arc::new(RecordingHost::default()),
            Arc::new(double.partition()),
        );
        manager.add_vp(VP).unwrap();
        let mut guest = double.guest(VP);
        guest.enable_all();
        guest.unmask(SintIndex::VMBUS, 0xF3);
        Self {
            double,
            manager,
            guest,
        }
    }

    fn post(&self, body: u8) -> Result<Posted, PostError> {
        self.post_to(ADDR, body)
    }

    fn post_to(&self, addr: SintAddr, body: u8) -> Result<Posted, PostError> {
        self.manager.post_message(addr, &message(body))
    }

    /// As the VP tells of it.
    fn tell(&self) {
        self.manager.sints_deliverable(VP, self.double.awaited(VP));
    }
}

fn message(body: u8) -> Message {
    Message::new(MessageType::VMBUS, &[body]).unwrap()
}

#[test]
fn post_when_the_slot_is_free_is_one_hypercall() {
    let vm = Vm::new();
    assert_eq!(vm.post(1), Ok(Posted::Delivered));
    assert_eq!(vm.double.take_made(), [POST]);
}

#[test]
fn post_when_the_slot_is_taken_asks_once_and_then_only_queues() {
    let vm = Vm::new();
    vm.post(1).unwrap();
    vm.double.take_made();
    assert_eq!(vm.post(2), Ok(Posted::Queued));
    // Tried, asked to be told, and tried again, as it may have become free just before.
    assert_eq!(vm.double.take_made(), [POST, SET_REGISTERS, POST]);
    assert_eq!(vm.post(3), Ok(Posted::Queued));
    assert_eq!(vm.double.take_made(), [0; 0]);
}

#[test]
fn post_when_the_slot_is_busy_by_any_status_that_may_say_so_is_queued() {
    for status in [0x13, 0x19] {
        let vm = Vm::new();
        vm.double.fail(POST, [CallError::Status(status); 2]);
        assert_eq!(vm.post(1), Ok(Posted::Queued), "status {status:#x}");
        vm.tell();
        assert_eq!(vm.guest.take_message(SintIndex::VMBUS), Some(message(1)));
    }
}

#[test]
fn post_when_two_sints_wait_has_both_told_of() {
    let vm = Vm::new();
    let other = SintIndex::new(4).unwrap();
    vm.guest.unmask(other, 0xF4);
    for _ in 0..2 {
        vm.post(1).unwrap();
        vm.post_to(SintAddr::new(VP, other), 2).unwrap();
    }
    assert_eq!(vm.double.awaited(VP), 1 << 2 | 1 << 4);
}

#[test]
fn post_when_the_hypervisor_fails_tells_the_poster_and_keeps_nothing() {
    let vm = Vm::new();
    let failures = [
        (CallError::Status(0x71), PartitionError::Status(0x71)),
        (CallError::Os(5), PartitionError::Os(5)),
    ];
    for (failure, source) in failures {
        vm.double.fail(POST, [failure]);
        assert_eq!(vm.post(1), Err(PostError::Failed { addr: ADDR, source }));
    }
    assert_eq!(vm.post(2), Ok(Posted::Delivered));
    let counters = vm.manager.snapshot().vps[0].plain.counters[2];
    assert_eq!(counters.messages.posted, 1);
    assert_eq!(counters.interrupts.failed, 2);
}

#[test]
fn post_when_the_notification_is_refused_asks_again_with_the_next_message() {
    let vm = Vm::new();
    vm.post(1).unwrap();
    vm.double.fail(SET_REGISTERS, [CallError::Status(0x0B)]);
    assert_eq!(vm.post(2), Ok(Posted::Queued));
    assert_eq!(vm.double.awaited(VP), 0);
    assert_eq!(vm.post(3), Ok(Posted::Queued));
    assert_eq!(vm.double.awaited(VP), 1 << 2);
    let bodies = [1, 2, 3].map(|body| {
        let taken = vm.guest.take_message(SintIndex::VMBUS);
        vm.tell();
        (taken, Some(message(body)))
    });
    bodies
        .iter()
        .for_each(|(taken, sent)| assert_eq!(taken, sent));
}

#[test]
fn post_when_the_queue_is_full_asks_again_if_it_was_refused() {
    let vm = Vm::new();
    let depth = u8::try_from(vm.manager.config().queue_depth).unwrap();
    vm.double.fail(SET_REGISTERS, [CallError::Os(12); 64]);
    for body in 0..=depth {
        assert!(vm.post(body).is_ok(), "message {body}");
    }
    assert_eq!(vm.double.awaited(VP), 0);
    assert_eq!(vm.post(99), Err(PostError::WouldBlock(ADDR)));
    assert_eq!(vm.double.awaited(VP), 1 << 2);
}

#[test]
fn post_when_the_hypervisor_fails_a_message_that_waits_keeps_it() {
    let vm = Vm::new();
    vm.post(1).unwrap();
    vm.post(2).unwrap();
    vm.guest.take_message(SintIndex::VMBUS).unwrap();
    vm.double.fail(POST, [CallError::Os(4); 2]);
    vm.tell();
    assert_eq!(vm.guest.peek_message(SintIndex::VMBUS), None);
    vm.tell();
    assert_eq!(vm.guest.take_message(SintIndex::VMBUS), Some(message(2)));
}

#[test]
fn post_and_signal_with_any_status_never_panic() {
    for status in 1..0x200 {
        let vm = Vm::new();
        let failure = CallError::Status(status);
        vm.double.fail(POST, [failure; 3]);
        vm.double.fail(SIGNAL, [failure]);
        vm.double.fail(GET_REGISTERS, [failure]);
        let _ = vm.post(1);
        vm.tell();
        let flag = EventFlag::new(1).unwrap();
        assert!(vm.manager.signal_event(ADDR, flag).is_err(), "{status:#x}");
        assert_eq!(vm.manager.signal_event(ADDR, flag), Ok(true));
    }
}

#[test]
fn post_when_the_sint_is_not_ready_says_what_it_lacks() {
    let vm = Vm::new();
    let cause = |vm: &Vm| match vm.post(1) {
        Err(PostError::NotReady { cause, .. }) => cause,
        other => panic!("{other:?}"),
    };
    vm.guest.mask(SintIndex::VMBUS);
    assert_eq!(cause(&vm), NotReady::Masked);
    vm.guest.set(Register::Simp, 0).unwrap();
    assert_eq!(cause(&vm), NotReady::PageOff);
    vm.guest.set_scontrol(false);
    assert_eq!(cause(&vm), NotReady::ScontrolOff);
}

#[test]
fn signal_when_the_vp_is_unknown_to_the_hypervisor_is_the_callers_error() {
    let vm = Vm::new();
    vm.double.fail(SIGNAL, [CallError::Status(0x0E)]);
    let flag = EventFlag::new(1).unwrap();
    let signalled = vm.manager.signal_event(ADDR, flag);
    assert_eq!(signalled, Err(SignalError::NoVp(ADDR)));
}

#[test]
fn reset_vp_forgets_what_the_hypervisor_was_asked_for() {
    let vm = Vm::new();
    vm.post(1).unwrap();
    vm.post(2).unwrap();
    vm.manager.reset_vp(VP).unwrap();
    vm.double.take_made();
    vm.post(3).unwrap();
    // The slot is taken still; that the VP tells has to be asked for anew.
    assert_eq!(vm.double.take_made(), [POST, SET_REGISTERS, POST]);
}

#[test]
fn resume_asks_again_for_what_was_told_during_the_pause() {
    let vm = Vm::new();
    vm.post(1).unwrap();
    vm.post(2).unwrap();
    vm.manager.pause();
    vm.tell();
    vm.manager.resume();
    vm.manager.pre_run(VP);
    assert_eq!(vm.double.awaited(VP), 1 << 2);
    vm.guest.take_message(SintIndex::VMBUS).unwrap();
    vm.tell();
    assert_eq!(vm.guest.take_message(SintIndex::VMBUS), Some(message(2)));
}

#[test]
fn registers_of_the_synic_are_the_hypervisors() {
    let vm = Vm::new();
    let simp = 0x4000_0083;
    assert_eq!(vm.manager.read_msr(VP, simp), Err(MsrError::NotMine(simp)));
    let written = vm.manager.write_msr(VP, simp, 1);
    assert_eq!(written, Err(MsrError::NotMine(simp)));
    let port = PortId::new(1).unwrap();
    let rung = vm
        .manager
        .ring_doorbell(DoorbellTarget::AnyVp, SintIndex::DOORBELL, port);
    assert_eq!(rung, Err(RingError::NotOurs(port)));
}

#[test]
fn registers_are_read_and_written_one_by_one() {
    let vm = Vm::new();
    let partition: MshvPartition = vm.double.partition();
    vm.double.take_made();
    let mut view = partition.registers(VP).unwrap();
    assert_eq!(vm.double.take_made(), [GET_REGISTERS; 20]);
    assert_eq!((view.scontrol, view.sints[2]), (1, 0xF3));
    view.sints[2] = 0x100F3;
    partition.set_registers(VP, &view).unwrap();
    assert_eq!(partition.registers(VP), Ok(view));
}

#[test]
fn registers_when_there_is_no_event_ring_leave_it_out() {
    let vm = Vm::new();
    let partition = vm.double.partition();
    let all = partition.registers(VP).unwrap();
    assert_ne!(all.sirbp, 0);
    // SCONTROL, SIMP and SIEFP come first.
    vm.double.pass(GET_REGISTERS, 3);
    vm.double.fail(GET_REGISTERS, [CallError::Status(0x87)]);
    let expected = SynicView { sirbp: 0, ..all };
    assert_eq!(partition.registers(VP), Ok(expected));
    // What cannot be left out is not.
    vm.double.fail(GET_REGISTERS, [CallError::Status(0x87)]);
    assert_eq!(partition.registers(VP), Err(CallError::Status(0x87)));
}

#[test]
fn reset_leaves_everything_off() {
    let vm = Vm::new();
    let partition = vm.double.partition();
    partition.reset(VP).unwrap();
    let view = partition.registers(VP).unwrap();
    assert_eq!(view.on().count(), 0, "{view:?}");
}
