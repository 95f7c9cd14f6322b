// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! Everything there is to see at one moment, as a table and as JSON.

use super::SintCounters;
use crate::abi::{SintIndex, VpIndex};
use crate::ownership::{Entry, SynicView};
use crate::state::TimerState;
use std::fmt;

/// The manager at one moment. Prints as a table of all SINTs that something happened to.
#[derive(Clone, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Snapshot {
    /// The VPs, ascending by index.
    pub vps: Vec<VpSnapshot>,
}

/// One VP.
#[derive(Clone, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct VpSnapshot {
    /// Its index.
    pub index: VpIndex,
    /// Its own SynIC.
    pub plain: SynicSnapshot,
    /// Its nested SynIC, where it has one.
    pub nested: Option<SynicSnapshot>,
    /// The latest register writes, oldest first.
    pub ledger: Vec<Entry>,
    /// How many earlier ones are no longer kept.
    pub ledger_evicted: u64,
    /// The first writes that broke an ownership rule.
    pub violations: Vec<Entry>,
    /// How many broke one.
    pub violation_count: u64,
}

/// One SynIC.
#[derive(Clone, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct SynicSnapshot {
    /// SCONTROL.
    pub scontrol: u64,
    /// SIMP.
    pub simp: u64,
    /// SIEFP.
    pub siefp: u64,
    /// SIRBP.
    pub sirbp: u64,
    /// SINT0 to SINT15.
    pub sints: [u64; 16],
    /// EOM writes.
    pub eoms: u64,
    /// What was counted, for SINT0 to SINT15.
    pub counters: [SintCounters; 16],
    /// The synthetic timers that were ever used.
    pub timers: Vec<TimerState>,
}

impl Snapshot {
    /// The same as one JSON object.
    #[cfg(feature = "serde")]
    pub fn to_json(&self) -> serde_json::Value {
        serde_json::to_value(self).unwrap_or_default()
    }
}

impl SynicSnapshot {
    pub(crate) fn new(
        view: SynicView,
        counters: [SintCounters; 16],
        eoms: u64,
        timers: Vec<TimerState>,
    ) -> Self {
        let SynicView {
            scontrol,
            simp,
            siefp,
            sirbp,
            sints,
        } = view;
        Self {
            scontrol,
            simp,
            siefp,
            sirbp,
            sints,
            eoms,
            counters,
            timers,
        }
    }

    /// The registers.
    pub fn view(&self) -> SynicView {
        SynicView {
            scontrol: self.scontrol,
            simp: self.simp,
            siefp: self.siefp,
            sirbp: self.sirbp,
            sints: self.sints,
        }
    }

    /// What was counted for one SINT.
    pub fn counters(&self, sint: SintIndex) -> SintCounters {
        self.counters.get(sint.index()).copied().unwrap_or_default()
    }

    /// Whether every message, every doorbell and every expiry of a timer is accounted for.
    pub fn balances(&self) -> bool {
        let (mut sints, mut timers) = (self.counters.iter(), self.timers.iter());
        sints.all(|sint| sint.messages.balances() && sint.ring.balances())
            && timers.all(|timer| timer.counters.balances(timer.is_undelivered))
    }

    fn table(&self, f: &mut fmt::Formatter<'_>, vp: VpIndex, bank: &str) -> fmt::Result {
        let Self {
            scontrol,
            simp,
            siefp,
            sirbp,
            ..
        } = self;
        write!(
            f,
            "SCONTROL {scontrol:#x}, SIMP {simp:#x}, SIEFP {siefp:#x}, SIRBP {sirbp:#x}"
        )?;
        writeln!(f, ", {} EOMs ({vp}{bank})", self.eoms)?;
        for (sint, counters) in SintIndex::all().zip(&self.counters) {
            if *counters != SintCounters::default() {
                row(f, sint, counters)?;
            }
        }
        self.timers.iter().try_for_each(|timer| timer_row(f, timer))
    }
}

impl fmt::Display for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for vp in &self.vps {
            vp.plain.table(f, vp.index, "")?;
            if let Some(nested) = &vp.nested {
                nested.table(f, vp.index, ", nested")?;
            }
            for violation in &vp.violations {
                writeln!(f, "  {violation}")?;
            }
        }
        Ok(())
    }
}

fn timer_row(f: &mut fmt::Formatter<'_>, timer: &TimerState) -> fmt::Result {
    let TimerState {
        index,
        config,
        count,
        expiration,
        is_undelivered,
        counters: c,
    } = timer;
    let phase = match expiration {
        Some(at) if *is_undelivered => format!("undelivered since {at}"),
        Some(at) => format!("expires at {at}"),
        None => "stopped".into(),
    };
    writeln!(f, "  {index}: config {config:#x}, count {count}, {phase}")?;
    writeln!(
        f,
        "          expired {}: {} messages, {} interrupts ({} failed), {} withdrawn; {} skipped",
        c.expired, c.messages, c.interrupts, c.failed, c.withdrawn, c.skipped
    )
}

/// One SINT on up to three lines: messages, events, doorbells; only what it was used for.
fn row(f: &mut fmt::Formatter<'_>, sint: SintIndex, counters: &SintCounters) -> fmt::Result {
    let SintCounters {
        messages: m,
        events: e,
        ring: r,
        interrupts: i,
    } = counters;
    let name = format!("{sint}:");
    writeln!(
        f,
        "  {name:7} interrupts {} raised, {} muted, {} failed",
        i.raised, i.muted, i.failed
    )?;
    if m.posted != 0 {
        writeln!(
            f,
            "          messages {} posted, {} delivered ({} after EOM), {} queued, {} busy, \
             {} dropped, {} waiting",
            m.posted,
            m.delivered,
            m.redelivered,
            m.queued,
            m.busy,
            m.dropped.total(),
            m.waiting
        )?;
    }
    if e.signalled() != 0 {
        writeln!(
            f,
            "          events {} fresh, {} coalesced, {} refused, {} held",
            e.fresh, e.coalesced, e.refused, e.held
        )?;
    }
    if r.rung != 0 {
        writeln!(
            f,
            "          doorbells {} rung, {} entered, {} coalesced, {} held, {} waiting, \
             {} notices, {} refills",
            r.rung, r.entered, r.coalesced, r.held, r.waiting, r.notices, r.ring_empty
        )?;
    }
    Ok(())
}
