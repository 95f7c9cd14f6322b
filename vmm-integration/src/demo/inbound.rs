// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! What the guest sends: messages, event flags and the doorbells of the event loop.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use serde::Serialize;
use vm_synic::PortBusy;

use super::fault::{Fault, Kind, What, judge_cyclic, judge_word};
use super::protocol::{FLAGS, MESSAGE_TYPE, WORD_STEP, first_word, payload_size};

/// What has come from one VP, each kind checked against what must come next.
#[derive(Debug, Default)]
pub struct Inbound {
    vp: u32,
    /// Posts, refused ones included.
    posts: AtomicU64,
    messages: AtomicU64,
    flags: AtomicU64,
    /// Doorbells that the event loop has heard.
    doorbells: AtomicU64,
    /// Only the first one: what follows it tells nothing more.
    fault: Mutex<Option<Fault>>,
}

impl Inbound {
    pub fn new(vp: u32) -> Self {
        Self {
            vp,
            ..Default::default()
        }
    }

    /// Takes a message; called for one of the VP's messages at a time. Now and then there is no
    /// room, and the guest has to try again.
    pub fn message(&self, message_type: u32, payload: &[u8]) -> Result<(), PortBusy> {
        let post = self.posts.fetch_add(1, Ordering::SeqCst);
        if post % BUSY_EVERY == BUSY_EVERY - 1 {
            return Err(PortBusy);
        }
        let seq = self.messages.fetch_add(1, Ordering::SeqCst);
        self.judge(check_message(self.vp, seq, message_type, payload));
        Ok(())
    }

    /// Takes an event flag; called for one of the VP's flags at a time.
    pub fn flag(&self, flag: u64) {
        let seq = self.flags.fetch_add(1, Ordering::SeqCst);
        self.judge(check_flag(self.vp, seq, flag));
    }

    /// Takes the value of a doorbell's `EventFd`: how often it rang.
    pub fn doorbells(&self, rang: u64) {
        self.doorbells.fetch_add(rang, Ordering::SeqCst);
    }

    /// What has come so far.
    pub fn received(&self) -> Received {
        let load = |count: &AtomicU64| count.load(Ordering::SeqCst);
        let messages = load(&self.messages);
        Received {
            messages,
            refused: load(&self.posts).saturating_sub(messages),
            flags: load(&self.flags),
            doorbells: load(&self.doorbells),
        }
    }

    /// The first thing that was wrong.
    pub fn fault(&self) -> Option<Fault> {
        self.lock().clone()
    }

