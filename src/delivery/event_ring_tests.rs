// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! Models of the ring with both sides at work, and its arithmetic on one thread.

use super::*;
use loom::sync::atomic::{AtomicBool, AtomicU32, fence as loom_fence};
use loom::sync::{Arc, Mutex};
use loom::thread;
use std::cell::{Cell, RefCell};

/// A ring of two entries on loom's atomics: small enough to try every interleaving.
#[derive(Default)]
struct LoomRing {
    entries: [AtomicU32; 2],
    signal_masked: AtomicBool,
    ring_full: AtomicBool,
}

impl RingMemory for LoomRing {
    const ENTRIES: u8 = 2;
    fn entry(&self, index: u8) -> u32 {
        self.entries[usize::from(index)].load(Ordering::Acquire)
    }
    fn set_entry(&self, index: u8, port: u32) {
        self.entries[usize::from(index)].store(port, Ordering::Release);
    }
    fn signal_masked(&self) -> bool {
        self.signal_masked.load(Ordering::Relaxed)
    }
    fn set_signal_masked(&self, masked: bool) {
        self.signal_masked.store(masked, Ordering::Relaxed);
    }
    fn ring_full(&self) -> bool {
        self.ring_full.load(Ordering::Relaxed)
    }
    fn set_ring_full(&self, full: bool) {
        self.ring_full.store(full, Ordering::Relaxed);
    }
    fn fence(&self) {
        loom_fence(Ordering::SeqCst);
    }
}

fn port(id: u32) -> PortId {
    PortId::new(id).unwrap()
}

/// Rings one port; says whether the guest is to be signalled.
fn ring_one(producer: &Mutex<RingProducer>, ring: &LoomRing, id: u32) -> bool {
    let mut producer = producer.lock().unwrap();
    let wait = |producer: &mut RingProducer| {
        producer.ring(port(id));
        producer.refill(ring) > 0
    };
    let entered = producer.enter(ring, port(id)) || wait(&mut producer);
    entered && RingProducer::take_signal(ring)
}

/// The guest's interrupt handler: drains until the ring is empty.
fn drain(consumer: &mut RingConsumer, producer: &Mutex<RingProducer>, ring: &LoomRing) -> Vec<u32> {
    let mut seen = Vec::new();
    let ring_empty = || {
        producer.lock().unwrap().refill(ring);
    };
    while let Some(id) = consumer.next(ring, ring_empty) {
        seen.push(id);
    }
    seen
}

/// `ids` are rung while the guest drains once, as after an older signal. What it has not seen
/// then, it must have been signalled for.
fn rung_while_draining(ids: std::ops::RangeInclusive<u32>, already: u32) {
    let expected: Vec<u32> = (1..=*ids.end()).collect();
    loom::model(move || {
        let ring = Arc::new(LoomRing::default());
        let producer = Arc::new(Mutex::new(RingProducer::default()));
        for id in 1..=already {
            ring_one(&producer, &ring, id);
        }
        let host = {
            let (ring, producer, ids) = (ring.clone(), producer.clone(), ids.clone());
            thread::spawn(move || {
                ids.map(|id| ring_one(&producer, &ring, id))
                    .fold(false, |any, signal| any | signal)
            })
        };

        let mut consumer = RingConsumer::new();
        let mut seen = drain(&mut consumer, &producer, &ring);
        if host.join().unwrap() {
            seen.extend(drain(&mut consumer, &producer, &ring));
        }

        assert_eq!(seen, expected, "lost, duplicated or reordered");
    });
}

#[test]
fn ring_when_guest_finds_it_empty_is_seen_or_signalled() {
    rung_while_draining(1..=1, 0);
}

#[test]
fn ring_two_when_guest_drains_keeps_order_and_loses_none() {
    rung_while_draining(1..=2, 0);
}

#[test]
fn ring_when_full_is_held_back_and_refilled_without_loss() {
    rung_while_draining(3..=3, 2);
}

/// The 63 entries of a page, for one thread.
struct PlainRing {
    entries: RefCell<[u32; 63]>,
    masked: Cell<bool>,
    full: Cell<bool>,
}

impl PlainRing {
    fn new() -> Self {
        Self {
            entries: RefCell::new([0; 63]),
            masked: Cell::new(false),
            full: Cell::new(false),
        }
    }
}

