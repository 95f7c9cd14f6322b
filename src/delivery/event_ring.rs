// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! The event ring of one SINT: 63 port ids that the hypervisor writes and the guest clears.
//!
//! Neither index is in the page. The hypervisor keeps its head, the guest its tail, and an entry
//! that is not 0 is the hypervisor's word to the guest; 0 is the guest's word back. Two flags go
//! with the entries:
//!
//! - `signal_masked`: the guest is draining, spare it the interrupt. The guest clears it *before*
//!   its last look at the ring, we set it *after* writing an entry: both store, fence, then load
//!   what the other stored, so no entry waits without a signal.
//! - `ring_full`: we could not write an entry. The guest clears it *before* it tells us by
//!   `HvNotifyPortRingEmpty`, so that an overflow during our refill is told anew.
//!
//! The guest's side is Linux's `synic_event_ring_get_queued_port`; ours is its mirror, which no
//! document describes.

use crate::abi::{PortId, SintIndex};
use crate::page::{GuestPage, GuestSpace};
use std::collections::{HashSet, VecDeque};
use std::sync::atomic::{Ordering, fence};

/// The words of an event ring, as both sides see them.
pub trait RingMemory {
    /// How many entries the ring has.
    const ENTRIES: u8 = 63;
    /// Reads an entry, Acquire: pairs with the other side's `set_entry`.
    fn entry(&self, index: u8) -> u32;
    /// Writes an entry, Release: pairs with the other side's `entry`.
    fn set_entry(&self, index: u8, port: u32);
    /// Whether the guest wants no signal.
    fn signal_masked(&self) -> bool;
    /// Sets or clears `signal_masked`.
    fn set_signal_masked(&self, masked: bool);
    /// Whether the hypervisor holds entries back.
    fn ring_full(&self) -> bool;
    /// Sets or clears `ring_full`.
    fn set_ring_full(&self, full: bool);
    /// A full barrier, store to load.
    fn fence(&self);
}

/// What became of a port that was rung.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rung {
    /// It waits in the overflow set until the guest has drained the ring.
    Waiting,
    /// It waited there already; the guest will see it once.
    Coalesced,
}

/// The hypervisor's side.
#[derive(Debug, Default)]
pub(crate) struct RingProducer {
    /// The next entry to write. It never rewinds while the guest's tail lives on, and that
    /// outlives a reload of the guest's driver (Linux `hv_synic_eventring_tail`).
    head: u8,
    /// How many entries the guest can have left unread on this page, 0 to 63.
    unread: u8,
    /// Ports that found no room, in order; each once, so their number is bounded by that of ports.
    overflow: VecDeque<PortId>,
    overflowed: HashSet<PortId>,
}

impl RingProducer {
    /// Writes a port into the ring, unless others wait or there is no room: it must wait then.
    pub fn enter(&mut self, ring: &impl RingMemory, port: PortId) -> bool {
        let enters = self.overflow.is_empty() && has_room(ring, self.head);
        if enters {
            self.write(ring, port);
        }
        enters
    }

    /// Adds a port to those that wait for an entry; [`refill`](Self::refill) moves it on.
    pub fn ring(&mut self, port: PortId) -> Rung {
        if !self.overflowed.insert(port) {
            return Rung::Coalesced;
        }
        self.overflow.push_back(port);
        Rung::Waiting
    }

    /// Takes a port out of those that wait; says whether it was there.
    pub fn forget(&mut self, port: PortId) -> bool {
        let waited = self.overflowed.remove(&port);
        if waited {
            self.overflow.retain(|waiting| *waiting != port);
        }
        waited
    }

    /// Writes waiting ports into the ring while there is room; says how many.
    pub fn refill(&mut self, ring: &impl RingMemory) -> u64 {
        let mut entered = 0;
        while let Some(&port) = self.overflow.front() {
            if !has_room(ring, self.head) {
                break;
            }
            self.write(ring, port);
            self.overflow.pop_front();
            self.overflowed.remove(&port);
            entered += 1;
        }
        entered
    }