    fn judge(&self, result: Result<(), Fault>) {
        if let Err(fault) = result {
            self.lock().get_or_insert(fault);
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Fault>> {
        // Nothing panics while it is held, and the value is valid at any time.
        self.fault.lock().unwrap_or_else(|e| e.into_inner())
    }
}

/// What has come from one VP, as numbers.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize)]
pub struct Received {
    pub messages: u64,
    /// Messages that were told to come again.
    pub refused: u64,
    pub flags: u64,
    /// Doorbells in the event loop.
    pub doorbells: u64,
}

/// The `seq`-th message of `vp` in full.
pub fn message_payload(vp: u32, seq: u64) -> Vec<u8> {
    let mut payload = Vec::new();
    let mut word = first_word(vp, seq);
    for _ in 0..payload_size(seq) / 8 {
        payload.extend(word.to_le_bytes());
        word = word.wrapping_add(WORD_STEP);
    }
    payload
}

fn check_message(vp: u32, seq: u64, message_type: u32, payload: &[u8]) -> Result<(), Fault> {
    if message_type != MESSAGE_TYPE {
        let (expected, got) = (MESSAGE_TYPE.into(), message_type.into());
        return wrong(vp, What::MessageType, Kind::Corrupted, expected, got);
    }
    let (expected, got) = (first_word(vp, seq), words(payload).next().unwrap_or(0));
    if got != expected {
        return wrong(vp, What::Message, judge_word(expected, got), expected, got);
    }
    let (expected, got) = (payload_size(seq), payload.len() as u64);
    if got != expected {
        return wrong(vp, What::MessageSize, Kind::Corrupted, expected, got);
    }
    let planned = message_payload(vp, seq);
    match words(&planned).zip(words(payload)).find(|(e, g)| e != g) {
        Some((expected, got)) => wrong(vp, What::Payload, Kind::Corrupted, expected, got),
        None => Ok(()),
    }
}

fn check_flag(vp: u32, seq: u64, got: u64) -> Result<(), Fault> {
    let expected = seq % FLAGS;
    if got == expected {
        return Ok(());
    }
    let kind = judge_cyclic(expected, got, FLAGS);
    wrong(vp, What::EventFlag, kind, expected, got)
}

fn wrong(vp: u32, what: What, kind: Kind, expected: u64, got: u64) -> Result<(), Fault> {
    Err(Fault {
        vp,
        sint: None,
        what,
        kind,
        expected,
        got,
    })
}

fn words(bytes: &[u8]) -> impl Iterator<Item = u64> {
    let chunks = bytes.chunks_exact(8);
    chunks.map(|chunk| {
        chunk
            .iter()
            .rev()
            .fold(0, |word, byte| word << 8 | u64::from(*byte))
    })
}

/// One post in so many finds no room.
const BUSY_EVERY: u64 = 97;

#[cfg(test)]
mod tests {
    use super::*;

    fn after_messages(sequence: &[u64]) -> Option<Kind> {
        let inbound = Inbound::new(1);
        for seq in sequence {
            let payload = message_payload(1, *seq);
            while inbound.message(MESSAGE_TYPE, &payload).is_err() {}
        }
        inbound.fault().map(|fault| fault.kind)
    }

    fn after_flags(flags: &[u64]) -> Option<Kind> {
        let inbound = Inbound::new(1);
        flags.iter().for_each(|flag| inbound.flag(*flag));
        inbound.fault().map(|fault| fault.kind)
    }

    #[test]
    fn message_when_all_come_in_order_is_no_fault() {
        assert_eq!(after_messages(&(0..500).collect::<Vec<_>>()), None);
    }

    #[test]
    fn message_when_there_is_no_room_is_not_taken() {
        let inbound = Inbound::new(1);
        let taken = (0..BUSY_EVERY)
            .filter(|seq| {
                inbound
                    .message(MESSAGE_TYPE, &message_payload(1, *seq))
                    .is_ok()
            })
            .count() as u64;
        let received = inbound.received();
        assert_eq!((received.messages, received.refused), (taken, 1));
        assert_eq!(taken, BUSY_EVERY - 1);
    }

    #[test]
    fn message_when_one_is_lost_is_a_fault() {
        assert_eq!(after_messages(&[0, 1, 3, 4]), Some(Kind::Lost));
    }

    #[test]
    fn message_when_one_comes_twice_is_a_fault() {
        assert_eq!(
            after_messages(&[0, 1, 1, 2]),
            Some(Kind::DuplicatedOrReordered)
        );
    }

    #[test]
    fn message_when_two_are_swapped_is_a_fault() {
        assert!(after_messages(&[0, 2, 1, 3]).is_some());
    }

    #[test]
    fn message_when_it_is_another_vps_is_a_fault() {
        let inbound = Inbound::new(1);
        inbound
            .message(MESSAGE_TYPE, &message_payload(0, 0))
            .unwrap();
        let fault = inbound.fault().unwrap();
        assert_eq!(
            (fault.vp, fault.what, fault.kind),
            (1, What::Message, Kind::Misrouted)
        );
    }

    #[test]
    fn message_when_a_payload_byte_changed_is_a_fault() {
        let mut payload = message_payload(1, 0);
        payload[15] ^= 1;
        let inbound = Inbound::new(1);
        inbound.message(MESSAGE_TYPE, &payload).unwrap();
        assert_eq!(inbound.fault().unwrap().what, What::Payload);
    }

    #[test]
    fn message_when_cut_short_or_of_another_type_is_a_fault() {
        let payload = message_payload(1, 0);
        let short = check_message(1, 0, MESSAGE_TYPE, &payload[..8]).unwrap_err();
        assert_eq!(short.what, What::MessageSize);
        let typed = check_message(1, 0, MESSAGE_TYPE + 1, &payload).unwrap_err();
        assert_eq!(typed.what, What::MessageType);
        assert!(check_message(1, 0, MESSAGE_TYPE, &[]).is_err());
    }

    #[test]
    fn flag_when_all_come_in_order_is_no_fault() {
        assert_eq!(
            after_flags(&(0..5_000).map(|n| n % FLAGS).collect::<Vec<_>>()),
            None
        );
    }

    #[test]
    fn flag_when_lost_or_twice_is_a_fault() {
        assert_eq!(after_flags(&[0, 1, 3]), Some(Kind::Lost));
        assert_eq!(after_flags(&[0, 1, 1]), Some(Kind::DuplicatedOrReordered));
    }
}
