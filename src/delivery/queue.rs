// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! The bounded FIFO of messages that wait for one SINT's slot, and what became of each message.

use crate::abi::{Message, MessageType, SINT_COUNT, SintIndex};
use crate::observe::MessageCounters;
use std::collections::VecDeque;

/// Messages that wait for one slot, oldest first.
#[derive(Debug, Default)]
pub(crate) struct SintQueue {
    waiting: VecDeque<Message>,
    /// SINTs whose event ring has a notice waiting here: one is enough, however many entries the
    /// ring holds by the time the guest reads it.
    notices: u16,
    /// A post was refused for want of room; the poster wants to hear when there is some.
    refused: bool,
    pub counters: MessageCounters,
}

impl SintQueue {
    /// Appends a message unless `depth` are waiting.
    pub fn push(&mut self, message: &Message, depth: u16) -> Result<(), Full> {
        // Notices come on top of `depth`: at most one for each SINT, and never refused.
        let room = usize::from(depth) + self.notices.count_ones() as usize;
        if self.waiting.len() >= room {
            self.refused = true;
            return Err(Full);
        }
        self.append(message);
        Ok(())
    }

    /// Appends a message in the place of one that has just left.
    pub fn append(&mut self, message: &Message) {
        self.waiting.push_back(*message);
    }

    /// Appends the notice that `ring`'s event ring has entries, unless one waits already.
    pub fn push_notice(&mut self, ring: SintIndex, notice: &Message) {
        if self.notices & ring.bit() == 0 {
            self.notices |= ring.bit();
            self.waiting.push_back(*notice);
        }
    }

    /// The next message, and whether others wait behind it.
    pub fn front(&self) -> Option<(&Message, bool)> {
        self.waiting
            .front()
            .map(|next| (next, self.waiting.len() > 1))
    }

    /// Removes the message that `front` gave.
    pub fn pop(&mut self) {
        if let Some(message) = self.waiting.pop_front() {
            if let Some(ring) = notice_of(&message) {
                self.notices &= !ring.bit();
            }
        }
    }

    /// Whether somebody was refused room that is here now; asked once.
    pub fn take_writable(&mut self, depth: u16) -> bool {
        // Without a queue, an EOM frees the slot itself.
        let writable = self.refused && self.waiting.len() < usize::from(depth.max(1));
        self.refused &= !writable;
        writable
    }

    /// Forgets all that wait, and says how many they were.
    pub fn clear(&mut self) -> u64 {
        let dropped = self.waiting.len() as u64;
        self.waiting.clear();
        self.notices = 0;
        dropped
    }

    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// For saved state: all that wait, oldest first.
    pub fn iter(&self) -> impl Iterator<Item = &Message> {
        self.waiting.iter()
    }

    /// Whether a poster waits to hear of room.
    pub fn has_refused(&self) -> bool {
        self.refused
    }

    /// From saved state. `None` if more wait than `depth`, and a notice of each SINT.
    pub fn restore(messages: &[Message], refused: bool, depth: u16) -> Option<Self> {
        let notices = messages.iter().filter_map(notice_of);
        let queue = Self {
            notices: notices.fold(0, |notices, ring| notices | ring.bit()),
            waiting: messages.iter().copied().collect(),
            refused,
            counters: MessageCounters::default(),
        };
        (queue.len() <= usize::from(depth) + SINT_COUNT).then_some(queue)
    }
}

/// The queue has no room.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Full;

/// The SINT whose ring a message announces, if it is a notice: {u32 sint_index}.
fn notice_of(message: &Message) -> Option<SintIndex> {
    if message.message_type() != MessageType::SYNIC_SINT_INTERCEPT {
        return None;
    }
    let index = u32::from_le_bytes(message.payload().try_into().ok()?);
    SintIndex::try_from(index).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(body: u8) -> Message {
        Message::new(MessageType::VMBUS, &[body]).unwrap()
    }

    fn notice(ring: SintIndex) -> Message {
        let payload = u32::from(ring).to_le_bytes();
        Message::new(MessageType::SYNIC_SINT_INTERCEPT, &payload).unwrap()
    }

    fn bodies(queue: &SintQueue) -> Vec<Option<u8>> {
        queue.iter().map(|m| m.payload().first().copied()).collect()
    }

    #[test]
    fn push_beyond_depth_is_refused_and_keeps_the_order() {
        let mut queue = SintQueue::default();
        let pushed: Vec<_> = (1..=3).map(|i| queue.push(&message(i), 2)).collect();
        assert_eq!(pushed, [Ok(()), Ok(()), Err(Full)]);
        assert_eq!(bodies(&queue), [Some(1), Some(2)]);
    }

    #[test]
    fn take_writable_after_a_refusal_is_true_once_and_only_with_room() {
        let mut queue = SintQueue::default();
        assert_eq!(queue.push(&message(1), 1), Ok(()));
        assert!(!queue.take_writable(1), "nobody was refused yet");
        assert_eq!(queue.push(&message(2), 1), Err(Full));
        assert!(!queue.take_writable(1), "there is no room yet");
        queue.pop();
        assert!(queue.take_writable(1));
        assert!(!queue.take_writable(1));
    }

    #[test]
    fn push_notice_when_one_waits_adds_no_second() {
        let mut queue = SintQueue::default();
        queue.push_notice(SintIndex::DOORBELL, &notice(SintIndex::DOORBELL));
        queue.push_notice(SintIndex::DOORBELL, &notice(SintIndex::DOORBELL));
        assert_eq!(queue.len(), 1);

        queue.pop();
        queue.push_notice(SintIndex::DOORBELL, &notice(SintIndex::DOORBELL));
        assert_eq!(queue.len(), 1, "the next one is due again");
    }

    #[test]
    fn push_notice_to_a_full_queue_is_never_refused() {
        let mut queue = SintQueue::default();
        assert_eq!(queue.push(&message(1), 1), Ok(()));
        queue.push_notice(SintIndex::DOORBELL, &notice(SintIndex::DOORBELL));
        assert_eq!(queue.len(), 2);
        assert_eq!(queue.push(&message(2), 1), Err(Full));
    }

    #[test]
    fn take_writable_without_a_queue_is_true_after_a_refusal() {
        let mut queue = SintQueue::default();
        assert_eq!(queue.push(&message(1), 0), Err(Full));
        assert!(queue.take_writable(0));
    }

    #[test]
    fn restore_of_more_than_depth_and_a_notice_each_is_refused() {
        let messages: Vec<_> = (1..=20).map(message).collect();
        assert!(SintQueue::restore(&messages[..18], false, 2).is_some());
        assert!(SintQueue::restore(&messages[..19], false, 2).is_none());
    }

    #[test]
    fn restore_knows_the_notices_that_wait() {
        let messages = [message(1), notice(SintIndex::DOORBELL)];
        let mut queue = SintQueue::restore(&messages, false, 1).unwrap();
        queue.push_notice(SintIndex::DOORBELL, &notice(SintIndex::DOORBELL));
        assert_eq!(queue.len(), 2);
    }
}