impl RingMemory for PlainRing {
    fn entry(&self, index: u8) -> u32 {
        self.entries.borrow()[usize::from(index)]
    }
    fn set_entry(&self, index: u8, port: u32) {
        self.entries.borrow_mut()[usize::from(index)] = port;
    }
    fn signal_masked(&self) -> bool {
        self.masked.get()
    }
    fn set_signal_masked(&self, masked: bool) {
        self.masked.set(masked);
    }
    fn ring_full(&self) -> bool {
        self.full.get()
    }
    fn set_ring_full(&self, full: bool) {
        self.full.set(full);
    }
    fn fence(&self) {}
}

fn fill(producer: &mut RingProducer, ring: &PlainRing, ids: std::ops::RangeInclusive<u32>) {
    for id in ids {
        producer.ring(port(id));
        producer.refill(ring);
    }
}

fn drain_all(
    consumer: &mut RingConsumer,
    producer: &mut RingProducer,
    ring: &PlainRing,
) -> Vec<u32> {
    let mut seen = Vec::new();
    loop {
        let refill = || {
            producer.refill(ring);
        };
        match consumer.next(ring, refill) {
            Some(id) => seen.push(id),
            None => return seen,
        }
    }
}

#[test]
fn all_63_entries_are_used_before_the_ring_is_full() {
    let (mut producer, ring) = (RingProducer::default(), PlainRing::new());
    fill(&mut producer, &ring, 1..=63);
    assert!(!ring.ring_full());
    fill(&mut producer, &ring, 64..=64);
    assert!(ring.ring_full());
    assert_eq!(producer.waiting().len(), 1);
}

#[test]
fn drain_after_an_overflow_of_200_sees_each_once_in_order() {
    let (mut producer, ring) = (RingProducer::default(), PlainRing::new());
    let mut consumer = RingConsumer::new();
    fill(&mut producer, &ring, 1..=200);
    let seen = drain_all(&mut consumer, &mut producer, &ring);
    assert_eq!(seen, (1..=200).collect::<Vec<_>>());
    assert!(!ring.signal_masked(), "the next entry must signal");
}

#[test]
fn ring_of_a_port_that_waits_already_coalesces() {
    let (mut producer, ring) = (RingProducer::default(), PlainRing::new());
    fill(&mut producer, &ring, 1..=64);
    assert_eq!(producer.ring(port(64)), Rung::Coalesced);
    assert_eq!(
        producer.ring(port(1)),
        Rung::Waiting,
        "in the ring is not waiting"
    );
}

#[test]
fn take_signal_while_guest_drains_is_said_once() {
    let (mut producer, ring) = (RingProducer::default(), PlainRing::new());
    let mut consumer = RingConsumer::new();
    fill(&mut producer, &ring, 1..=1);
    assert!(RingProducer::take_signal(&ring));
    fill(&mut producer, &ring, 2..=2);
    assert!(!RingProducer::take_signal(&ring));
    drain_all(&mut consumer, &mut producer, &ring);
    fill(&mut producer, &ring, 3..=3);
    assert!(RingProducer::take_signal(&ring));
}

#[test]
fn reclaim_of_undrained_entries_meets_the_guests_tail_in_a_new_page() {
    let (mut producer, old) = (RingProducer::default(), PlainRing::new());
    let mut consumer = RingConsumer::new();
    fill(&mut producer, &old, 1..=60);
    drain_all(&mut consumer, &mut producer, &old);
    fill(&mut producer, &old, 61..=80);

    let reclaimed = producer.reclaim(&old);
    let new = PlainRing::new();
    producer.refill(&new);

    assert_eq!(reclaimed, 20);
    assert_eq!(
        drain_all(&mut consumer, &mut producer, &new),
        (61..=80).collect::<Vec<_>>()
    );
}

#[test]
fn reclaim_of_a_ring_full_of_nonsense_ends_and_keeps_valid_ports_only() {
    let (mut producer, ring) = (RingProducer::default(), PlainRing::new());
    fill(&mut producer, &ring, 1..=63);
    ring.entries.borrow_mut().fill(u32::MAX);
    assert_eq!(producer.reclaim(&ring), 63);
    assert_eq!(producer.waiting().len(), 0);
}

#[test]
fn reclaim_of_ports_that_the_guest_made_up_takes_no_more_than_were_entered() {
    let (mut producer, ring) = (RingProducer::default(), PlainRing::new());
    fill(&mut producer, &ring, 1..=2);
    for (entry, id) in ring.entries.borrow_mut().iter_mut().zip(1000..) {
        *entry = id;
    }
    assert_eq!(producer.reclaim(&ring), 2);
    assert_eq!(producer.reclaim(&ring), 0);
    assert_eq!(producer.waiting().len(), 2);
}
