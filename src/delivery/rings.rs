// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! The event-ring half of a SynIC: the page, and a producer for each ring in use.
//!
//! One lock of the VP guards it. A port that is rung is never lost: with the page off or the ring
//! full it waits, and when the guest takes the page away, what it has not read is taken back.

use crate::abi::{PerSint, PortId, SintIndex};
use crate::delivery::event_ring::{PageRing, RingMemory, RingProducer, Rung};
use crate::error::NotReady;
use crate::observe::RingCounters;
use crate::page::{GuestPage, GuestSpace};

/// The event ring page and the rings on it.
#[derive(Debug)]
pub(crate) struct Rings<AS: GuestSpace> {
    page: Option<GuestPage<AS>>,
    /// Made when first rung: few SINTs ever have a ring.
    rings: PerSint<Option<Box<Ring>>>,
    /// Nothing is written to the page while set.
    paused: bool,
    /// The guest has left the page on, but nobody there reads it any more.
    abandoned: bool,
}

/// One SINT's ring.
#[derive(Debug, Default)]
pub(crate) struct Ring {
    pub producer: RingProducer,
    pub counters: RingCounters,
}

impl<AS: GuestSpace> Rings<AS> {
    pub fn new() -> Self {
        Self {
            page: None,
            rings: Default::default(),
            paused: false,
            abandoned: false,
        }
    }

    /// Rings a port on `sint`. True: signal the guest. `ready` says whether SCONTROL and the SINT
    /// let it through; if not, [`announce`](Self::announce) catches up when they do.
    pub fn ring(&mut self, sint: SintIndex, port: PortId, ready: Result<(), NotReady>) -> bool {
        self.ring_mut(sint).counters.rung += 1;
        let may_enter = may_enter(ready);
        let entered = may_enter && self.enter(sint, port) || self.wait(sint, port, may_enter);
        entered && ready.is_ok() && self.take_signal(sint)
    }

    /// Writes a port into the ring if none waits and there is room, which is nearly always.
    fn enter(&mut self, sint: SintIndex, port: PortId) -> bool {
        let entered = self
            .on_page(sint, |producer, ring| producer.enter(ring, port))
            .unwrap_or(false);
        self.ring_mut(sint).counters.entered += u64::from(entered);
        entered
    }

    /// Has a port wait behind others. True: there was room, for them or for it.
    fn wait(&mut self, sint: SintIndex, port: PortId, may_enter: bool) -> bool {
        let rung = self.ring_mut(sint).producer.ring(port);
        let entered = may_enter && self.refill(sint);
        let ring = self.ring_mut(sint);
        match rung {
            Rung::Coalesced => ring.counters.coalesced += 1,
            // The newest is the last to find room.
            Rung::Waiting if ring.producer.waiting().len() != 0 => ring.counters.held += 1,
            Rung::Waiting => {}
        }
        entered
    }

    /// The guest has drained a full ring (`HvNotifyPortRingEmpty`): moves in what was held back.
    /// No signal: the guest looks at the ring when its hypercall returns.
    pub fn ring_empty(&mut self, sint: SintIndex) {
        self.ring_mut(sint).counters.ring_empty += 1;
        self.refill(sint);
    }

    /// After a pause: moves in what was held back. True: signal the guest.
    pub fn refresh(&mut self, sint: SintIndex, ready: Result<(), NotReady>) -> bool {
        if !self.is_used(sint) || !may_enter(ready) {
            return false;
        }
        // A guest that was told of a full ring asks for the rest when it has drained it.
        if self.on_page(sint, |_, ring| ring.ring_full()) == Some(false) {
            self.refill(sint);
        }
        // Not only for what came in now: the SINT may have come on during the pause.
        ready.is_ok() && self.is_undrained(sint) && self.take_signal(sint)
    }

    /// After a page, the SynIC or a SINT came on: moves in what was held back. True: signal the
    /// guest, `sint`'s ring holds anything that it must hear of. One signal too many does no harm,
    /// one too few loses doorbells.
    pub fn announce(&mut self, sint: SintIndex, ready: Result<(), NotReady>) -> bool {
        if !self.is_used(sint) || !may_enter(ready) {
            return false;
        }
        self.refill(sint);
        if ready.is_err() {
            return false;
        }
        let undrained = self.is_undrained(sint);
        if undrained {
            self.on_page(sint, |_, ring| ring.set_signal_masked(true));
            self.ring_mut(sint).counters.notices += 1;
        }
        undrained
    }

    /// Takes another page in use, or none. The guest's tail stays where it is, so unread entries
    /// go along.
    pub fn set_page(&mut self, page: Option<GuestPage<AS>>) {
        SintIndex::all().for_each(|sint| self.reclaim(sint));
        self.page = page;
        self.abandoned = false;
    }

    /// Remaps the page that is in use, after the memory map changed.
    pub fn replace_mapping(&mut self, page: Option<GuestPage<AS>>) {
        self.page = page.filter(|_| !self.abandoned);
    }

