// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! Several threads deliver to VPs that run: nothing is lost, doubled or reordered.
//!
//! The guest acts on interrupts alone, one message each as Linux does. So an interrupt that is
//! missing shows: when the deliverers have finished and none is left, all must have been seen.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, AtomicU64, Ordering::SeqCst};
use std::thread::{self, ScopedJoinHandle};
use vm_memory::{GuestAddress, GuestMemoryMmap};
use vm_synic::abi::Register;
use vm_synic::ownership::SynicPage;
use vm_synic::test_utils::MockGuest;
use vm_synic::{
    Config, DoorbellTarget, EventFlag, Host, Message, MessageType, PortId, PostError, SintAddr,
    SintIndex, SintInterrupt, SynicManager, VpIndex,
};

const VPS: u32 = 2;
const DELIVERERS: u32 = 3;
/// By each deliverer to each VP.
const COUNT: u32 = 5_000;
/// Signals by each signaller to each VP; a signal is quick, and so are the races around it.
const SIGNALS: u32 = 20_000;
/// How often a thread looks for what must come before it gives up.
const PATIENCE: u32 = 5_000_000;
const FLAGS: u16 = 70;
const VMBUS: SintIndex = SintIndex::VMBUS;
const SINT0: SintIndex = SintIndex::INTERCEPT;
const SINT5: SintIndex = SintIndex::DOORBELL;

type Memory = Arc<GuestMemoryMmap<()>>;
type Manager = Arc<SynicManager<Memory>>;

/// The interrupt lines of the VPs, as edges that merge until they are taken.
#[derive(Default)]
struct Wires {
    raised: [AtomicU16; VPS as usize],
    writable: AtomicU64,
}

impl Host for Wires {
    fn assert_sint(&self, interrupt: SintInterrupt) -> io::Result<()> {
        let vp = &self.raised[interrupt.addr.vp.get() as usize];
        vp.fetch_or(1 << interrupt.addr.sint.get(), SeqCst);
        Ok(())
    }

    fn writable(&self, _addr: SintAddr) {
        self.writable.fetch_add(1, SeqCst);
    }
}

struct Vm {
    manager: Manager,
    memory: Memory,
    wires: Arc<Wires>,
}

impl Vm {
    fn new() -> Self {
        let ranges = [(GuestAddress(0), 0x10_0000)];
        let memory: Memory = Arc::new(GuestMemoryMmap::from_ranges(&ranges).unwrap());
        let wires = Arc::new(Wires::default());
        let config = Config {
            queue_depth: 8,
            ..Config::new(VPS)
        };
        let manager = SynicManager::new(config, memory.clone(), wires.clone());
        for vp in 0..VPS {
            manager.add_vp(VpIndex::new(vp)).unwrap();
        }
        Self {
            manager,
            memory,
            wires,
        }
    }

    /// A VP with everything on, and MSHV's SINTs as Linux sets them.
    fn guest(&self, vp: u32) -> MockGuest<Memory> {
        let heap = u64::from(vp + 1) * 0x2_0000;
        let (manager, memory) = (self.manager.clone(), self.memory.clone());
        let mut guest = MockGuest::new(manager, memory, VpIndex::new(vp), heap..heap + 0x1_0000);
        guest.enable_all();
        guest.unmask(VMBUS, 0xF3);
        guest.unmask(SINT0, 0xF3);
        guest.set(Register::Sint(SINT5), 0x800F3).unwrap();
        guest
    }

