// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! Children of the guest ring its ports from several threads, while the guest moves its ring page,
//! takes it away, and deletes ports: each write that met a doorbell is seen, or accounted for.

use std::sync::Arc;
use std::thread::{self, JoinHandle};
use vm_memory::GuestMemoryMmap;
use vm_synic::abi::Register;
use vm_synic::ownership::SynicPage;
use vm_synic::test_utils::{MockGuest, MockVm};
use vm_synic::{Child, Config, PartitionId, RingCounters, SintAddr, SintIndex, VpIndex};

const VP: VpIndex = VpIndex::new(0);
const OTHER: VpIndex = VpIndex::new(1);
const SINT5: SintIndex = SintIndex::DOORBELL;
const CHILD: u64 = 7;
const PORTS: u32 = 80;
const THREADS: u32 = 4;
const WRITES: u32 = 20_000;
/// Where hypercalls have their input, and where the ring page is in turn: memory of the test's own.
const INPUT: u64 = 0x1000;
const RING_PAGES: [u64; 2] = [0x4000, 0x5000];
const DELETE_PORT: u64 = 0x1_0058;
const CREATE_PORT: u64 = 0x0095;
const CONNECT_PORT: u64 = 0x0096;
const DISCONNECT_PORT: u64 = 0x1_005B;

struct Parent {
    vm: MockVm,
    guest: MockGuest<Arc<GuestMemoryMmap<()>>>,
    child: Arc<Child>,
}

impl Parent {
    /// With `PORTS` doorbells, at the addresses that [`gpa`] gives.
    fn new() -> Self {
        Self::with(Config {
            guest_ports: PORTS,
            ..Config::new(1)
        })
    }

    fn with(config: Config) -> Self {
        let vps = config.max_vps;
        let vm = MockVm::new(config, vps);
        let mut guest = vm.guest(VP);
        guest.enable_all();
        guest.unmask(SINT5, 0xF3);
        let child = vm.manager.add_child(PartitionId::new(CHILD)).unwrap();
        let child = Arc::new(child);
        let parent = Self { vm, guest, child };
        (1..=PORTS).for_each(|port| parent.add(port));
        parent
    }

    fn add(&self, port: u32) {
        let id = port.into();
        let any_vp = 0xFFFF_FFFF << 32;
        self.call(CREATE_PORT, &[u64::MAX, id, CHILD, 4, 5 | any_vp, 0, 0]);
        let any_value = 1 << 31;
        let connection = [CHILD, id, u64::MAX, id, 4, gpa(port), 0, any_value, 0];
        self.call(CONNECT_PORT, &connection);
    }

    fn remove(&self, port: u32) {
        let is_doorbell = 1 << 32;
        for (code, partition, id) in [
            (DISCONNECT_PORT, CHILD, u64::from(port) | is_doorbell),
            (DELETE_PORT, u64::MAX, port.into()),
        ] {
            assert_eq!(self.guest.hypercall(code, partition, id), Some(0));
        }
    }

    fn call(&self, code: u64, block: &[u64]) {
        let bytes: Vec<u8> = block.iter().flat_map(|q| q.to_le_bytes()).collect();
        self.guest.write_ram(INPUT, &bytes);
        assert_eq!(self.guest.hypercall(code, INPUT, 0), Some(0), "{code:#x}");
    }

    /// Rings all doorbells from all threads, while `act` does something to them again and again;
    /// gives how many writes met a doorbell, and how often each port was seen.
    fn ring_while(&mut self, mut act: impl FnMut(&mut Self, u32)) -> (u64, Vec<u64>) {
        let mut seen = vec![0; PORTS as usize + 1];
        let threads: Vec<_> = (0..THREADS).map(|first| self.start(first)).collect();
        let mut round = 0;
        while !threads.iter().all(JoinHandle::is_finished) {
            act(self, round);
            self.drain(&mut seen);
            round += 1;
        }
        let accepted = threads.into_iter().map(|thread| thread.join().unwrap());
        let accepted = accepted.sum();
        // The ring may be off, and the SINT's interrupt under way.
        self.guest.set(Register::Sirbp, RING_PAGES[0] | 1).unwrap();
        self.drain(&mut seen);
        (accepted, seen)
    }