    /// After entries were written: whether the guest needs a signal for them. Once said, it is not
    /// said again until the guest has drained the ring.
    pub fn take_signal(ring: &impl RingMemory) -> bool {
        // Pairs with the guest's fence between clearing `signal_masked` and its last look.
        ring.fence();
        if ring.signal_masked() {
            return false;
        }
        ring.set_signal_masked(true);
        true
    }

    /// Whether the guest has yet to clear the entry that was written last.
    pub fn is_undrained(&self, ring: &impl RingMemory) -> bool {
        ring.entry(previous(self.head, ring)) != 0
    }

    /// Takes back the entries that the guest has not read, ahead of those that wait, and rewinds
    /// to the first of them: where the guest's tail is. The page is about to be taken away.
    pub fn reclaim(&mut self, ring: &impl RingMemory) -> u64 {
        let mut reclaimed = 0;
        // Not more than was written: the guest must not make us hold ports of its own invention.
        while reclaimed < u64::from(self.unread) {
            let last = previous(self.head, ring);
            let entry = ring.entry(last);
            if entry == 0 {
                break;
            }
            ring.set_entry(last, 0);
            self.head = last;
            reclaimed += 1;
            // The guest may have written nonsense over our entries; it only deceives itself.
            if let Some(port) = PortId::new(entry) {
                if self.overflowed.insert(port) {
                    self.overflow.push_front(port);
                }
            }
        }
        self.unread = 0;
        reclaimed
    }

    /// The next entry to write, 0 to 62.
    pub fn head(&self) -> u8 {
        self.head
    }

    /// How many entries the guest can have left unread on this page, 0 to 63.
    pub fn unread(&self) -> u8 {
        self.unread
    }

    /// Ports that wait for an entry, oldest first.
    pub fn waiting(&self) -> impl ExactSizeIterator<Item = PortId> {
        self.overflow.iter().copied()
    }

    /// A producer that goes on where another stopped; `None` if none can have stopped there.
    pub fn restore(
        head: u8,
        unread: u8,
        waiting: impl IntoIterator<Item = PortId>,
    ) -> Option<Self> {
        let mut producer = Self {
            head,
            unread,
            ..Self::default()
        };
        let mut ports = waiting.into_iter();
        let are_distinct = ports.all(|port| producer.ring(port) == Rung::Waiting);
        (are_distinct && head < PAGE_ENTRIES && unread <= PAGE_ENTRIES).then_some(producer)
    }

    fn write(&mut self, ring: &impl RingMemory, port: PortId) {
        ring.set_entry(self.head, port.get());
        self.head = next(self.head, ring);
        self.unread = Self::entries(ring).min(self.unread + 1);
    }

    fn entries<R: RingMemory>(_: &R) -> u8 {
        R::ENTRIES
    }
}

/// The guest's side: reads one port id after the other, and sleeps only on an empty ring.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RingConsumer {
    tail: u8,
}

impl RingConsumer {
    /// A consumer at the first entry, as a VP that has just come up.
    pub const fn new() -> Self {
        Self { tail: 0 }
    }

    /// The next port id; `None` leaves the ring unmasked, so that the next entry signals.
    ///
    /// `ring_empty` is called when the hypervisor holds entries back: it must make the hypercall
    /// `HvNotifyPortRingEmpty` and return when that is done.
    pub fn next(&mut self, ring: &impl RingMemory, ring_empty: impl FnOnce()) -> Option<u32> {
        let mut port = ring.entry(self.tail);
        if port == 0 {
            port = self.last_look(ring, ring_empty)?;
            ring.set_signal_masked(true);
        }
        ring.set_entry(self.tail, 0);
        self.tail = next(self.tail, ring);
        Some(port)
    }

