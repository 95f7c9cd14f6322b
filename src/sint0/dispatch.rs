// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! From the slot to the handler, and the slot free again after it.

use super::{Arch, MessageSlot, ParseError, RawSlot, Sint0Handler, SintMessage};
use crate::abi::{MESSAGE_SIZE, VpIndex};

/// What became of the slot. It is empty in any case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Outcome {
    /// There was no message.
    Empty,
    /// The handler took it.
    Handled,
    /// The handler did not, and it is lost.
    Refused,
    /// Its type is not known.
    Unknown,
    /// It contradicts itself.
    Malformed(ParseError),
}

/// How many messages had which [`Outcome`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sint0Counters {
    /// The handler took them.
    pub handled: u64,
    /// The handler did not.
    pub refused: u64,
    /// Of unknown type.
    pub unknown: u64,
    /// Contradicting themselves.
    pub malformed: u64,
}

/// Takes messages out of a slot, one by one.
#[derive(Clone, Debug)]
pub struct Sint0Dispatcher {
    arch: Arch,
    counters: Sint0Counters,
}

impl Sint0Dispatcher {
    /// A dispatcher for messages of a hypervisor of this architecture.
    pub const fn new(arch: Arch) -> Self {
        Self {
            arch,
            counters: Sint0Counters {
                handled: 0,
                refused: 0,
                unknown: 0,
                malformed: 0,
            },
        }
    }

    /// What became of all messages so far.
    pub const fn counters(&self) -> Sint0Counters {
        self.counters
    }

    /// Takes the message in the slot, if any, and frees the slot. The next message raises an
    /// interrupt of its own.
    pub fn service(
        &mut self,
        slot: &mut impl MessageSlot,
        handler: &mut impl Sint0Handler,
    ) -> Outcome {
        let outcome = self.dispatch(&slot.read(), handler);
        if outcome != Outcome::Empty && slot.release() {
            slot.end_of_message();
        }
        outcome
    }

    /// Hands a copied message over and counts it; the slot is the caller's to free.
    pub fn dispatch(
        &mut self,
        copy: &[u8; MESSAGE_SIZE],
        handler: &mut impl Sint0Handler,
    ) -> Outcome {
        let outcome = match RawSlot::read(copy) {
            Ok(None) => Outcome::Empty,
            Ok(Some(slot)) => deliver(self.arch, &slot, handler),
            Err(error) => Outcome::Malformed(error),
        };
        self.counters.count(outcome);
        outcome
    }
}

impl Sint0Counters {
    fn count(&mut self, outcome: Outcome) {
        let counter = match outcome {
            Outcome::Empty => return,
            Outcome::Handled => &mut self.handled,
            Outcome::Refused => &mut self.refused,
            Outcome::Unknown => &mut self.unknown,
            Outcome::Malformed(_) => &mut self.malformed,
        };
        *counter = counter.wrapping_add(1);
    }
}

fn deliver(arch: Arch, slot: &RawSlot<'_>, handler: &mut impl Sint0Handler) -> Outcome {
    let message = match slot.message(arch) {
        Ok(SintMessage::Unknown { .. }) => return Outcome::Unknown,
        Ok(message) => message,
        Err(error) => return Outcome::Malformed(error),
    };
    if call(slot.sender, &message, handler) {
        Outcome::Handled
    } else {
        Outcome::Refused
    }
}

fn call(sender: u64, message: &SintMessage<'_>, handler: &mut impl Sint0Handler) -> bool {
    match message {
        SintMessage::SintNotification(notification) => handler.doorbell(notification.sint),
        SintMessage::VpSignalBitset(signal) => {
            let vps = signal.vps.iter().map(|vp| (signal.partition_id, vp));
            signal_all(vps, handler)
        }
        SintMessage::VpSignalPair(signal) => signal_all(signal.pairs(), handler),
        SintMessage::AsyncCallCompletion(completion) => handler.async_completion(completion),
        SintMessage::OpaqueIntercept(intercept) => handler.opaque_intercept(sender, intercept.vp),
        SintMessage::ApicEoi(eoi) => handler.apic_eoi(sender, eoi),
        other => handler.other(sender, other),
    }
}

