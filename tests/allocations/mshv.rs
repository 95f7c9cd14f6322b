// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! A partition of /dev/mshv: posts, signals and exits.

use super::{
    Deaf, INPUT, Manager, POST_MESSAGE, SIGNAL_EVENT_FAST, VMBUS, VP, allocations, create,
};
use mshv_bindings::{hv_message, mshv_user_ioeventfd, mshv_user_irq_entry, mshv_user_irqfd};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};
use vm_synic::backend::mshv::{
    CallError, Hvcall, HypercallAnswer, MshvPartition, PartitionCalls, Served, handle_exit,
};
use vm_synic::test_utils::hv_message_of;
use vm_synic::{
    Config, EventFlag, EventSink, Message, MessageSink, MessageType, PortSpec, Posted, SynicManager,
};

/// A hypervisor with one slot. Unlike the crate's double it writes nothing down, and so allocates
/// nothing.
#[derive(Default)]
struct Hypervisor {
    is_taken: AtomicBool,
    /// What the VP is to tell of.
    awaited: AtomicU16,
}

impl PartitionCalls for Hypervisor {
    fn hvcall(&self, call: Hvcall<'_>) -> Result<(), CallError> {
        match call.code {
            POST_MESSAGE_DIRECT if self.is_taken.swap(true, Ordering::SeqCst) => {
                Err(CallError::Status(OBJECT_IN_USE))
            }
            POST_MESSAGE_DIRECT => Ok(()),
            SIGNAL_EVENT_DIRECT => {
                call.output[0] = 1;
                Ok(())
            }
            SET_VP_REGISTERS => {
                let sints = call.input[38..40].try_into().map(u16::from_le_bytes);
                let sints = sints.expect("2 bytes");
                self.awaited.store(sints, Ordering::SeqCst);
                Ok(())
            }
            code => panic!("{code:#x} is on no such path"),
        }
    }

    fn ioeventfd(&self, _: &mshv_user_ioeventfd) -> Result<(), CallError> {
        unreachable!()
    }

    fn irqfd(&self, _: &mshv_user_irqfd) -> Result<(), CallError> {
        unreachable!()
    }

    fn set_msi_routing(&self, _: &[mshv_user_irq_entry]) -> Result<(), CallError> {
        unreachable!()
    }
}

/// The result of the last hypercall that was completed.
#[derive(Default)]
struct Rax(Option<u64>);

impl HypercallAnswer for Rax {
    fn complete(&mut self, _rip: u64, rax: u64) -> io::Result<()> {
        self.0 = Some(rax);
        Ok(())
    }
}

struct Rig {
    hypervisor: Arc<Hypervisor>,
    manager: Arc<Manager>,
    memory: Arc<GuestMemoryMmap<()>>,
}

impl Rig {
    fn new() -> Self {
        let hypervisor = Arc::new(Hypervisor::default());
        let ram = GuestMemoryMmap::from_ranges(&[(GuestAddress(0), 0x10000)]).unwrap();
        let memory = Arc::new(ram);
        let partition = MshvPartition::new(hypervisor.clone());
        let manager = SynicManager::of_partition(
            Config::new(1),
            memory.clone(),
            Arc::new(Deaf),
            Arc::new(partition),
        );
        manager.add_vp(VP).unwrap();
        Self {
            hypervisor,
            manager,
            memory,
        }
    }

    fn post(&self) -> Posted {
        let message = Message::new(MessageType::VMBUS, &[7; 240]).unwrap();
        self.manager.post_message(VMBUS, &message).unwrap()
    }

    fn free_slot(&self) {
        self.hypervisor.is_taken.store(false, Ordering::SeqCst);
    }

    /// The VP exits with this message; gives RAX, if it is set.
    fn exit(&self, message: &hv_message) -> (Served, Option<u64>) {
        let mut rax = Rax::default();
        let served = handle_exit(&self.manager, VP, message, &mut rax, |_| 2);
        (served.unwrap(), rax.0)
    }
}

fn hypercall(rcx: u64, rdx: u64) -> hv_message {
    // A VMCALL of 3 bytes, and EFER.LMA.
    let fields = [(4, 3), (6, 1 << 4), (24, 0x1000), (56, rcx), (64, rdx)];
    hv_message_of(0x8000_0050, 200, &fields)
}

#[test]
fn message_for_a_partition_when_the_slot_is_free_allocates_nothing() {
    let rig = Rig::new();
    let allocated = allocations(|| {
        assert_eq!(rig.post(), Posted::Delivered);
        rig.free_slot();
    });
    assert_eq!(allocated, 0);
}

#[test]
fn message_for_a_partition_that_waits_for_a_notice_allocates_nothing() {
    let rig = Rig::new();
    let deliverable = hv_message_of(0x8000_0062, 48, &[(40, VMBUS.sint.bit().into())]);
    let allocated = allocations(|| {
        assert_eq!(rig.post(), Posted::Delivered);
        assert_eq!(rig.post(), Posted::Queued);
        let awaited = rig.hypervisor.awaited.swap(0, Ordering::SeqCst);
        assert_eq!(awaited, VMBUS.sint.bit());
        rig.free_slot();
        assert_eq!(rig.exit(&deliverable), (Served::Done, None));
        assert!(rig.hypervisor.is_taken.load(Ordering::SeqCst));
        rig.free_slot();
    });
    assert_eq!(allocated, 0);
}

#[test]
fn event_for_a_partition_allocates_nothing() {
    let rig = Rig::new();
    let flag = EventFlag::new(9).unwrap();
    let signal = || assert_eq!(rig.manager.signal_event(VMBUS, flag), Ok(true));
    assert_eq!(allocations(signal), 0);
}

#[test]
fn exits_with_hypercalls_to_a_port_allocate_nothing() {
    let rig = Rig::new();
    let messages = PortSpec::Message(MessageSink::Call(Arc::new(|_| Ok(()))));
    let events = PortSpec::Event {
        sink: EventSink::Call(Arc::new(|_| ())),
        flags: 1,
    };
    let _ports = [
        create(&rig.manager, 1, messages),
        create(&rig.manager, 2, events),
    ];
    let header = [1u32, 0, 1, 240];
    rig.memory.write_obj(header, GuestAddress(INPUT)).unwrap();
    let calls = [
        hypercall(POST_MESSAGE, INPUT),
        hypercall(SIGNAL_EVENT_FAST, 2),
    ];
    let allocated = allocations(|| {
        for call in &calls {
            assert_eq!(rig.exit(call), (Served::Done, Some(0)));
        }
    });
    assert_eq!(allocated, 0);
}

#[test]
fn exits_that_are_not_understood_allocate_nothing() {
    let rig = Rig::new();
    let exits = [
        // Of no type that anybody knows, HLT, and a hypercall's that is cut off.
        (hv_message_of(0x8123_4567, 240, &[]), Served::NotMine),
        (hv_message_of(0x8001_0007, 40, &[]), Served::NotMine),
        (hv_message_of(0x8000_0050, 8, &[]), Served::Done),
        // RDMSR of SIMP.
        (
            hv_message_of(0x8001_0001, 64, &[(40, 0x4000_0083)]),
            Served::Fault,
        ),
    ];
    let allocated = allocations(|| {
        for (message, served) in &exits {
            assert_eq!(rig.exit(message), (*served, None));
        }
    });
    assert_eq!(allocated, 0);
}

const SET_VP_REGISTERS: u16 = 0x51;
const SIGNAL_EVENT_DIRECT: u16 = 0xC0;
const POST_MESSAGE_DIRECT: u16 = 0xC1;
const OBJECT_IN_USE: u16 = 0x19;