    /// The ring looks empty: asks for what was held back, then unmasks and looks once more.
    fn last_look(&self, ring: &impl RingMemory, ring_empty: impl FnOnce()) -> Option<u32> {
        // Pairs with the fence of `has_room`: the entries that we cleared must be seen free, or
        // else we must see `ring_full`. Linux has no fence here; there the 63 clears in between
        // outlast any x86 store buffer, which a model with 2 entries cannot show.
        ring.fence();
        if ring.ring_full() {
            ring.set_ring_full(false);
            ring_empty();
            let port = ring.entry(self.tail);
            if port != 0 {
                return Some(port);
            }
        }
        ring.set_signal_masked(false);
        // Pairs with the fence of `take_signal`: the store above must be seen before this look.
        ring.fence();
        Some(ring.entry(self.tail)).filter(|&port| port != 0)
    }
}

/// Tests the entry at `head` for room; if there is none, tells the guest so and looks again.
fn has_room(ring: &impl RingMemory, head: u8) -> bool {
    if ring.entry(head) == 0 {
        return true;
    }
    ring.set_ring_full(true);
    // Pairs with the guest's fence between clearing entries and looking at `ring_full`.
    ring.fence();
    ring.entry(head) == 0
}

fn next<R: RingMemory>(index: u8, _: &R) -> u8 {
    if index + 1 >= R::ENTRIES {
        0
    } else {
        index + 1
    }
}

fn previous<R: RingMemory>(index: u8, _: &R) -> u8 {
    if index == 0 {
        R::ENTRIES - 1
    } else {
        index - 1
    }
}

/// The event ring of one SINT in the event ring page.
pub(crate) struct PageRing<'a, AS: GuestSpace> {
    page: &'a GuestPage<AS>,
    sint: SintIndex,
}

impl<'a, AS: GuestSpace> PageRing<'a, AS> {
    pub fn new(page: &'a GuestPage<AS>, sint: SintIndex) -> Self {
        Self { page, sint }
    }
}

impl<AS: GuestSpace> RingMemory for PageRing<'_, AS> {
    fn entry(&self, index: u8) -> u32 {
        // Acquire: see the trait.
        let entry = self.page.u32(self.sint, FIRST_ENTRY_WORD + index);
        entry.load(Ordering::Acquire)
    }

    fn set_entry(&self, index: u8, port: u32) {
        // Release: see the trait.
        let entry = self.page.u32(self.sint, FIRST_ENTRY_WORD + index);
        entry.store(port, Ordering::Release);
        self.page.mark_dirty(self.sint);
    }

    fn signal_masked(&self) -> bool {
        // Relaxed, here and below: the callers fence.
        let masked = self.page.u8(self.sint, SIGNAL_MASKED_BYTE);
        masked.load(Ordering::Relaxed) != 0
    }

    fn set_signal_masked(&self, masked: bool) {
        let byte = self.page.u8(self.sint, SIGNAL_MASKED_BYTE);
        byte.store(masked.into(), Ordering::Relaxed);
        self.page.mark_dirty(self.sint);
    }

    fn ring_full(&self) -> bool {
        let full = self.page.u8(self.sint, RING_FULL_BYTE);
        full.load(Ordering::Relaxed) != 0
    }

    fn set_ring_full(&self, full: bool) {
        let byte = self.page.u8(self.sint, RING_FULL_BYTE);
        byte.store(full.into(), Ordering::Relaxed);
        self.page.mark_dirty(self.sint);
    }

    fn fence(&self) {
        fence(Ordering::SeqCst);
    }
}

/// Offsets in a ring (Linux `hv_synic_event_ring`).
const SIGNAL_MASKED_BYTE: u8 = 0;
const RING_FULL_BYTE: u8 = 1;
const FIRST_ENTRY_WORD: u8 = 1;
const PAGE_ENTRIES: u8 = 63;

#[cfg(test)]
#[path = "event_ring_tests.rs"]
mod tests;
