// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! I8: the read position of an event ring survives a reload of MSHV.
//!
//! The real producer and the real consumer of one ring of two entries. Ports are rung one after
//! the other, at any time; the driver goes and comes back with a page of zeroes, at any time. The
//! consumer stays, as Linux's built-in code keeps `hv_synic_eventring_tail` while the CPU is
//! online.
//!
//! Abstract here: both sides act one at a time (their memory ordering is in the loom models of
//! `delivery`), SIRBP's two writes stand for the whole exit and init, and what Linux does to the
//! tail at CPU hotplug and kexec is left out, since what a hypervisor does to its head then is
//! nowhere settled.

use super::visit;
use crate::abi::PortId;
use crate::delivery::event_ring::{RingConsumer, RingMemory, RingProducer};
use stateright::{Model, Property};
use std::cell::RefCell;
use std::collections::BTreeSet;
use std::hash::{Hash, Hasher};

const I8: &str = "I8: each port is read once, in order, across reloads";

/// How many ports are rung in all: the ring is filled, and wraps, more than once.
const PORTS: u32 = 6;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
struct Page {
    entries: [u32; 2],
    signal_masked: bool,
    ring_full: bool,
}

struct Live(RefCell<Page>);

impl RingMemory for Live {
    const ENTRIES: u8 = 2;
    fn entry(&self, index: u8) -> u32 {
        self.0.borrow().entries[usize::from(index)]
    }
    fn set_entry(&self, index: u8, port: u32) {
        self.0.borrow_mut().entries[usize::from(index)] = port;
    }
    fn signal_masked(&self) -> bool {
        self.0.borrow().signal_masked
    }
    fn set_signal_masked(&self, masked: bool) {
        self.0.borrow_mut().signal_masked = masked;
    }
    fn ring_full(&self) -> bool {
        self.0.borrow().ring_full
    }
    fn set_ring_full(&self, full: bool) {
        self.0.borrow_mut().ring_full = full;
    }
    fn fence(&self) {}
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Ring {
    /// `None` while MSHV is gone.
    page: Option<Page>,
    /// The producer's head, what it can take back, and what waits.
    head: u8,
    unread: u8,
    waiting: Vec<PortId>,
    consumer: RingConsumer,
    rung: u32,
    read: u32,
    /// A read gave the wrong port, or none though there were some.
    is_wrong: bool,
}

impl Hash for Ring {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (self.page, self.head, self.unread, &self.waiting).hash(state);
        // The tail is the consumer's own.
        format!("{:?}", self.consumer).hash(state);
        (self.rung, self.read, self.is_wrong).hash(state);
    }
}

impl Ring {
    fn new() -> Self {
        Self {
            page: Some(Page::default()),
            head: 0,
            unread: 0,
            waiting: Vec::new(),
            consumer: RingConsumer::new(),
            rung: 0,
            read: 0,
            is_wrong: false,
        }
    }

    /// Lets the real producer work on the page, which is the third argument, and the consumer.
    fn work(&mut self, work: impl FnOnce(&mut RingProducer, &mut RingConsumer, Option<&Live>)) {
        let waiting = std::mem::take(&mut self.waiting);
        let mut producer = RingProducer::restore(self.head, self.unread, waiting).unwrap();
        let live = self.page.map(|page| Live(RefCell::new(page)));
        work(&mut producer, &mut self.consumer, live.as_ref());
        self.page = live.map(|live| live.0.into_inner());
        (self.head, self.unread) = (producer.head(), producer.unread());
        self.waiting = producer.waiting().collect();
    }

    fn ring(&mut self) {
        self.rung += 1;
        let port = PortId::new(self.rung).unwrap();
        self.work(|producer, _, page| {
            let entered = page.is_some_and(|page| producer.enter(page, port));
            if !entered {
                producer.ring(port);
            }
            page.map(|page| producer.refill(page));
        });
    }

    fn read(&mut self) {
        let mut port = None;
        self.work(|producer, consumer, page| {
            let page = page.expect("MSHV is there");
            port = consumer.next(page, || _ = producer.refill(page));
        });
        let due = (self.read < self.rung).then_some(self.read + 1);
        self.is_wrong |= port != due;
        self.read += u32::from(port.is_some());
    }

    fn unload(&mut self) {
        self.work(|producer, _, page| {
            page.map(|page| producer.reclaim(page));
        });
        self.page = None;
    }

    fn load(&mut self) {
        self.page = Some(Page::default());
        self.work(|producer, _, page| {
            page.map(|page| producer.refill(page));
        });
    }
}

struct Reload {
    /// The read position goes with the claims, which would be wrong.
    forgets: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Ring,
    Read,
    Unload,
    Load,
}

impl Model for Reload {
    type State = Ring;
    type Action = Step;

    fn init_states(&self) -> Vec<Ring> {
        vec![Ring::new()]
    }

    fn actions(&self, ring: &Ring, steps: &mut Vec<Step>) {
        if ring.rung < PORTS {
            steps.push(Step::Ring);
        }
        if ring.page.is_some() {
            steps.extend([Step::Read, Step::Unload]);
        } else {
            steps.push(Step::Load);
        }
    }

    fn next_state(&self, last: &Ring, step: Step) -> Option<Ring> {
        let mut ring = last.clone();
        match step {
            Step::Ring => ring.ring(),
            Step::Read => ring.read(),
            Step::Unload => ring.unload(),
            Step::Load => ring.load(),
        }
        if step == Step::Unload && self.forgets {
            ring.consumer = RingConsumer::new();
        }
        Some(ring)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(I8, |_, ring: &Ring| !ring.is_wrong),
            Property::sometimes("ports wait while MSHV is gone", |_, ring: &Ring| {
                ring.page.is_none() && ring.waiting.len() > 2
            }),
            Property::sometimes("all ports were read", |_, ring: &Ring| ring.read == PORTS),
        ]
    }
}

#[test]
fn ring_when_mshv_is_reloaded_at_any_time_gives_each_port_once_in_order() {
    let (states, broken, _) = visit(Reload { forgets: false });
    println!("event ring across reloads: {states} states");
    assert_eq!(broken, BTreeSet::new());
    assert!(states >= 100, "{states}");
}

#[test]
fn ring_when_its_read_position_goes_with_the_claims_breaks_i8() {
    let (_, broken, _) = visit(Reload { forgets: true });
    assert_eq!(broken, BTreeSet::from([I8]));
}