    fn start(&self, first: u32) -> JoinHandle<u64> {
        let (manager, child) = (self.vm.manager.clone(), self.child.clone());
        let writes = (first..WRITES).step_by(THREADS as usize);
        let mut gpas = writes.map(|write| gpa(write % PORTS + 1));
        thread::spawn(move || {
            let rung = gpas
                .by_ref()
                .filter(|gpa| child.mmio_write(&manager, *gpa, &[1]));
            rung.count() as u64
        })
    }

    fn drain(&mut self, seen: &mut [u64]) {
        for port in self.guest.drain_ring(SINT5) {
            seen[port as usize] += 1;
        }
    }

    fn rings(&self, port: u32) -> bool {
        self.child.mmio_write(&self.vm.manager, gpa(port), &[1])
    }

    fn counters(&self) -> RingCounters {
        self.counters_of(VP)
    }

    fn counters_of(&self, vp: VpIndex) -> RingCounters {
        let addr = SintAddr::new(vp, SINT5);
        let counters = self.vm.manager.ring_counters(addr).unwrap();
        assert!(counters.balances(), "{counters:?}");
        counters
    }
}

fn gpa(port: u32) -> u64 {
    0xF000_0000 + u64::from(port) * 0x1000
}

#[test]
fn doorbell_for_any_vp_when_its_vp_gives_up_its_ring_is_seen_on_another() {
    let config = Config {
        guest_ports: PORTS,
        ..Config::new(2)
    };
    let mut parent = Parent::with(config);
    let mut other = parent.vm.guest(OTHER);
    other.enable_all();
    other.unmask(SINT5, 0xF3);
    // An odd port is VP 1's as long as its ring is on. One that is in the ring is not read there.
    assert!(parent.rings(3) && parent.rings(2));
    other.disable(SynicPage::EventRing);
    assert_eq!(parent.guest.drain_ring(SINT5), [2, 3]);
    assert!(parent.rings(3));
    assert_eq!(parent.guest.drain_ring(SINT5), [3]);
    let counters = parent.counters_of(OTHER);
    assert_eq!((counters.forgotten, counters.waiting), (1, 0));
}

#[test]
fn doorbell_when_the_last_ring_goes_waits_for_the_next() {
    let mut parent = Parent::new();
    assert!(parent.rings(3));
    parent.guest.disable(SynicPage::EventRing);
    assert_eq!(parent.counters().waiting, 1);
    parent.guest.enable(SynicPage::EventRing);
    assert_eq!(parent.guest.drain_ring(SINT5), [3]);
}

#[test]
fn doorbells_when_the_guest_drains_are_all_seen_but_for_those_that_coalesced() {
    let mut parent = Parent::new();
    let (accepted, seen) = parent.ring_while(|_, _| ());
    let counters = parent.counters();
    assert_eq!((accepted, counters.rung), (WRITES.into(), WRITES.into()));
    assert_eq!(seen.iter().sum::<u64>(), accepted - counters.coalesced);
    assert!(seen[1..].iter().all(|count| *count > 0), "{seen:?}");
}

#[test]
fn doorbells_when_the_ring_page_moves_or_goes_are_all_seen_but_for_those_that_coalesced() {
    let mut parent = Parent::new();
    let (accepted, seen) = parent.ring_while(|parent, round| {
        let page = RING_PAGES[round as usize % 2];
        let off_and_on = [page, page | 1];
        let moved = [page | 1, RING_PAGES[(round as usize + 1) % 2] | 1];
        for value in if round % 3 == 0 { off_and_on } else { moved } {
            parent.guest.set(Register::Sirbp, value).unwrap();
        }
    });
    let counters = parent.counters();
    assert_eq!((accepted, counters.waiting), (WRITES.into(), 0));
    assert_eq!(seen.iter().sum::<u64>(), accepted - counters.coalesced);
}

#[test]
fn doorbells_when_ports_are_deleted_lose_nothing_of_the_others_and_leave_none_waiting() {
    let mut parent = Parent::new();
    let (accepted, seen) = parent.ring_while(|parent, round| {
        let even = round % (PORTS / 2) * 2 + 2;
        parent.remove(even);
        parent.add(even);
    });
    let counters = parent.counters();
    assert_eq!((accepted, counters.waiting), (counters.rung, 0));
    let total = seen.iter().sum::<u64>();
    assert_eq!(total, accepted - counters.coalesced - counters.forgotten);
    let odd = seen.iter().skip(1).step_by(2);
    assert!(odd.clone().all(|count| *count > 0), "{seen:?}");
}
