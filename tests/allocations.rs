// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! Memory: none is allocated where the guest is served, and an idle VP takes little of it.

#[cfg(all(feature = "mshv", feature = "test-utils"))]
#[path = "allocations/mshv.rs"]
mod mshv;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::io;
use std::sync::Arc;
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};
use vm_synic::{
    Config, ConnectionId, DoorbellSink, DoorbellSpec, DoorbellTarget, EventFlag, EventSink, Host,
    HypercallInput, Message, MessageSink, MessageType, PortHandle, PortId, PortSpec, Posted,
    Provider, Registration, SintAddr, SintIndex, SintInterrupt, SynicManager, VpIndex,
};

/// Counts what each thread allocates; the tests of this file run on threads of their own.
struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
    /// Allocated less freed.
    static BYTES: Cell<i64> = const { Cell::new(0) };
}

fn count(allocations: u64, bytes: i64) {
    ALLOCATIONS.set(ALLOCATIONS.get() + allocations);
    BYTES.set(BYTES.get() + bytes);
}

// SAFETY: all is left to the system's allocator. To count allocates nothing: the cells are
// initialised by constants and have no destructor.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(1, layout.size() as i64);
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        count(0, -(layout.size() as i64));
        // SAFETY: as above.
        unsafe { System.dealloc(block, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

struct Deaf;

impl Host for Deaf {
    fn assert_sint(&self, _interrupt: SintInterrupt) -> io::Result<()> {
        Ok(())
    }

    fn assert_vector(&self, _vp: VpIndex, _vector: u8) -> io::Result<()> {
        Ok(())
    }

    fn reference_time(&self) -> u64 {
        10
    }
}

type Manager = SynicManager<Arc<GuestMemoryMmap<()>>>;

struct Rig {
    manager: Arc<Manager>,
    memory: Arc<GuestMemoryMmap<()>>,
}

impl Rig {
    /// One VP with everything switched on.
    fn new() -> Self {
        let ram = GuestMemoryMmap::from_ranges(&[(GuestAddress(0), 0x10000)]).unwrap();
        let memory = Arc::new(ram);
        let config = Config {
            timers: Some(Provider::Manager),
            ..Config::new(2)
        };
        let manager = SynicManager::new(config, memory.clone(), Arc::new(Deaf));
        manager.add_vp(VP).unwrap();
        let write = |msr, value| manager.write_msr(VP, msr, value).unwrap();
        write(SIMP, SIMP_PAGE | 1);
        write(SIEFP, SIEFP_PAGE | 1);
        write(SIRBP, SIRBP_PAGE | 1);
        for sint in [SintIndex::VMBUS, SintIndex::DOORBELL] {
            write(SINT0 + u32::from(sint), 0xF3);
        }
        write(SCONTROL, 1);
        Self { manager, memory }
    }

    fn post(&self) -> Posted {
        let message = Message::new(MessageType::VMBUS, &[7; 240]).unwrap();
        self.manager.post_message(VMBUS, &message).unwrap()
    }

    fn free_slot(&self) {
        let slot = GuestAddress(SIMP_PAGE + 0x200);
        self.memory.write_obj(0u32, slot).unwrap();
    }

    fn call(&self, control: u64, input: u64) {
        let output = 0;
        let input = HypercallInput {
            control,
            input,
            output,
        };
        assert_eq!(self.manager.hypercall(VP, input), Some(0));
    }
}

/// A port, and a connection to it by the same id.
fn create(manager: &Manager, id: u32, spec: PortSpec) -> (PortHandle, Registration) {
    let (port, connection) = (PortId::new(id), ConnectionId::new(id));
    let port = manager.create_port(port.unwrap(), spec).unwrap();
    let connection = manager.connect(connection.unwrap(), &port).unwrap();
    (port, connection)
}

/// How many allocations a hundred rounds take, after as many that may allocate.
fn allocations(mut round: impl FnMut()) -> u64 {
    (0..100).for_each(|_| round());
    let before = ALLOCATIONS.get();
    (0..100).for_each(|_| round());
    ALLOCATIONS.get() - before
}

#[test]
fn allocations_when_a_box_is_made_are_counted() {
    assert_eq!(allocations(|| drop(std::hint::black_box(Box::new(1)))), 100);
}

#[test]
fn message_into_a_free_slot_allocates_nothing() {
    let rig = Rig::new();
    let allocated = allocations(|| {
        assert_eq!(rig.post(), Posted::Delivered);
        rig.free_slot();
    });
    assert_eq!(allocated, 0);
}

#[test]
fn message_that_waits_for_an_eom_allocates_nothing() {
    let rig = Rig::new();
    let allocated = allocations(|| {
        assert_eq!(rig.post(), Posted::Delivered);
        assert_eq!(rig.post(), Posted::Queued);
        rig.free_slot();
        rig.manager.write_msr(VP, EOM, 0).unwrap();
        rig.free_slot();
    });
    assert_eq!(allocated, 0);
}

#[test]
fn event_allocates_nothing() {
    let rig = Rig::new();
    let flag = EventFlag::new(9).unwrap();
    let flags = GuestAddress(SIEFP_PAGE + 0x200);
    let allocated = allocations(|| {
        assert_eq!(rig.manager.signal_event(VMBUS, flag), Ok(true));
        assert_eq!(rig.manager.signal_event(VMBUS, flag), Ok(false));
        rig.memory.write_obj(0u64, flags).unwrap();
    });
    assert_eq!(allocated, 0);
}

#[test]
fn doorbell_allocates_nothing() {
    let rig = Rig::new();
    let sink = DoorbellSink::Ring {
        target: DoorbellTarget::Vp(VP),
        sint: SintIndex::DOORBELL,
        port: PortId::new(3).unwrap(),
    };
    let spec = DoorbellSpec::at(0xFE00_0000);
    let _doorbell = rig.manager.add_doorbell(spec, sink).unwrap();
    let ring = GuestAddress(SIRBP_PAGE + 0x500);
    let allocated = allocations(|| {
        assert!(rig.manager.mmio_write(spec.gpa, &[0; 4]));
        let mut bytes = [0; 256];
        rig.memory.read_slice(&mut bytes, ring).unwrap();
        let entries = bytes.iter().skip(4);
        assert_eq!(entries.filter(|byte| **byte == 3).count(), 1);
        rig.memory.write_slice(&[0; 256], ring).unwrap();
    });
    assert_eq!(allocated, 0);
}

#[test]
fn doorbells_that_overflow_the_ring_allocate_nothing_once_they_have_before() {
    let rig = Rig::new();
    let ring = GuestAddress(SIRBP_PAGE + 0x500);
    let target = DoorbellTarget::Vp(VP);
    let allocated = allocations(|| {
        for port in (1..=80).filter_map(PortId::new) {
            let rung = rig.manager.ring_doorbell(target, SintIndex::DOORBELL, port);
            assert_eq!(rung, Ok(()));
        }
        for _ in 0..2 {
            rig.memory.write_slice(&[0; 256], ring).unwrap();
            rig.call(NOTIFY_PORT_RING_EMPTY, SintIndex::DOORBELL.get().into());
        }
    });
    assert_eq!(allocated, 0);
}

#[test]
fn msr_read_allocates_nothing_and_a_write_only_until_the_ledger_is_full() {
    let rig = Rig::new();
    let sint2 = SINT0 + 2;
    for _ in 0..1000 {
        rig.manager.write_msr(VP, sint2, 0xF3).unwrap();
    }
    let allocated = allocations(|| {
        rig.manager.write_msr(VP, sint2, 0xF3).unwrap();
        assert_eq!(rig.manager.read_msr(VP, sint2), Ok(0xF3));
    });
    assert_eq!(allocated, 0);
}

#[test]
fn pre_run_allocates_nothing() {
    let rig = Rig::new();
    assert_eq!(allocations(|| rig.manager.pre_run(VP)), 0);
}

#[test]
fn hypercalls_to_a_port_allocate_nothing() {
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
    let allocated = allocations(|| {
        rig.call(POST_MESSAGE, INPUT);
        rig.call(SIGNAL_EVENT_FAST, 2);
    });
    assert_eq!(allocated, 0);
}

#[test]
fn timers_that_expire_allocate_nothing() {
    let rig = Rig::new();
    let write = |msr, value| rig.manager.write_msr(VP, msr, value).unwrap();
    write(STIMER0_CONFIG, 0x2_0008);
    write(STIMER0_CONFIG + 2, 0x1ED8);
    let allocated = allocations(|| {
        write(STIMER0_CONFIG + 1, 1);
        write(STIMER0_CONFIG + 3, 1);
        rig.free_slot();
        write(EOM, 0);
    });
    assert_eq!(allocated, 0);
    let counters = rig.manager.snapshot().vps[0].plain.timers[0].counters;
    assert_eq!(counters.messages, 200);
}

#[test]
fn idle_vp_takes_less_than_4_kib_beside_the_guests_pages() {
    let ram = GuestMemoryMmap::<()>::from_ranges(&[(GuestAddress(0), 0x1000)]).unwrap();
    let before = BYTES.get();
    let manager = SynicManager::new(Config::new(64), Arc::new(ram), Arc::new(Deaf));
    for vp in 0..64 {
        manager.add_vp(VpIndex::new(vp)).unwrap();
    }
    let each = (BYTES.get() - before) / 64;
    println!("{each} bytes for each VP");
    assert!(each < 4096, "{each} bytes for each VP");
}

const VP: VpIndex = VpIndex::new(0);
const VMBUS: SintAddr = SintAddr::new(VP, SintIndex::VMBUS);
const SIMP_PAGE: u64 = 0x1000;
const SIEFP_PAGE: u64 = 0x2000;
const SIRBP_PAGE: u64 = 0x3000;
const INPUT: u64 = 0x4000;
const SCONTROL: u32 = 0x4000_0080;
const SIEFP: u32 = 0x4000_0082;
const SIMP: u32 = 0x4000_0083;
const EOM: u32 = 0x4000_0084;
const SIRBP: u32 = 0x4000_0085;
const SINT0: u32 = 0x4000_0090;
const STIMER0_CONFIG: u32 = 0x4000_00B0;
const POST_MESSAGE: u64 = 0x5C;
const SIGNAL_EVENT_FAST: u64 = 0x1_005D;
/// Fast.
const NOTIFY_PORT_RING_EMPTY: u64 = 0x1_008B;
