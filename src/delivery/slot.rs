// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! The message slot: one message at a time, handed over by its type word.
//!
//! | | hypervisor ([`post`]) | guest |
//! |---|---|---|
//! | free slot | body, then the type with Release | reads the type with Acquire, then the body |
//! | busy slot | sets `msg_pending`, fence, reads the type again | type = 0, fence, reads `msg_pending`: if set, writes EOM |
//!
//! Both sides of the second row store, fence and then load what the other stored, so at least one
//! sees the other: either we find the slot free after all, or the guest owes us an EOM
//! (TLFS `HV_MESSAGE_FLAGS`; KVM `synic_deliver_msg`). That is why a message may be posted from
//! any thread while the VP runs. One poster at a time: the caller holds the VP's message lock.

use crate::abi::{Message, SintIndex};
use crate::page::{GuestPage, GuestSpace};
use std::sync::atomic::{Ordering, fence};

/// The words of a slot, as both sides see them.
pub(crate) trait SlotMemory {
    /// Reads the type word, Acquire: pairs with the guest's clear, so that we do not write over
    /// what it still reads, and with [`publish`](Self::publish).
    fn message_type(&self) -> u32;
    /// Writes everything but the type word.
    fn write_body(&self, message: &Message, pending: bool);
    /// Writes the type word, Release: pairs with the guest's read of it.
    fn publish(&self, message_type: u32);
    /// Sets `msg_pending` by an atomic OR; the guest may be clearing the slot.
    fn set_pending(&self);
    /// A full barrier, store to load.
    fn fence(&self);
}

/// What became of a [`post`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SlotPost {
    /// The message is in the slot.
    Delivered,
    /// The slot is taken; the guest will write EOM when it has emptied it.
    Busy,
}

/// Puts a message into the slot if it is free, or else asks the guest for an EOM.
///
/// `more` says that others wait behind this one, so that the guest owes an EOM for it too.
pub(crate) fn post(slot: &impl SlotMemory, message: &Message, more: bool) -> SlotPost {
    if is_busy(slot) {
        return SlotPost::Busy;
    }
    slot.write_body(message, more);
    slot.publish(message.message_type().get());
    SlotPost::Delivered
}

/// Tests the slot and, if it is taken, leaves a request for an EOM in it.
fn is_busy(slot: &impl SlotMemory) -> bool {
    if slot.message_type() == 0 {
        return false;
    }
    slot.set_pending();
    // Pairs with the guest's fence: between its clear and its read of `msg_pending`.
    slot.fence();
    slot.message_type() != 0
}

/// The slot of one SINT in the message page.
pub(crate) struct PageSlot<'a, AS: GuestSpace> {
    page: &'a GuestPage<AS>,
    sint: SintIndex,
}

impl<'a, AS: GuestSpace> PageSlot<'a, AS> {
    pub fn new(page: &'a GuestPage<AS>, sint: SintIndex) -> Self {
        Self { page, sint }
    }
}

impl<AS: GuestSpace> SlotMemory for PageSlot<'_, AS> {
    fn message_type(&self) -> u32 {
        // Acquire: see the trait.
        self.page.u32(self.sint, TYPE_WORD).load(Ordering::Acquire)
    }

    fn write_body(&self, message: &Message, pending: bool) {
        // Relaxed throughout: `publish` releases it all.
        self.page
            .u32(self.sint, SIZE_WORD)
            .store(message.size_and_flags(pending), Ordering::Relaxed);
        self.page
            .u64(self.sint, SENDER_QWORD)
            .store(message.sender(), Ordering::Relaxed);
        for (index, word) in (PAYLOAD_QWORD..).zip(message.payload_words()) {
            self.page
                .u64(self.sint, index)
                .store(word, Ordering::Relaxed);
        }
    }

    fn publish(&self, message_type: u32) {
        // Release: see the trait.
        self.page
            .u32(self.sint, TYPE_WORD)
            .store(message_type, Ordering::Release);
        self.page.mark_dirty(self.sint);
    }

    fn set_pending(&self) {
        self.page
            .u8(self.sint, FLAGS_BYTE)
            .fetch_or(MSG_PENDING, Ordering::SeqCst);
        self.page.mark_dirty(self.sint);
    }

    fn fence(&self) {
        fence(Ordering::SeqCst);
    }
}

