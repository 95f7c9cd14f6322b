// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! A bounded history of what happened to a VP's SynIC.
//!
//! Off by default, and then it costs one test of a constant per event.

use crate::abi::{Bank, RegisterId, SintIndex, TimerIndex, VpIndex};
use crate::ownership::{Owner, Violation, meaning};
use crate::sync::lock;
use std::collections::VecDeque;
use std::sync::Mutex;
use std::time::Duration;

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimelineKind {
    /// The guest wrote a register.
    Write {
        /// The register.
        register: RegisterId,
        /// Who is entitled to write it.
        owner: Option<Owner>,
        /// Its value before.
        before: u64,
        /// The value written.
        value: u64,
        /// Whether the register has that value now.
        took_effect: bool,
        /// The ownership rule that the write broke.
        violation: Option<Violation>,
    },
    /// All registers have the values of power-on again.
    Reset,
    /// The guest wrote EOM.
    EndOfMessage(Bank),
    /// A message went into the slot, or into the queue.
    Message {
        /// The SINT.
        sint: SintIndex,
        /// It waits.
        queued: bool,
    },
    /// An event flag was set.
    Event {
        /// The SINT.
        sint: SintIndex,
        /// The flag.
        flag: u16,
    },
    /// A doorbell was rung.
    Doorbell {
        /// The SINT.
        sint: SintIndex,
        /// The port.
        port: u32,
    },
    /// A synthetic timer expired.
    Timer {
        /// Which.
        timer: TimerIndex,
        /// The vector that it interrupts the VP by; `None`: it has a message.
        vector: Option<u8>,
    },
    /// The VP was interrupted.
    Interrupt {
        /// The SINT.
        sint: SintIndex,
        /// The vector.
        vector: u8,
    },
}

/// One event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimelineEvent {
    /// When, since the manager was made.
    pub at: Duration,
    /// The VP.
    pub vp: VpIndex,
    /// What happened.
    pub kind: TimelineKind,
}

impl TimelineEvent {
    /// Short name and details, for a trace viewer.
    pub fn describe(&self) -> (String, String) {
        match self.kind {
            TimelineKind::Write {
                register,
                before,
                value,
                took_effect,
                violation,
                ..
            } => {
                let mark = violation.map_or("", |_| " VIOLATION");
                let effect = if took_effect { "" } else { ", without effect" };
                let words = meaning(register.register, value).join(", ");
                let details = format!("{before:#x} -> {value:#x} ({words}){effect}");
                let details = details.replace(" ()", "");
                (format!("{register}{mark}"), details)
            }
            TimelineKind::Reset => ("reset".into(), String::new()),
            TimelineKind::EndOfMessage(_) => ("EOM".into(), String::new()),
            TimelineKind::Message { sint, queued } => {
                let place = if queued { "queued" } else { "delivered" };
                (format!("message {sint}"), place.into())
            }
            TimelineKind::Event { sint, flag } => (format!("event {sint}"), format!("flag {flag}")),
            TimelineKind::Doorbell { sint, port } => {
                (format!("doorbell {sint}"), format!("port {port:#x}"))
            }
            TimelineKind::Timer { timer, vector } => {
                let vector = vector.map(|vector| format!("vector {vector:#x}"));
                (timer.to_string(), vector.unwrap_or("message".into()))
            }
            TimelineKind::Interrupt { sint, vector } => {
                (format!("interrupt {sint}"), format!("vector {vector:#x}"))
            }
        }
    }
}

/// One VP's history; the oldest event makes room for the newest.
#[derive(Debug)]
pub(crate) struct Timeline {
    depth: usize,
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    events: VecDeque<TimelineEvent>,
    evicted: u64,
}

impl Timeline {
    pub fn new(depth: usize) -> Self {
        Self {
            depth,
            kept: Mutex::default(),
        }
    }

    /// Whether anything is recorded.
    pub fn is_on(&self) -> bool {
        self.depth != 0
    }

    /// Records an event; `event` is made only if anything is recorded at all.
    pub fn record(&self, event: impl FnOnce() -> TimelineEvent) {
        if !self.is_on() {
            return;
        }
        let event = event();
        let mut kept = lock(&self.kept);
        if kept.events.len() >= self.depth {
            kept.events.pop_front();
            kept.evicted = kept.evicted.saturating_add(1);
        }
        kept.events.push_back(event);
    }

    pub fn events(&self) -> Vec<TimelineEvent> {
        lock(&self.kept).events.iter().copied().collect()
    }

    /// How many events are no longer kept.
    #[cfg(feature = "serde")]
    pub fn evicted(&self) -> u64 {
        lock(&self.kept).evicted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(at: u64) -> TimelineEvent {
        TimelineEvent {
            at: Duration::from_micros(at),
            vp: VpIndex::new(1),
            kind: TimelineKind::EndOfMessage(Bank::Plain),
        }
    }

    #[test]
    fn record_beyond_the_depth_forgets_the_oldest() {
        let timeline = Timeline::new(2);
        (1..=3).for_each(|at| timeline.record(|| event(at)));
        assert_eq!(timeline.events(), [event(2), event(3)]);
    }

    #[test]
    fn record_at_depth_0_makes_no_event() {
        Timeline::new(0).record(|| panic!("an event was made for nobody"));
    }
}