    /// Puts saved rings back, and forgets all others.
    pub fn restore(
        &mut self,
        page: Option<GuestPage<AS>>,
        abandoned: bool,
        rings: impl IntoIterator<Item = (SintIndex, Ring)>,
    ) {
        self.abandoned = abandoned;
        self.replace_mapping(page);
        self.rings = Default::default();
        for (sint, ring) in rings {
            self.rings[sint] = Some(Box::new(ring));
        }
    }

    /// The guest's tails are gone: forgets heads and waiting ports, and leaves alone a page that
    /// nobody reads any more. The next [`set_page`](Self::set_page) starts at entry 0.
    pub fn rewind(&mut self) {
        self.abandoned |= self.page.take().is_some();
        for ring in self.rings.iter_mut().filter_map(|(_, ring)| ring.as_mut()) {
            ring.counters.forgotten += ring.producer.waiting().len() as u64;
            ring.producer = RingProducer::default();
        }
    }

    /// A port no longer waits for room in a ring. False: it did not.
    pub fn forget(&mut self, sint: SintIndex, port: PortId) -> bool {
        let ring = self.rings[sint].as_mut();
        ring.is_some_and(|ring| {
            let waited = ring.producer.forget(port);
            ring.counters.forgotten += u64::from(waited);
            waited
        })
    }

    /// Ports that wait because the page is off.
    pub fn stranded(&self) -> Vec<(SintIndex, PortId)> {
        let rings = self.iter().filter(|_| self.page.is_none());
        rings
            .flat_map(|(sint, ring)| ring.producer.waiting().map(move |port| (sint, port)))
            .collect()
    }

    pub fn set_paused(&mut self, paused: bool) {
        self.paused = paused;
    }

    pub fn is_enabled(&self) -> bool {
        self.page.is_some()
    }

    /// Whether the guest has left the page on, but nobody there reads it any more.
    pub fn is_abandoned(&self) -> bool {
        self.abandoned
    }

    /// The counters of every ring.
    pub fn all_counters(&self) -> PerSint<RingCounters> {
        PerSint::from_fn(|sint| self.counters(sint))
    }

    /// The counters of a ring, with what waits at this moment.
    pub fn counters(&self, sint: SintIndex) -> RingCounters {
        let ring = self.rings[sint].as_deref();
        ring.map_or_else(RingCounters::default, |ring| RingCounters {
            waiting: ring.producer.waiting().len() as u64,
            ..ring.counters
        })
    }

    fn is_used(&self, sint: SintIndex) -> bool {
        self.rings[sint].is_some()
    }

    /// The rings in use.
    pub fn iter(&self) -> impl Iterator<Item = (SintIndex, &Ring)> {
        let rings = self.rings.iter();
        rings.filter_map(|(sint, ring)| Some((sint, ring.as_deref()?)))
    }

    /// The ring of a SINT, made if need be.
    pub fn ring_mut(&mut self, sint: SintIndex) -> &mut Ring {
        self.rings[sint].get_or_insert_default()
    }

    /// Paused or not: the guest's own write is what gives the page up, and this is the last chance.
    fn reclaim(&mut self, sint: SintIndex) {
        let (Some(page), Some(ring)) = (&self.page, &mut self.rings[sint]) else {
            return;
        };
        let before = ring.producer.waiting().len();
        let reclaimed = ring.producer.reclaim(&PageRing::new(page, sint));
        let added = ring.producer.waiting().len().saturating_sub(before) as u64;
        ring.counters.reclaimed += reclaimed;
        // The others wait already, or the guest has overwritten them.
        ring.counters.coalesced += reclaimed.saturating_sub(added);
    }

    fn refill(&mut self, sint: SintIndex) -> bool {
        let entered = self.on_page(sint, |producer, ring| producer.refill(ring));
        let entered = entered.unwrap_or(0);
        self.ring_mut(sint).counters.entered += entered;
        entered > 0
    }

    fn is_undrained(&mut self, sint: SintIndex) -> bool {
        self.on_page(sint, |producer, ring| producer.is_undrained(ring))
            .unwrap_or(false)
    }

    fn take_signal(&mut self, sint: SintIndex) -> bool {
        let signal = self
            .on_page(sint, |_, ring| RingProducer::take_signal(ring))
            .unwrap_or(false);
        self.ring_mut(sint).counters.notices += u64::from(signal);
        signal
    }

    /// Runs `act` on the ring's producer and its place in the page; `None` if the page is off.
    fn on_page<R>(
        &mut self,
        sint: SintIndex,
        act: impl FnOnce(&mut RingProducer, &PageRing<'_, AS>) -> R,
    ) -> Option<R> {
        let page = self.page.as_ref().filter(|_| !self.paused)?;
        let ring = self.rings[sint].get_or_insert_default();
        Some(act(&mut ring.producer, &PageRing::new(page, sint)))
    }
}

/// Whether ports may be written into a ring: a mask only silences it.
fn may_enter(ready: Result<(), NotReady>) -> bool {
    matches!(ready, Ok(()) | Err(NotReady::Masked))
}