/// Offsets in a slot (TLFS `HV_MESSAGE_HEADER`): type, size with flags, sender, payload.
const TYPE_WORD: u8 = 0;
const SIZE_WORD: u8 = 1;
const FLAGS_BYTE: u8 = 5;
const SENDER_QWORD: u8 = 1;
const PAYLOAD_QWORD: u8 = 2;
const MSG_PENDING: u8 = 1;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::abi::MessageType;
    use loom::sync::atomic::{AtomicU8, AtomicU32, fence as loom_fence};
    use loom::thread;
    use std::collections::VecDeque;
    use std::sync::Arc;
    use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};

    /// A slot on loom's atomics: type, flags, and one word that stands for the body.
    struct LoomSlot {
        message_type: AtomicU32,
        flags: AtomicU8,
        body: AtomicU32,
    }

    impl SlotMemory for LoomSlot {
        fn message_type(&self) -> u32 {
            self.message_type.load(Ordering::Acquire)
        }
        fn write_body(&self, message: &Message, pending: bool) {
            self.flags.store(pending.into(), Ordering::Relaxed);
            let body = message.payload().first().copied().unwrap_or(0);
            self.body.store(body.into(), Ordering::Relaxed);
        }
        fn publish(&self, message_type: u32) {
            self.message_type.store(message_type, Ordering::Release);
        }
        fn set_pending(&self) {
            self.flags.fetch_or(MSG_PENDING, Ordering::SeqCst);
        }
        fn fence(&self) {
            loom_fence(Ordering::SeqCst);
        }
    }

    /// What a guest does with a slot: the body it read, and whether it owes an EOM.
    fn take(slot: &LoomSlot) -> Option<(u32, bool)> {
        if slot.message_type.load(Ordering::Acquire) == 0 {
            return None;
        }
        let body = slot.body.load(Ordering::Relaxed);
        slot.message_type.store(0, Ordering::Release);
        // Pairs with the fence of `is_busy`.
        loom_fence(Ordering::SeqCst);
        Some((body, slot.flags.load(Ordering::Relaxed) & MSG_PENDING != 0))
    }

    fn message(body: u8) -> Message {
        Message::new(MessageType::VMBUS, &[body]).unwrap()
    }

    fn full_slot(body: u32) -> LoomSlot {
        LoomSlot {
            message_type: AtomicU32::new(1),
            flags: AtomicU8::new(0),
            body: AtomicU32::new(body),
        }
    }

    #[test]
    fn post_when_guest_empties_the_slot_is_delivered_or_owed_an_eom() {
        loom::model(|| {
            let slot = loom::sync::Arc::new(full_slot(7));
            let host = {
                let slot = slot.clone();
                thread::spawn(move || post(&*slot, &message(8), false))
            };

            let (first, eom) = take(&slot).unwrap();
            let posted = host.join().unwrap();

            assert_eq!(first, 7, "the slot was overwritten before it was free");
            match posted {
                SlotPost::Delivered => assert_eq!(take(&slot).map(|(body, _)| body), Some(8)),
                SlotPost::Busy => assert!(eom, "nobody will deliver the second message"),
            }
        });
    }

    #[test]
    fn take_of_a_published_message_sees_its_body() {
        loom::model(|| {
            let slot = loom::sync::Arc::new(full_slot(0));
            slot.message_type.store(0, Ordering::Release);
            let host = {
                let slot = slot.clone();
                thread::spawn(move || post(&*slot, &message(8), true))
            };

            // A guest that polls. (Without the yield loom tries one interleaving only.)
            let (body, eom) = loop {
                match take(&slot) {
                    Some(taken) => break taken,
                    None => thread::yield_now(),
                }
            };
            assert_eq!((body, eom), (8, true));
            assert_eq!(host.join().unwrap(), SlotPost::Delivered);
        });
    }

    /// Two messages are posted while the guest takes what comes and answers each `msg_pending` by
    /// an EOM, which delivers what waits. A message that nobody delivers would have the guest poll
    /// for ever, which loom reports.
    #[test]
    fn post_and_eom_while_guest_takes_deliver_both_in_order() {
        loom::model(|| {
            let slot = loom::sync::Arc::new(full_slot(7));
            let waiting = loom::sync::Arc::new(loom::sync::Mutex::new(VecDeque::new()));
            let host = {
                let (slot, waiting) = (slot.clone(), waiting.clone());
                thread::spawn(move || {
                    let mut waiting = waiting.lock().unwrap();
                    if post(&*slot, &message(8), false) == SlotPost::Busy {
                        waiting.push_back(message(8));
                    }
                })
            };

            let mut taken = Vec::new();
            while taken.len() < 2 {
                let Some((body, eom)) = take(&slot) else {
                    thread::yield_now();
                    continue;
                };
                taken.push(body);
                let mut waiting = waiting.lock().unwrap();
                let next = waiting.front().filter(|_| eom);
                if next.is_some_and(|next| post(&*slot, next, false) == SlotPost::Delivered) {
                    waiting.pop_front();
                }
            }

            assert_eq!(taken, [7, 8]);
            host.join().unwrap();
        });
    }

    #[test]
    fn post_to_a_page_writes_the_layout_of_hv_message() {
        let memory: GuestMemoryMmap<()> =
            GuestMemoryMmap::from_ranges(&[(GuestAddress(0), 0x2000)]).unwrap();
        let space = Arc::new(memory);
        let page = GuestPage::map(&space, 0x1000).unwrap();
        let message = Message::new(MessageType::VMBUS, b"payload").unwrap();

        let slot = PageSlot::new(&page, SintIndex::VMBUS);
        let posted = post(&slot, &message.with_sender(0x11), true);

        let mut bytes = [0; 24];
        space.read_slice(&mut bytes, GuestAddress(0x1200)).unwrap();
        assert_eq!(posted, SlotPost::Delivered);
        assert_eq!(bytes, *b"\x01\0\0\0\x07\x01\0\0\x11\0\0\0\0\0\0\0payload\0");
    }

    #[test]
    fn post_to_a_busy_page_leaves_the_message_and_sets_pending() {
        let memory: GuestMemoryMmap<()> =
            GuestMemoryMmap::from_ranges(&[(GuestAddress(0), 0x1000)]).unwrap();
        let space = Arc::new(memory);
        let page = GuestPage::map(&space, 0).unwrap();
        let slot = PageSlot::new(&page, SintIndex::INTERCEPT);
        post(&slot, &message(1), false);

        let posted = post(&slot, &message(2), false);

        assert_eq!(posted, SlotPost::Busy);
        assert_eq!(space.read_obj::<u8>(GuestAddress(5)).unwrap(), MSG_PENDING);
        assert_eq!(space.read_obj::<u8>(GuestAddress(16)).unwrap(), 1);
    }
}
