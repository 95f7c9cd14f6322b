// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! A bounded history of register writes.

use super::{Owner, Violation};
use crate::abi::{PageRegister, Register, RegisterId, Scontrol, Sint, VpIndex};
use crate::state::LedgerState;
use std::{collections::VecDeque, fmt, time::Duration};

/// One write to a SynIC register.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Entry {
    /// When, since the manager's start.
    pub at: Duration,
    /// The VP that wrote.
    pub vp: VpIndex,
    /// The register.
    pub register: RegisterId,
    /// Who is entitled to write it.
    pub owner: Option<Owner>,
    /// Its value before.
    pub before: u64,
    /// The value written, which took effect or not.
    pub after: u64,
    /// The rule that the write broke.
    pub violation: Option<Violation>,
}

impl fmt::Display for Entry {
    /// `12.3 ms VP 0 SINT5 mshv 0x10000 -> 0x800f3 (unmasked, intercept)`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = self.at.as_secs_f64() * 1e3;
        let owner = self.owner.map_or("-", Owner::name);
        let (vp, register, before, after) = (self.vp, self.register, self.before, self.after);
        write!(
            f,
            "{at:.1} ms {vp} {register} {owner} {before:#x} -> {after:#x}"
        )?;
        let meaning = meaning(register.register, after);
        if !meaning.is_empty() {
            write!(f, " ({})", meaning.join(", "))?;
        }
        match &self.violation {
            Some(violation) => write!(f, " VIOLATION: {violation}"),
            None => Ok(()),
        }
    }
}

/// The latest writes, and the first ones that broke a rule.
///
/// However many writes a guest makes, this never grows beyond its capacity. What goes is counted.
#[derive(Clone, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct Ledger {
    #[cfg_attr(feature = "serde", serde(skip))]
    capacity: usize,
    entries: VecDeque<Entry>,
    evicted: u64,
    violations: Vec<Entry>,
    violation_count: u64,
}

impl Ledger {
    /// Keeps this many writes, and apart from them the first [`Ledger::VIOLATIONS_KEPT`] that
    /// broke a rule.
    pub fn new(capacity: usize) -> Self {
        Self {
            capacity,
            // Grows with use: a VP that never touches its SynIC pays nothing.
            entries: VecDeque::new(),
            evicted: 0,
            violations: Vec::new(),
            violation_count: 0,
        }
    }

    /// How many violations are kept; the first ones explain those that follow.
    pub const VIOLATIONS_KEPT: usize = 64;

    /// Adds a write; the oldest one makes room for it.
    pub fn record(&mut self, entry: Entry) {
        if entry.violation.is_some() {
            self.violation_count = self.violation_count.saturating_add(1);
            if self.violations.len() < Self::VIOLATIONS_KEPT {
                self.violations.push(entry.clone());
            }
        }
        if self.entries.len() >= self.capacity {
            self.evicted = self.evicted.saturating_add(1);
            self.entries.pop_front();
        }
        if self.capacity > 0 {
            self.entries.push_back(entry);
        }
    }

    /// As a value.
    pub(crate) fn save(&self) -> LedgerState {
        let Self {
            capacity: _,
            entries,
            evicted,
            violations,
            violation_count,
        } = self;
        LedgerState {
            entries: entries.iter().cloned().collect(),
            evicted: *evicted,
            violations: violations.clone(),
            violation_count: *violation_count,
        }
    }

    /// From a value that anybody may have written: no more of it than this ledger keeps.
    pub(crate) fn restore(&mut self, state: &LedgerState) {
        let LedgerState {
            entries,
            evicted,
            violations,
            violation_count,
        } = state;
        *self = Self::new(self.capacity);
        entries.iter().cloned().for_each(|entry| self.record(entry));
        self.evicted = self.evicted.saturating_add(*evicted);
        let kept = violations.iter().take(Self::VIOLATIONS_KEPT);
        self.violations = kept.cloned().collect();
        self.violation_count = *violation_count;
    }

    /// The writes still kept, oldest first.
    pub fn entries(&self) -> impl ExactSizeIterator<Item = &Entry> {
        self.entries.iter()
    }

    /// How many writes are no longer kept.
    pub fn evicted(&self) -> u64 {
        self.evicted
    }

    /// The first violations, oldest first.
    pub fn violations(&self) -> &[Entry] {
        &self.violations
    }

    /// How many violations there were, kept or not.
    pub fn violation_count(&self) -> u64 {
        self.violation_count
    }
}

impl fmt::Display for Ledger {
    /// One line per kept write, then a line of counts.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for entry in &self.entries {
            writeln!(f, "{entry}")?;
        }
        let (kept, evicted) = (self.entries.len(), self.evicted);
        let violations = self.violation_count;
        write!(
            f,
            "{kept} writes, {evicted} earlier ones dropped, {violations} violations"
        )
    }
}