    /// Runs a VP until the deliverers have finished and no interrupt is left.
    fn run(
        &self,
        vp: VpIndex,
        deliverers: &[ScopedJoinHandle<'_, ()>],
        mut handler: impl FnMut(u16),
    ) {
        loop {
            let finished = deliverers.iter().all(ScopedJoinHandle::is_finished);
            match self.wires.raised[vp.get() as usize].swap(0, SeqCst) {
                0 if finished => return,
                0 => thread::yield_now(),
                raised => handler(raised),
            }
        }
    }

    /// Posts the messages of one poster, and waits for [`Host::writable`] where it must.
    fn post_all(&self, sint: SintIndex, poster: u32) {
        for (number, vp) in (0..COUNT).flat_map(|number| (0..VPS).map(move |vp| (number, vp))) {
            let addr = SintAddr::new(VpIndex::new(vp), sint);
            let payload = [poster.to_le_bytes(), number.to_le_bytes()];
            let message = Message::new(MessageType::VMBUS, payload.as_flattened()).unwrap();
            loop {
                let writable = self.wires.writable.load(SeqCst);
                match self.manager.post_message(addr, &message) {
                    Ok(_) => break,
                    Err(PostError::WouldBlock(_)) => self.wait_for_writable(writable),
                    Err(error) => panic!("{error}"),
                }
            }
        }
    }

    fn wait_for_writable(&self, before: u64) {
        for _ in 0..PATIENCE {
            if self.wires.writable.load(SeqCst) != before {
                return;
            }
            thread::yield_now();
        }
        panic!("the queue is full, and nobody says that there is room");
    }

    /// Rings ports of one ringer's own, ascending.
    fn ring_all(&self, ringer: u32) {
        for (number, vp) in (0..COUNT).flat_map(|number| (0..VPS).map(move |vp| (number, vp))) {
            let port = PortId::new(ringer * COUNT + number + 1).unwrap();
            let target = DoorbellTarget::Vp(VpIndex::new(vp));
            self.manager.ring_doorbell(target, SINT5, port).unwrap();
        }
    }

    /// Signals each flag again and again; adds to `fresh` what was newly set, by flag.
    fn signal_all(&self, vp: u32, fresh: &[AtomicU64]) {
        let addr = SintAddr::new(VpIndex::new(vp), VMBUS);
        for number in 0..SIGNALS {
            let flag = EventFlag::new(number as u16 % FLAGS).unwrap();
            let is_fresh = self.manager.signal_event(addr, flag).unwrap();
            fresh[usize::from(flag.get())].fetch_add(is_fresh.into(), SeqCst);
        }
    }
}

/// The poster and the number of a message.
fn parse(message: &Message) -> (u32, u32) {
    let word = |at| u32::from_le_bytes(message.payload()[at..at + 4].try_into().unwrap());
    (word(0), word(4))
}

/// Every deliverer's numbers are all there, in order.
fn check_order(seen: &[(u32, u32)]) {
    for deliverer in 0..DELIVERERS {
        let own = seen.iter().filter(|(from, _)| *from == deliverer);
        assert!(own.map(|(_, number)| *number).eq(0..COUNT), "{deliverer}");
    }
    assert_eq!(seen.len(), (DELIVERERS * COUNT) as usize);
}

/// Moves a page to and fro between its own place and one 0x1_0000 above.
fn move_page(guest: &MockGuest<Memory>, page: SynicPage) {
    let register = page.register();
    let moved = guest.set(register, guest.get(register) ^ 0x1_0000);
    moved.expect("RAM");
}

/// Leaves the ring and comes back to it, as MSHV does when it is reloaded.
fn reload_ring(guest: &MockGuest<Memory>) {
    let (sint5, sirbp) = (guest.get(Register::Sint(SINT5)), guest.get(Register::Sirbp));
    guest.mask(SINT5);
    guest.set(Register::Sirbp, sirbp & !1).unwrap();
    guest.set(Register::Sirbp, sirbp).unwrap();
    guest.set(Register::Sint(SINT5), sint5).unwrap();
}

type Deliverers<'a> = [ScopedJoinHandle<'a, ()>; DELIVERERS as usize];

