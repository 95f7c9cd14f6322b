// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! What the hostile guest and its host side agree on, on top of the demo's `protocol.rs`, which the
//! witness follows: where fuzzers may write, and what they count.
//!
//! Both sides compile this very file. All words are little-endian u64, naturally aligned, and
//! written by one side only.

use core::sync::atomic::AtomicU64;

/// One [`FuzzPlan`], written by the host.
pub const FUZZ_PLAN_GPA: u64 = 0x70_0000;
/// One [`Counts`] per VP.
const COUNTS_GPA: u64 = 0x71_0000;
/// Per VP, a page for hypercall input that no other VP and no SynIC writes.
const PRIVATE_GPA: u64 = 0x72_0000;
/// Where HV_X64_MSR_HYPERCALL may point: pages full of RET, so that calling one does no harm
/// whether or not hypercall code is there.
pub const HYPERCALLS_GPA: u64 = 0x73_0000;
pub const HYPERCALL_PAGES: u64 = 4;
/// The only RAM that fuzzers let SynIC pages, hypercall blocks and random bytes fall on. Few pages,
/// so that the VPs' pages coincide.
pub const ARENA_GPA: u64 = 0x80_0000;
pub const ARENA_SIZE: u64 = 24 << 12;

/// Connections that the host makes and drops while the guest names them.
pub const FUZZ_CONNECTION: u32 = 0x3000;
pub const FUZZ_CONNECTIONS: u32 = 8;

/// The fuzzers spare what belongs to all VPs, so that the witness can work.
pub const PHASE_WITNESS: u64 = 0;
/// No VP is spared, and the witness fuzzes, too.
pub const PHASE_ALL: u64 = 1;
/// Every VP comes to rest, and VP 0 ends the guest.
pub const PHASE_END: u64 = 2;

#[repr(C)]
pub struct FuzzPlan {
    pub seed: AtomicU64,
    /// One of the `PHASE_*` values.
    pub phase: AtomicU64,
}

/// What one VP has done.
#[repr(C)]
pub struct Counts {
    /// Steps of any kind: grows as long as the VP gets anywhere.
    pub steps: AtomicU64,
    pub msr_reads: AtomicU64,
    pub msr_writes: AtomicU64,
    /// MSR accesses that raised #GP.
    pub msr_faults: AtomicU64,
    pub timer_writes: AtomicU64,
    pub eoms: AtomicU64,
    /// Words written into the arena.
    pub page_words: AtomicU64,
    pub doorbells: AtomicU64,
    pub ipis: AtomicU64,
    pub interrupts: AtomicU64,
    /// Times the local APIC was switched off and on.
    pub apic_resets: AtomicU64,
    /// Hypercall pages that held no code, or raised an exception.
    pub calls_unanswered: AtomicU64,
    /// Hypercalls by HV_STATUS; the last one counts all from there on.
    pub statuses: [AtomicU64; STATUSES],
}

pub const STATUSES: usize = 0x100;

pub const fn counts_gpa(vp: u32) -> u64 {
    COUNTS_GPA + vp as u64 * 0x1000
}

pub const fn private_gpa(vp: u32) -> u64 {
    PRIVATE_GPA + vp as u64 * 0x1000
}
