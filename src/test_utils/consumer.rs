// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! The guest's half of the delivery protocols.

use super::MockGuest;
use crate::abi::{HEADER_SIZE, MESSAGE_SIZE, Message, MessageType, SINT_AREA_SIZE, SintIndex};
use crate::delivery::event_ring::RingMemory;
use crate::ownership::SynicPage;
use crate::page::GuestSpace;
use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering, fence};

impl<AS: GuestSpace> MockGuest<AS> {
    /// What is in a SINT's slot, left there.
    ///
    /// # Panics
    /// If the slot holds no valid message.
    pub fn peek_message(&self, sint: SintIndex) -> Option<Message> {
        let slot = self.area(SynicPage::Message, sint);
        // Acquire: pairs with the hypervisor's Release of the type word, after the body.
        let message_type = self.cell(slot, |cell: &AtomicU32| cell.load(Ordering::Acquire));
        let message_type = MessageType::new(message_type)?;
        let bytes = self.read_ram(slot, MESSAGE_SIZE);
        let sender = u64::from_le_bytes(bytes[8..HEADER_SIZE].try_into().expect("8 bytes"));
        let payload = &bytes[HEADER_SIZE..HEADER_SIZE + usize::from(bytes[4])];
        let message = Message::new(message_type, payload).expect("a slot holds valid messages");
        Some(message.with_sender(sender))
    }

    /// Whether the hypervisor has asked for an EOM after the message that is in the slot, or was.
    pub fn is_message_pending(&self, sint: SintIndex) -> bool {
        let flags = self.area(SynicPage::Message, sint) + 5;
        // Relaxed: who cleared the slot before has fenced.
        self.cell(flags, |cell: &AtomicU8| cell.load(Ordering::Relaxed)) & 1 != 0
    }

    /// Empties a SINT's slot and writes EOM if the hypervisor asks for it (Linux
    /// `vmbus_signal_eom`).
    pub fn take_message(&self, sint: SintIndex) -> Option<Message> {
        let message = self.clear_slot(sint)?;
        // Pairs with the hypervisor's fence: between its setting of `msg_pending` and its second
        // look at the type word.
        fence(Ordering::SeqCst);
        if self.is_message_pending(sint) {
            self.end_of_message();
        }
        Some(message)
    }

    /// Empties a SINT's slot without an EOM, as a guest must not where one is asked for.
    pub fn clear_slot(&self, sint: SintIndex) -> Option<Message> {
        let message = self.peek_message(sint)?;
        let slot = self.area(SynicPage::Message, sint);
        // Release: the hypervisor must not write over what is still read.
        self.cell(slot, |cell: &AtomicU32| cell.store(0, Ordering::Release));
        Some(message)
    }

    /// Empties a SINT's slot until it stays empty.
    pub fn take_messages(&self, sint: SintIndex) -> Vec<Message> {
        std::iter::from_fn(|| self.take_message(sint)).collect()
    }

    /// Clears the flags of a SINT; gives those that were set, ascending.
    pub fn take_flags(&self, sint: SintIndex) -> Vec<u16> {
        let area = self.area(SynicPage::EventFlags, sint);
        let words = (0..32u16).flat_map(|word| {
            let gpa = area + u64::from(word) * 8;
            let set = self.cell(gpa, |cell: &AtomicU64| cell.swap(0, Ordering::SeqCst));
            (0..64).filter_map(move |bit| (set >> bit & 1 != 0).then_some(word * 64 + bit))
        });
        words.collect()
    }

    /// The next port id of a SINT's event ring; `None` leaves the ring waiting for a signal (Linux
    /// `synic_event_ring_get_queued_port`).
    pub fn next_port(&mut self, sint: SintIndex) -> Option<u32> {
        let mut tail = self.tails[sint];
        let port = tail.next(&Ring { guest: self, sint }, || {
            let result = self.notify_ring_empty(sint);
            assert_eq!(result, Some(0), "HvNotifyPortRingEmpty");
        });
        self.tails[sint] = tail;
        port
    }

    /// Every port id of a SINT's event ring (Linux `mshv_doorbell_isr`).
    pub fn drain_ring(&mut self, sint: SintIndex) -> Vec<u32> {
        std::iter::from_fn(|| self.next_port(sint)).collect()
    }

    /// Forgets where its rings were read, as Linux does when the CPU goes offline.
    pub fn forget_tails(&mut self) {
        self.tails = Default::default();
    }

    /// Where the part of a page that belongs to a SINT is.
    pub fn area(&self, page: SynicPage, sint: SintIndex) -> u64 {
        self.page(page) + (sint.index() * SINT_AREA_SIZE) as u64
    }
}

/// One event ring, as the guest sees it.
struct Ring<'a, AS: GuestSpace> {
    guest: &'a MockGuest<AS>,
    sint: SintIndex,
}

impl<AS: GuestSpace> Ring<'_, AS> {
    fn flag<R>(&self, offset: u64, act: impl FnOnce(&AtomicU8) -> R) -> R {
        let ring = self.guest.area(SynicPage::EventRing, self.sint);
        self.guest.cell(ring + offset, act)
    }

    fn entry_cell<R>(&self, index: u8, act: impl FnOnce(&AtomicU32) -> R) -> R {
        let ring = self.guest.area(SynicPage::EventRing, self.sint);
        self.guest.cell(ring + 4 + u64::from(index) * 4, act)
    }
}

impl<AS: GuestSpace> RingMemory for Ring<'_, AS> {
    fn entry(&self, index: u8) -> u32 {
        self.entry_cell(index, |cell| cell.load(Ordering::Acquire))
    }

    fn set_entry(&self, index: u8, port: u32) {
        self.entry_cell(index, |cell| cell.store(port, Ordering::Release));
    }

    fn signal_masked(&self) -> bool {
        // Relaxed, here and below: `RingConsumer` fences.
        self.flag(0, |cell| cell.load(Ordering::Relaxed)) != 0
    }

    fn set_signal_masked(&self, masked: bool) {
        self.flag(0, |cell| cell.store(masked.into(), Ordering::Relaxed));
    }

    fn ring_full(&self) -> bool {
        self.flag(1, |cell| cell.load(Ordering::Relaxed)) != 0
    }

    fn set_ring_full(&self, full: bool) {
        self.flag(1, |cell| cell.store(full.into(), Ordering::Relaxed));
    }

    fn fence(&self) {
        fence(Ordering::SeqCst);
    }
}