/// Runs each VP on a thread of its own, while `deliver` runs on three others.
fn race(
    vm: &Vm,
    deliver: impl Fn(u32) + Sync,
    receive: impl Fn(MockGuest<Memory>, &Deliverers<'_>) + Sync,
) {
    let guests = (0..VPS).map(|vp| vm.guest(vp)).collect::<Vec<_>>();
    let (deliver, receive) = (&deliver, &receive);
    thread::scope(|scope| {
        let deliverers = [0, 1, 2].map(|number| scope.spawn(move || deliver(number)));
        thread::scope(|vps| {
            for guest in guests {
                let deliverers = &deliverers;
                vps.spawn(move || receive(guest, deliverers));
            }
        });
    });
    let snapshot = vm.manager.snapshot();
    assert!(
        snapshot.vps.iter().all(|vp| vp.plain.balances()),
        "{snapshot}"
    );
}

#[test]
fn messages_of_several_posters_arrive_once_each_in_order() {
    let vm = Vm::new();
    let receive = |guest: MockGuest<Memory>, posters: &Deliverers<'_>| {
        let mut seen = Vec::new();
        vm.run(guest.vp(), posters, |_| {
            seen.extend(guest.take_message(VMBUS).as_ref().map(parse));
            if seen.len() % 64 == 0 {
                move_page(&guest, SynicPage::Message);
            }
        });
        check_order(&seen);
    };
    race(&vm, |poster| vm.post_all(VMBUS, poster), receive);
}

#[test]
fn doorbells_of_several_ringers_arrive_once_each_in_order() {
    let vm = Vm::new();
    let receive = |mut guest: MockGuest<Memory>, ringers: &Deliverers<'_>| {
        let mut ports = Vec::new();
        let mut interrupts = 0;
        vm.run(guest.vp(), ringers, |_| {
            guest.take_message(SINT0);
            ports.extend(guest.drain_ring(SINT5));
            interrupts += 1;
            match interrupts % 32 {
                8 => move_page(&guest, SynicPage::EventRing),
                16 => reload_ring(&guest),
                _ => {}
            }
        });
        let seen = ports
            .iter()
            .map(|port| ((port - 1) / COUNT, (port - 1) % COUNT));
        check_order(&seen.collect::<Vec<_>>());
    };
    race(&vm, |ringer| vm.ring_all(ringer), receive);
}

#[test]
fn messages_and_notices_of_rings_share_sint0_without_loss() {
    let vm = Vm::new();
    let receive = |mut guest: MockGuest<Memory>, deliverers: &Deliverers<'_>| {
        let (mut messages, mut ports) = (Vec::new(), Vec::new());
        vm.run(guest.vp(), deliverers, |_| {
            match guest.take_message(SINT0) {
                Some(message) if message.message_type() == MessageType::VMBUS => {
                    messages.push(parse(&message));
                }
                Some(_notice) => ports.extend(guest.drain_ring(SINT5)),
                None => {}
            }
        });
        assert!(
            messages
                .into_iter()
                .eq((0..COUNT).map(|number| (0, number)))
        );
        assert_eq!(ports.len(), 2 * COUNT as usize);
    };
    let deliver = |number| match number {
        0 => vm.post_all(SINT0, number),
        ringer => vm.ring_all(ringer),
    };
    race(&vm, deliver, receive);
}

#[test]
fn flags_of_several_signallers_are_each_seen_as_often_as_they_were_newly_set() {
    let vm = Vm::new();
    let fresh = [(); VPS as usize].map(|()| [(); FLAGS as usize].map(|()| AtomicU64::new(0)));
    let seen = [(); VPS as usize].map(|()| [(); FLAGS as usize].map(|()| AtomicU64::new(0)));
    let receive = |guest: MockGuest<Memory>, signallers: &Deliverers<'_>| {
        let mut interrupts = 0;
        vm.run(guest.vp(), signallers, |_| {
            for flag in guest.take_flags(VMBUS) {
                seen[guest.vp().get() as usize][usize::from(flag)].fetch_add(1, SeqCst);
            }
            interrupts += 1;
            if interrupts % 64 == 0 {
                move_page(&guest, SynicPage::EventFlags);
            }
        });
    };
    let signal = |_| (0..VPS).for_each(|vp| vm.signal_all(vp, &fresh[vp as usize]));
    race(&vm, signal, receive);

    let counts = |of: &[[AtomicU64; FLAGS as usize]]| {
        let all = of.as_flattened().iter();
        all.map(|count| count.load(SeqCst)).collect::<Vec<_>>()
    };
    assert_eq!(counts(&seen), counts(&fresh));
    assert!(counts(&seen).iter().all(|count| *count > 0));
}