/// What a value says, in words.
pub(crate) fn meaning(register: Register, value: u64) -> Vec<&'static str> {
    match register {
        Register::Scontrol if Scontrol::from(value).enable() => vec!["on"],
        Register::Scontrol => vec!["off"],
        Register::Simp | Register::Siefp | Register::Sirbp => {
            let enabled = PageRegister::from(value).enabled();
            vec![if enabled { "enabled" } else { "disabled" }]
        }
        Register::Sint(_) => sint_meaning(Sint::from(value)),
        Register::TimerConfig(_) | Register::TimerCount(_) => Vec::new(),
        Register::VpIndex | Register::Sversion | Register::Eom => Vec::new(),
    }
}

fn sint_meaning(sint: Sint) -> Vec<&'static str> {
    let flags = [
        (sint.masked(), "masked"),
        (!sint.masked(), "unmasked"),
        (sint.auto_eoi(), "auto-EOI"),
        (sint.polling(), "polling"),
        (sint.as_intercept(), "intercept"),
        (sint.proxy(), "proxy"),
    ];
    let set = flags.into_iter().filter(|(set, _)| *set);
    set.map(|(_, name)| name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::abi::SintIndex;
    use crate::ownership::ViolationKind;

    fn entry(micros: u64) -> Entry {
        Entry {
            at: Duration::from_micros(micros),
            vp: VpIndex::new(0),
            register: RegisterId::plain(Register::Sint(SintIndex::DOORBELL)),
            owner: Some(Owner::Mshv),
            before: 0x10000,
            after: 0x800F3,
            violation: None,
        }
    }

    fn violation(micros: u64) -> Entry {
        let register = RegisterId::plain(Register::Simp);
        let violation = Violation {
            kind: ViolationKind::PageDisabled(SintIndex::VMBUS),
            register,
            writer: Some(Owner::Mshv),
            victim: Some(Owner::VmBus),
        };
        Entry {
            register,
            owner: Some(Owner::VmBus),
            before: 0x5001,
            after: 0x5000,
            violation: Some(violation),
            ..entry(micros)
        }
    }

    fn times<'a>(entries: impl IntoIterator<Item = &'a Entry>) -> Vec<u128> {
        let micros = entries.into_iter().map(|entry| entry.at.as_micros());
        micros.collect()
    }

    #[test]
    fn record_beyond_capacity_drops_the_oldest_and_counts_it() {
        let mut ledger = Ledger::new(2);
        (1..=5).for_each(|micros| ledger.record(entry(micros)));
        assert_eq!(times(ledger.entries()), [4, 5]);
        assert_eq!(ledger.evicted(), 3);
    }

    #[test]
    fn record_with_capacity_zero_keeps_violations_alone() {
        let mut ledger = Ledger::new(0);
        ledger.record(entry(1));
        ledger.record(violation(2));
        assert_eq!(ledger.entries().len(), 0);
        assert_eq!(ledger.evicted(), 2);
        assert_eq!(times(ledger.violations()), [2]);
    }

    #[test]
    fn violations_outlive_their_entries_and_the_first_ones_are_kept() {
        let mut ledger = Ledger::new(1);
        (1..=100).for_each(|micros| ledger.record(violation(micros)));
        (101..=200).for_each(|micros| ledger.record(entry(micros)));
        assert_eq!(ledger.violation_count(), 100);
        let first = (1..=64).collect::<Vec<u128>>();
        assert_eq!(times(ledger.violations()), first);
        assert_eq!(times(ledger.entries()), [200]);
    }

    #[test]
    fn entry_display_is_a_readable_line() {
        let line = "12.3 ms VP 0 SINT5 mshv 0x10000 -> 0x800f3 (unmasked, intercept)";
        assert_eq!(entry(12_345).to_string(), line);
    }

    #[test]
    fn entry_display_of_violation_says_who_hurt_whom() {
        let line = "0.5 ms VP 0 SIMP vmbus 0x5001 -> 0x5000 (disabled) \
                    VIOLATION: mshv disabled SIMP while SINT2 of vmbus is unmasked";
        assert_eq!(violation(500).to_string(), line);
    }

    #[test]
    fn ledger_display_is_one_line_per_write_and_a_total() {
        let mut ledger = Ledger::new(1);
        ledger.record(entry(100));
        ledger.record(violation(500));
        let text = ledger.to_string();
        let lines = text.lines().collect::<Vec<_>>();
        assert_eq!(lines.len(), 2);
        assert!(lines[0].starts_with("0.5 ms VP 0 SIMP"));
        assert_eq!(lines[1], "1 writes, 1 earlier ones dropped, 1 violations");
    }

    #[cfg(feature = "serde")]
    #[test]
    fn entry_through_json_is_unchanged() {
        let json = serde_json::to_string(&violation(1)).unwrap();
        assert_eq!(serde_json::from_str::<Entry>(&json).unwrap(), violation(1));
    }
}
