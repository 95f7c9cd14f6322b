// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! What the puppet and who pulls its strings agree on.
//!
//! Both sides compile this very file. All words are little-endian u64, and written by one side only.

use core::sync::atomic::AtomicU64;

/// One VP's.
#[repr(C)]
pub struct Mailbox {
    /// Number of the request, from 1; the words up to `done` are its.
    pub asked: AtomicU64,
    /// What to do.
    pub operation: AtomicU64,
    /// With what: an MSR and its value; RCX and RDX of a hypercall.
    pub arguments: [AtomicU64; 2],
    /// Number of the request that was met last; 0 once the VP is up.
    pub done: AtomicU64,
    /// What came of it.
    pub result: AtomicU64,
    /// How many requests ended in #GP.
    pub faults: AtomicU64,
    /// How many SINTs have interrupted the VP.
    pub interrupts: AtomicU64,
    /// Their vectors; number n at n % 64.
    pub vectors: [AtomicU64; VECTORS],
    /// 1 once the VP is up.
    pub is_up: AtomicU64,
}

pub const fn mailbox_gpa(vp: u32) -> u64 {
    0x70_0000 + vp as u64 * 0x1000
}

/// The first of four pages of a VP for whatever its puller likes.
pub const fn pages_gpa(vp: u32) -> u64 {
    0x50_0000 + vp as u64 * 0x4000
}

pub const NOTHING: u64 = 0;
pub const READ_MSR: u64 = 1;
pub const WRITE_MSR: u64 = 2;
pub const HYPERCALL: u64 = 3;
pub const VECTORS: usize = 64;
/// By which a VP is told of a request: of a lower priority than those of SINTs.
pub const WAKE_VECTOR: u8 = 0xE0;
/// All vectors from here on are of SINTs.
pub const FIRST_VECTOR: u8 = 0xF0;
