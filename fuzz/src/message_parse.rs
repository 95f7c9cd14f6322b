// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! A slot of a hostile hypervisor: parsing it, and dispatching it to a handler.
//!
//! Input: one byte whose bit 0 is the architecture, then the slot; what is missing reads as zero.

use vm_synic::abi::{MESSAGE_PAYLOAD_MAX, MESSAGE_SIZE};
use vm_synic::sint0::{
    ApicEoi, Arch, AsyncCallCompletion, BITSET_VP_MAX, Outcome, PAIR_MAX, ParseError, RawSlot,
    Sint0Dispatcher, Sint0Handler, SintMessage, X64Intercept,
};
use vm_synic::{MessageType, SintIndex, VpIndex};

/// Parses and dispatches one slot.
pub fn run(data: &[u8]) {
    let Some((selector, bytes)) = data.split_first() else {
        return;
    };
    let arch = if selector & 1 == 0 {
        Arch::X64
    } else {
        Arch::Arm64
    };
    let mut slot = [0; MESSAGE_SIZE];
    for (to, from) in slot.iter_mut().zip(bytes) {
        *to = *from;
    }
    let parsed = RawSlot::read(&slot);
    if let Ok(Some(raw)) = parsed {
        check_lengths(arch, raw.message_type, raw.payload);
    }
    let message = parsed.and_then(|raw| raw.map(|raw| raw.message(arch)).transpose());
    if let Ok(Some(message)) = &message {
        check_contents(message);
    }
    let mut dispatcher = Sint0Dispatcher::new(arch);
    let taken = dispatcher.dispatch(&slot, &mut Everything);
    assert_eq!(taken, expected(&message, true));
    let left = dispatcher.dispatch(&slot, &mut Nothing);
    assert_eq!(left, expected(&message, false));
    let counters = dispatcher.counters();
    let counted = counters.handled + counters.refused + counters.unknown + counters.malformed;
    assert_eq!(counted, if taken == Outcome::Empty { 0 } else { 2 });
}

/// A longer payload never parses worse, and a short one says truthfully what it lacks.
fn check_lengths(arch: Arch, message_type: MessageType, payload: &[u8]) {
    let mut complete = false;
    for len in 0..=payload.len() {
        match SintMessage::parse(arch, message_type, &payload[..len]) {
            Err(ParseError::Short { needed, got, .. }) => {
                assert!(!complete, "{message_type:?} of {len} bytes is short again");
                assert_eq!(got, len);
                assert!(needed > len && needed <= MESSAGE_PAYLOAD_MAX);
            }
            Ok(_) | Err(_) => complete = true,
        }
    }
}

/// Nothing that a handler is given leaves its range.
fn check_contents(message: &SintMessage<'_>) {
    let _ = format!("{message:?}");
    match message {
        SintMessage::VpSignalBitset(signal) => {
            let vps: Vec<_> = signal.vps.iter().collect();
            assert!(signal.vp_count != 0);
            assert!(vps.is_sorted());
            assert!(
                vps.iter()
                    .all(|vp| vp.get() < BITSET_VP_MAX && signal.vps.contains(*vp))
            );
            assert_eq!(vps.len(), signal.vps.count() as usize);
        }
        SintMessage::VpSignalPair(signal) => assert!(signal.pairs().count() <= PAIR_MAX),
        SintMessage::X64(intercept) => check_x64(intercept),
        _ => {}
    }
}

fn check_x64(intercept: &X64Intercept) {
    match intercept {
        X64Intercept::Gpa(memory) => assert!(memory.instruction().len() <= 16),
        X64Intercept::IoPort(port) => assert!(port.instruction().len() <= 16),
        X64Intercept::Exception(exception) => assert!(exception.instruction().len() <= 16),
        X64Intercept::GpaAttribute(attribute) => assert!(attribute.ranges().len() <= 29),
        X64Intercept::SintDeliverable(deliverable) => {
            let count = deliverable.sints().count() as u32;
            assert_eq!(count, deliverable.deliverable_sints.count_ones());
        }
        _ => {}
    }
}

/// What a dispatcher makes of a message with a handler that takes everything, or nothing.
fn expected(message: &Result<Option<SintMessage<'_>>, ParseError>, takes: bool) -> Outcome {
    match message {
        Ok(None) => Outcome::Empty,
        Err(error) => Outcome::Malformed(*error),
        Ok(Some(SintMessage::Unknown { .. })) => Outcome::Unknown,
        Ok(Some(message)) if takes || names_no_vp(message) => Outcome::Handled,
        Ok(Some(_)) => Outcome::Refused,
    }
}

/// A scheduler message for no VP at all is as good as done.
fn names_no_vp(message: &SintMessage<'_>) -> bool {
    match message {
        SintMessage::VpSignalBitset(signal) => signal.vps.count() == 0,
        SintMessage::VpSignalPair(signal) => signal.pairs().count() == 0,
        _ => false,
    }
}

struct Nothing;

impl Sint0Handler for Nothing {}

struct Everything;

impl Sint0Handler for Everything {
    fn doorbell(&mut self, _: SintIndex) -> bool {
        true
    }

    fn signal_vp(&mut self, _: u64, _: VpIndex) -> bool {
        true
    }

    fn async_completion(&mut self, _: &AsyncCallCompletion) -> bool {
        true
    }

    fn opaque_intercept(&mut self, _: u64, _: VpIndex) -> bool {
        true
    }

    fn apic_eoi(&mut self, _: u64, _: &ApicEoi) -> bool {
        true
    }

    fn other(&mut self, _: u64, _: &SintMessage<'_>) -> bool {
        true
    }
}
