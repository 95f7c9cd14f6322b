// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! Ports, connections and doorbells come and go: inside a handler, and while VPs call.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use vm_synic::test_utils::MockVm;
use vm_synic::{
    Config, ConnectionId, DoorbellSink, DoorbellSpec, DoorbellTarget, Error, EventSink,
    GuestMessage, HvStatus, MessageSink, MessageType, PortBusy, PortHandle, PortId, PortSpec,
    Registration, SintIndex, VpIndex,
};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

const VP: VpIndex = VpIndex::new(0);
const CONNECTION: u32 = 7;
const GPA: u64 = 0xFEE0_0000;
/// How often routes come and go while VPs call.
const ROUNDS: u64 = 300;

/// What a handler may drop: everything that routes to it.
type Own = Arc<Mutex<Option<(PortHandle, Registration)>>>;

fn port_id(id: u32) -> PortId {
    PortId::new(id).unwrap()
}

fn connection_id() -> ConnectionId {
    ConnectionId::new(CONNECTION).unwrap()
}

fn messages(
    handler: impl Fn(GuestMessage<'_>) -> Result<(), PortBusy> + Send + Sync + 'static,
) -> PortSpec {
    PortSpec::Message(MessageSink::Call(Arc::new(handler)))
}

fn events(handler: impl Fn(u16) + Send + Sync + 'static) -> PortSpec {
    let sink = EventSink::Call(Arc::new(handler));
    PortSpec::Event { sink, flags: 1 }
}

fn register(vm: &MockVm, port: u32, spec: PortSpec) -> (PortHandle, Registration) {
    let port = vm.manager.create_port(port_id(port), spec).unwrap();
    let connection = vm.manager.connect(connection_id(), &port).unwrap();
    (port, connection)
}

fn doorbell(vm: &MockVm, fd: &Arc<EventFd>) -> Result<Registration, Error> {
    let sink = DoorbellSink::Fd(fd.clone());
    vm.manager.add_doorbell(DoorbellSpec::at(GPA), sink)
}

fn eventfd() -> Arc<EventFd> {
    Arc::new(EventFd::new(EFD_NONBLOCK).unwrap())
}

fn post(vm: &MockVm) -> Option<u64> {
    vm.guest(VP).post(CONNECTION, MessageType::VMBUS, b"hello")
}

fn signal(vm: &MockVm) -> Option<u64> {
    vm.guest(VP).signal(CONNECTION, 0)
}

fn answer(status: HvStatus) -> Option<u64> {
    Some(status.into())
}

#[test]
fn id_that_is_taken_is_refused_and_free_again_after_the_drop() {
    let vm = MockVm::new(Config::new(1), 1);
    let fd = eventfd();
    let (port, connection) = register(&vm, 1, events(|_| ()));
    let bell = doorbell(&vm, &fd).unwrap();

    let second = vm.manager.create_port(port_id(1), events(|_| ()));
    assert!(matches!(second, Err(Error::PortExists(id)) if id == port_id(1)));
    let second = vm.manager.connect(connection_id(), &port);
    assert!(matches!(second, Err(Error::ConnectionExists(id)) if id == connection_id()));
    let second = doorbell(&vm, &fd);
    assert!(matches!(second, Err(Error::DoorbellExists { gpa: GPA })));

    drop((port, connection, bell));
    let _again = register(&vm, 1, events(|_| ()));
    let _bell = doorbell(&vm, &fd).unwrap();
    assert_eq!(signal(&vm), answer(HvStatus::Success));
    assert!(vm.manager.mmio_write(GPA, &[0]));
}

#[test]
fn refused_registration_leaves_the_one_that_was_there() {
    let vm = MockVm::new(Config::new(1), 1);
    let heard = Arc::new(AtomicU64::new(0));
    let count = heard.clone();
    let counting = events(move |_| {
        count.fetch_add(1, Ordering::SeqCst);
    });
    let _first = register(&vm, 1, counting);
    let other = vm
        .manager
        .create_port(port_id(2), events(|_| panic!("not connected")));
    assert!(
        vm.manager
            .connect(connection_id(), &other.unwrap())
            .is_err()
    );

    assert_eq!(signal(&vm), answer(HvStatus::Success));

    assert_eq!(heard.load(Ordering::SeqCst), 1);
}

#[test]
fn several_connections_to_one_port_are_told_apart_and_end_one_by_one() {
    let vm = MockVm::new(Config::new(1), 1);
    let seen = Arc::new(Mutex::new(Vec::new()));
    let log = seen.clone();
    let spec = messages(move |message| {
        log.lock().unwrap().push(message.connection.get());
        Ok(())
    });
    let (port, first) = register(&vm, 1, spec);
    let second = vm.manager.connect(ConnectionId::new(8).unwrap(), &port);
    let guest = vm.guest(VP);

    guest.post(8, MessageType::VMBUS, b"");
    drop(second);
    assert_eq!(
        guest.post(8, MessageType::VMBUS, b""),
        answer(HvStatus::InvalidConnectionId)
    );
    assert_eq!(post(&vm), answer(HvStatus::Success));
    drop((first, port));

    assert_eq!(*seen.lock().unwrap(), [8, CONNECTION]);
}

#[test]
fn handler_that_drops_its_own_port_and_connection_is_called_once() {
    let vm = MockVm::new(Config::new(1), 1);
    let own = Own::default();
    let within = own.clone();
    let spec = messages(move |_| {
        drop(within.lock().unwrap().take().expect("called once"));
        Ok(())
    });
    *own.lock().unwrap() = Some(register(&vm, 1, spec));

    assert_eq!(post(&vm), answer(HvStatus::Success));

    assert_eq!(post(&vm), answer(HvStatus::InvalidConnectionId));
    let _free_again = register(&vm, 1, events(|_| ()));
}

#[test]
fn handler_that_replaces_its_own_connection_hands_over_to_the_next_one() {
    let vm = MockVm::new(Config::new(1), 1);
    let own = Own::default();
    let next = Arc::new(AtomicU64::new(0));
    let (within, inner, count) = (own.clone(), vm.clone(), next.clone());
    let spec = events(move |_| {
        let mut own = within.lock().unwrap();
        drop(own.take());
        let count = count.clone();
        let counting = events(move |_| {
            count.fetch_add(1, Ordering::SeqCst);
        });
        *own = Some(register(&inner, 2, counting));
    });
    *own.lock().unwrap() = Some(register(&vm, 1, spec));

    assert_eq!(signal(&vm), answer(HvStatus::Success));
    assert_eq!(next.load(Ordering::SeqCst), 0);
    assert_eq!(signal(&vm), answer(HvStatus::Success));

    assert_eq!(next.load(Ordering::SeqCst), 1);
    drop(own.lock().unwrap().take());
}

#[test]
fn drop_while_a_handler_is_at_work_does_not_wait_for_it() {
    let vm = MockVm::new(Config::new(1), 1);
    let (entered, is_in) = mpsc::channel();
    let (leave, may_leave) = mpsc::channel::<()>();
    let may_leave = Mutex::new(may_leave);
    let spec = events(move |_| {
        entered.send(()).unwrap();
        may_leave.lock().unwrap().recv().unwrap();
    });
    let registration = register(&vm, 1, spec);
    let caller = {
        let vm = vm.clone();
        thread::spawn(move || signal(&vm))
    };
    is_in.recv().unwrap();

    drop(registration);
    assert_eq!(signal(&vm), answer(HvStatus::InvalidConnectionId));

    leave.send(()).unwrap();
    assert_eq!(caller.join().unwrap(), answer(HvStatus::Success));
}

/// Each VP calls without pause while this thread registers and unregisters.
fn while_vps_call(
    vm: &MockVm,
    call: fn(&MockVm, VpIndex) -> u64,
    mut churn: impl FnMut(),
) -> Calls {
    const VPS: u32 = 2;
    let stop = Arc::new(AtomicBool::new(false));
    let vps = (0..VPS).map(|vp| {
        let (vm, stop) = (vm.clone(), stop.clone());
        thread::spawn(move || {
            let mut calls = Calls::default();
            while !stop.load(Ordering::SeqCst) {
                let status = call(&vm, VpIndex::new(vp));
                calls.successes += u64::from(status == 0);
                calls.answers.insert(status);
            }
            calls
        })
    });
    let vps: Vec<_> = vps.collect();
    (0..ROUNDS).for_each(|_| churn());
    stop.store(true, Ordering::SeqCst);
    let mut all = Calls::default();
    for vp in vps {
        let calls = vp.join().unwrap();
        all.successes += calls.successes;
        all.answers.extend(calls.answers);
    }
    all
}

#[derive(Default)]
struct Calls {
    successes: u64,
    answers: BTreeSet<u64>,
}

#[test]
fn connections_that_come_and_go_while_vps_post_lose_no_message_and_answer_no_nonsense() {
    let vm = MockVm::new(Config::new(2), 2);
    let received = Arc::new(AtomicU64::new(0));
    let call = |vm: &MockVm, vp| {
        let posted = vm.guest(vp).post(CONNECTION, MessageType::VMBUS, b"hello");
        posted.unwrap()
    };

    let calls = while_vps_call(&vm, call, || {
        let count = received.clone();
        let spec = messages(move |message| {
            assert_eq!(message.payload, b"hello");
            count.fetch_add(1, Ordering::SeqCst);
            Ok(())
        });
        let (port, connection) = register(&vm, 1, spec);
        assert_eq!(post(&vm), answer(HvStatus::Success));
        drop(port);
        assert_eq!(post(&vm), answer(HvStatus::InvalidPortId));
        drop(connection);
        assert_eq!(post(&vm), answer(HvStatus::InvalidConnectionId));
    });

    let sane = [
        HvStatus::Success,
        HvStatus::InvalidPortId,
        HvStatus::InvalidConnectionId,
    ];
    let sane = BTreeSet::from(sane.map(u64::from));
    assert!(calls.answers.is_subset(&sane), "{:#x?}", calls.answers);
    assert_eq!(received.load(Ordering::SeqCst), calls.successes + ROUNDS);
}

#[test]
fn doorbells_that_come_and_go_while_vps_ring_count_every_ring() {
    let vm = MockVm::new(Config::new(2), 2);
    let fd = eventfd();
    let call = |vm: &MockVm, _| u64::from(!vm.manager.mmio_write(GPA, &[1, 0]));
    let _neighbour = vm
        .manager
        .add_doorbell(DoorbellSpec::at(GPA + 8), DoorbellSink::Fd(eventfd()));

    let calls = while_vps_call(&vm, call, || {
        let registration = doorbell(&vm, &fd).unwrap();
        assert!(vm.manager.mmio_write(GPA, &[1, 0]));
        drop(registration);
        assert!(
            vm.manager.mmio_write(GPA + 8, &[1, 0]),
            "the neighbour stays"
        );
    });

    assert_eq!(fd.read().unwrap(), calls.successes + ROUNDS);
}

#[test]
fn doorbell_into_a_ring_stops_with_its_registration() {
    let vm = MockVm::new(Config::new(1), 1);
    let mut guest = vm.guest(VP);
    guest.enable_all();
    guest.unmask(SintIndex::DOORBELL, 0xF5);
    let sink = DoorbellSink::Ring {
        target: DoorbellTarget::AnyVp,
        sint: SintIndex::DOORBELL,
        port: port_id(3),
    };
    let registration = vm.manager.add_doorbell(DoorbellSpec::at(GPA), sink);

    let rung = vm.manager.mmio_write(GPA, &[1]);
    drop(registration);
    let after = vm.manager.mmio_write(GPA, &[1]);

    assert_eq!((rung, after), (true, false));
    assert_eq!(guest.drain_ring(SintIndex::DOORBELL), [3]);
}