fn signal_all(vps: impl Iterator<Item = (u64, VpIndex)>, handler: &mut impl Sint0Handler) -> bool {
    vps.fold(true, |all, (partition_id, vp)| {
        handler.signal_vp(partition_id, vp) && all
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::abi::{HEADER_SIZE, SintIndex};
    use std::collections::VecDeque;

    /// A hypervisor in miniature: a slot, and the messages that wait for it.
    struct Slot {
        bytes: [u8; MESSAGE_SIZE],
        waiting: VecDeque<[u8; MESSAGE_SIZE]>,
        eoms: u32,
    }

    impl Slot {
        fn holding(messages: &[[u8; MESSAGE_SIZE]]) -> Self {
            let mut slot = Self {
                bytes: [0; MESSAGE_SIZE],
                waiting: messages.iter().copied().collect(),
                eoms: 0,
            };
            slot.refill();
            slot
        }

        fn refill(&mut self) {
            if let Some(next) = self.waiting.pop_front() {
                self.bytes = next;
                self.bytes[5] = u8::from(!self.waiting.is_empty());
            }
        }
    }

    impl MessageSlot for Slot {
        fn read(&mut self) -> [u8; MESSAGE_SIZE] {
            self.bytes
        }

        fn release(&mut self) -> bool {
            self.bytes[..4].fill(0);
            self.bytes[5] & 1 != 0
        }

        fn end_of_message(&mut self) {
            assert_eq!(self.bytes[..4], [0; 4], "EOM before the slot was free");
            self.eoms += 1;
            self.refill();
        }
    }

    /// Takes what Linux's driver takes, of one partition with VPs 0 and 2, and notes it down.
    #[derive(Default)]
    struct Driver {
        calls: Vec<String>,
    }

    impl Sint0Handler for Driver {
        fn doorbell(&mut self, sint: SintIndex) -> bool {
            self.calls.push(format!("drain {sint}"));
            sint == SintIndex::DOORBELL
        }

        fn signal_vp(&mut self, partition_id: u64, vp: VpIndex) -> bool {
            self.calls.push(format!("run {vp} of {partition_id}"));
            vp.get() != 1
        }

        fn opaque_intercept(&mut self, partition_id: u64, vp: VpIndex) -> bool {
            self.calls.push(format!("{vp} of {partition_id} stopped"));
            partition_id == 9
        }
    }

    fn message(message_type: u32, payload: &[u8]) -> [u8; MESSAGE_SIZE] {
        let mut bytes = [0; MESSAGE_SIZE];
        bytes[..4].copy_from_slice(&message_type.to_le_bytes());
        bytes[4] = u8::try_from(payload.len()).unwrap();
        bytes[8] = 9;
        bytes[HEADER_SIZE..HEADER_SIZE + payload.len()].copy_from_slice(payload);
        bytes
    }

    fn run(messages: &[[u8; MESSAGE_SIZE]]) -> (Vec<Outcome>, Driver, Sint0Dispatcher, Slot) {
        let mut slot = Slot::holding(messages);
        let mut driver = Driver::default();
        let mut dispatcher = Sint0Dispatcher::new(Arch::X64);
        let mut outcomes = Vec::new();
        loop {
            match dispatcher.service(&mut slot, &mut driver) {
                Outcome::Empty => return (outcomes, driver, dispatcher, slot),
                outcome => outcomes.push(outcome),
            }
        }
    }

    #[test]
    fn messages_that_mean_something_reach_their_method() {
        let (outcomes, driver, ..) = run(&[
            message(0x8000_0061, &[5, 0, 0, 0]),
            message(0x8000_003F, &[2, 0, 0, 0]),
        ]);
        assert_eq!(outcomes, [Outcome::Handled; 2]);
        assert_eq!(driver.calls, ["drain SINT5", "VP 2 of 9 stopped"]);
    }

    #[test]
    fn messages_that_nobody_can_handle_are_counted_and_the_next_one_arrives() {
        let (outcomes, driver, dispatcher, slot) = run(&[
            message(0x8000_0061, &[2, 0, 0, 0]),
            message(0x8001_0004, &[0; 8]),
            message(0x8000_0002, &[]),
            message(0x8000_003F, &[2, 0, 0]),
            message(0x8000_003F, &[2, 0, 0, 0]),
        ]);
        let short = ParseError::Short {
            message_type: 0x8000_003F,
            needed: 4,
            got: 3,
        };
        assert_eq!(
            outcomes,
            [
                Outcome::Refused,
                Outcome::Refused,
                Outcome::Unknown,
                Outcome::Malformed(short),
                Outcome::Handled,
            ]
        );
        assert_eq!(driver.calls, ["drain SINT2", "VP 2 of 9 stopped"]);
        let counters = Sint0Counters {
            handled: 1,
            refused: 2,
            unknown: 1,
            malformed: 1,
        };
        assert_eq!(dispatcher.counters(), counters);
        assert_eq!(
            slot.eoms, 4,
            "one for each message that had another behind it"
        );
    }

    #[test]
    fn vp_that_is_refused_does_not_keep_the_others_from_running() {
        let mut bitset = [0; 40];
        bitset[12] = 3;
        bitset[24] = 1;
        bitset[32] = 0b111;
        let (outcomes, driver, ..) = run(&[message(0x8000_0100, &bitset)]);
        assert_eq!(outcomes, [Outcome::Refused]);
        assert_eq!(
            driver.calls,
            ["run VP 0 of 0", "run VP 1 of 0", "run VP 2 of 0"]
        );
    }

    #[test]
    fn empty_slot_is_neither_freed_nor_counted() {
        let (outcomes, _, dispatcher, slot) = run(&[]);
        assert_eq!(outcomes, []);
        assert_eq!(dispatcher.counters(), Sint0Counters::default());
        assert_eq!(slot.eoms, 0);
    }
}
