// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! What the fuzzers say they have done, read from their memory, and what they are told.

use std::collections::BTreeMap;
use std::mem::offset_of;
use std::sync::atomic::Ordering;

use anyhow::{Context, Result};
use serde::Serialize;
use vm_memory::{Bytes, GuestAddress};

use super::fuzz_protocol::{self, FUZZ_PLAN_GPA, FuzzPlan, STATUSES, counts_gpa};
use crate::memory::Memory;

/// Declares [`Counts`] and how to read it: each field is the word of that name in the guest's
/// structure.
macro_rules! counts {
    ($($field:ident,)*) => {
        /// One VP's own counts; see [`fuzz_protocol::Counts`] for the fields.
        #[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
        pub struct Counts {
            $(pub $field: u64,)*
            /// Hypercalls by HV_STATUS, those that came up.
            pub statuses: BTreeMap<usize, u64>,
        }

        impl Counts {
            /// Of `vp`, so far.
            pub fn of(vp: u32, memory: &Memory) -> Self {
                let gpa = |offset| counts_gpa(vp) + offset as u64;
                Self {
                    $($field: word(memory, gpa(offset_of!(fuzz_protocol::Counts, $field))),)*
                    statuses: statuses(vp, memory),
                }
            }

            /// The sums.
            pub fn plus(mut self, other: &Self) -> Self {
                $(self.$field = self.$field.saturating_add(other.$field);)*
                for (status, count) in &other.statuses {
                    *self.statuses.entry(*status).or_default() += count;
                }
                self
            }
        }
    };
}

counts! {
    steps,
    msr_reads,
    msr_writes,
    msr_faults,
    timer_writes,
    eoms,
    page_words,
    doorbells,
    ipis,
    interrupts,
    apic_resets,
    calls_unanswered,
}

/// Tells the guest the seed, before it starts.
pub fn write_seed(memory: &Memory, seed: u64) -> Result<()> {
    store(memory, offset_of!(FuzzPlan, seed), seed)
}

/// Has the guest enter a phase.
pub fn write_phase(memory: &Memory, phase: u64) -> Result<()> {
    store(memory, offset_of!(FuzzPlan, phase), phase)
}

fn store(memory: &Memory, offset: usize, value: u64) -> Result<()> {
    let gpa = GuestAddress(FUZZ_PLAN_GPA + offset as u64);
    memory
        .store(value, gpa, Ordering::Release)
        .context("Cannot write the plan into guest memory")
}

fn statuses(vp: u32, memory: &Memory) -> BTreeMap<usize, u64> {
    let first = counts_gpa(vp) + offset_of!(fuzz_protocol::Counts, statuses) as u64;
    let counts = (0..STATUSES).map(|status| (status, word(memory, first + status as u64 * 8)));
    counts.filter(|(_, count)| *count != 0).collect()
}

fn word(memory: &Memory, gpa: u64) -> u64 {
    // The addresses are constants inside RAM, so there is no error to speak of.
    let word = memory.load(GuestAddress(gpa), Ordering::Acquire);
    word.unwrap_or(0)
}
