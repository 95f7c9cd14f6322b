// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! What can go wrong with a delivery, and telling one wrong from another.

use std::fmt;

use serde::Serialize;

use super::protocol;

/// A delivery that was not what it should have been.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Fault {
    pub vp: u32,
    /// The SINT it was meant for; none where the guest sent or no SINT is involved.
    pub sint: Option<u8>,
    pub what: What,
    pub kind: Kind,
    pub expected: u64,
    pub got: u64,
}

/// What was delivered.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum What {
    Message,
    MessageType,
    MessageSize,
    Payload,
    EventFlag,
    RingEntry,
    VmmDoorbell,
    /// Rings of a port that already waited outside the full ring.
    Coalesced,
    /// All rings of the ports in a VP's ring.
    Doorbell,
    /// HvPostMessage that has to be tried again.
    Refusal,
    Eom,
    OwnershipViolation,
    MshvInit,
    FinalState,
    Register,
    Hypercall,
    Exception,
    TripleFault,
    PageWord,
}

/// In which way it was wrong.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Something earlier did not arrive: what came belongs further on in the sequence.
    Lost,
    /// It had arrived before, or arrives too late.
    DuplicatedOrReordered,
    /// It belongs to another VP, SINT or port.
    Misrouted,
    /// It is not what anybody sends.
    Corrupted,
    /// Fewer came in all than were sent.
    Missing,
    /// More came in all than were sent.
    Surplus,
}

impl fmt::Display for Fault {
    /// `VP 1 SINT2: message lost: expected number 50 of VP 1, got number 51 of VP 1`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "VP {}", self.vp)?;
        if let Some(sint) = self.sint {
            write!(f, " SINT{sint}")?;
        }
        let (what, kind) = (self.what.name(), self.kind.name());
        let [expected, got] = [self.expected, self.got].map(|number| self.describe(number));
        match self.what {
            What::TripleFault => write!(f, ": {what}"),
            What::Exception => write!(f, ": {what} {} at RIP {got}", self.expected),
            _ => write!(f, ": {what} {kind}: expected {expected}, got {got}"),
        }
    }
}

impl Fault {
    fn describe(&self, number: u64) -> String {
        match (self.what, self.kind) {
            (_, Kind::Missing | Kind::Surplus) => number.to_string(),
            (What::Message, _) => {
                let (vp, seq) = (number >> SEQUENCE_BITS, number & SEQUENCE_MASK);
                format!("number {seq} of VP {vp}")
            }
            (What::EventFlag | What::RingEntry | What::MessageSize, _) => number.to_string(),
            _ => format!("{number:#x}"),
        }
    }
}

impl What {
    fn name(self) -> &'static str {
        match self {
            Self::Message => "message",
            Self::MessageType => "message type",
            Self::MessageSize => "message size",
            Self::Payload => "message payload",
            Self::EventFlag => "event flag",
            Self::RingEntry => "event ring entry",
            Self::VmmDoorbell => "doorbell of the event loop",
            Self::Doorbell => "doorbell of the event ring",
            Self::Coalesced => "coalesced doorbell",
            Self::Refusal => "message to be sent again",
            Self::Eom => "EOM",
            Self::OwnershipViolation => "ownership violation",
            Self::MshvInit => "start of the MSHV driver",
            Self::FinalState => "final state",
            Self::Register => "register",
            Self::Hypercall => "hypercall status",
            Self::Exception => "exception",
            Self::TripleFault => "triple fault",
            Self::PageWord => "word of a page that should be empty",
        }
    }
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Lost => "lost",
            Self::DuplicatedOrReordered => "duplicated or reordered",
            Self::Misrouted => "misrouted",
            Self::Corrupted => "wrong",
            Self::Missing => "missing",
            Self::Surplus => "too many",
        }
    }
}

/// Judges the first payload word of a message, which names its VP and sequence number.
pub fn judge_word(expected: u64, got: u64) -> Kind {
    if expected >> SEQUENCE_BITS != got >> SEQUENCE_BITS {
        // Another VP's message has a sequence number of a sane size; random data does not.
        let sane = got >> SEQUENCE_BITS < u64::from(protocol::MAX_VPS) && got << 8 >> 48 == 0;
        return if sane {
            Kind::Misrouted
        } else {
            Kind::Corrupted
        };
    }
    ahead_or_behind(got > expected)
}

/// Judges a number that counts up and starts again at `modulus`, as flags and ring ports do.
pub fn judge_cyclic(expected: u64, got: u64, modulus: u64) -> Kind {
    if got >= modulus {
        return Kind::Misrouted;
    }
    let distance = (got + modulus - expected % modulus) % modulus;
    ahead_or_behind(distance <= modulus / 2)
}

/// Judges a port id of a ring, where `base` is the first of the ring's own ports.
pub fn judge_port(base: u64, expected: u64, got: u64) -> Kind {
    match got.checked_sub(base) {
        Some(index) => judge_cyclic(expected - base, index, protocol::RING_PORTS),
        None => Kind::Misrouted,
    }
}

fn ahead_or_behind(ahead: bool) -> Kind {
    if ahead {
        Kind::Lost
    } else {
        Kind::DuplicatedOrReordered
    }
}

/// How [`protocol::first_word`] holds VP and sequence number.
const SEQUENCE_BITS: u32 = 56;
const SEQUENCE_MASK: u64 = (1 << SEQUENCE_BITS) - 1;

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::first_word;

    #[test]
    fn display_when_a_message_was_lost_says_where_and_which() {
        let fault = Fault {
            vp: 1,
            sint: Some(2),
            what: What::Message,
            kind: Kind::Lost,
            expected: first_word(1, 50),
            got: first_word(1, 51),
        };
        let text = "VP 1 SINT2: message lost: expected number 50 of VP 1, got number 51 of VP 1";
        assert_eq!(fault.to_string(), text);
    }

    #[test]
    fn display_when_a_total_is_wrong_has_decimal_numbers() {
        let fault = Fault {
            vp: 0,
            sint: None,
            what: What::VmmDoorbell,
            kind: Kind::Missing,
            expected: 625,
            got: 624,
        };
        let text = "VP 0: doorbell of the event loop missing: expected 625, got 624";
        assert_eq!(fault.to_string(), text);
    }

    #[test]
    fn judge_word_when_one_is_missing_is_lost() {
        assert_eq!(judge_word(first_word(1, 7), first_word(1, 8)), Kind::Lost);
    }

    #[test]
    fn judge_word_when_an_earlier_one_comes_is_duplicated_or_reordered() {
        assert_eq!(
            judge_word(first_word(1, 7), first_word(1, 6)),
            Kind::DuplicatedOrReordered
        );
    }

    #[test]
    fn judge_word_when_meant_for_another_vp_is_misrouted() {
        assert_eq!(
            judge_word(first_word(1, 7), first_word(0, 7)),
            Kind::Misrouted
        );
    }

    #[test]
    fn judge_word_when_nobody_sends_it_is_corrupted() {
        assert_eq!(
            judge_word(first_word(1, 7), 0xDEAD_BEEF_0BAD_F00D),
            Kind::Corrupted
        );
    }

    #[test]
    fn judge_cyclic_when_it_wraps_still_tells_lost_from_duplicated() {
        assert_eq!(judge_cyclic(2047, 0, 2048), Kind::Lost);
        assert_eq!(judge_cyclic(0, 2047, 2048), Kind::DuplicatedOrReordered);
        assert_eq!(judge_cyclic(5, 2048, 2048), Kind::Misrouted);
    }

    #[test]
    fn judge_port_when_it_is_another_rings_is_misrouted() {
        let base = 1 + protocol::RING_PORTS;
        assert_eq!(judge_port(base, base + 3, base + 4), Kind::Lost);
        assert_eq!(
            judge_port(base, base + 3, base + 2),
            Kind::DuplicatedOrReordered
        );
        assert_eq!(judge_port(base, base + 3, base - 1), Kind::Misrouted);
        assert_eq!(
            judge_port(base, base + 3, base + protocol::RING_PORTS),
            Kind::Misrouted
        );
    }
}
