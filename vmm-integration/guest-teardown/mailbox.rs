// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! What the guest and its host agree on: the host names one register write at a time, the guest
//! makes it, and counts what arrives meanwhile.
//!
//! Both sides compile this very file. All words are little-endian u64, and written by one side only.

use core::sync::atomic::AtomicU64;

/// One VP's.
#[repr(C)]
pub struct Mailbox {
    /// Number of the write that is asked for, from 1; the three words below are its.
    pub asked: AtomicU64,
    /// The register. Its new value is the old one, as far as `keep` goes, with `set`.
    pub msr: AtomicU64,
    pub keep: AtomicU64,
    pub set: AtomicU64,
    /// Number of the write that was made last; 0 once the VP is up.
    pub done: AtomicU64,
    /// How many writes ended in #GP.
    pub faults: AtomicU64,
    /// Messages taken from SINT2, and how many of them were not the next one.
    pub messages: AtomicU64,
    pub disorder: AtomicU64,
    /// Ports taken from the event ring of SINT5.
    pub doorbells: AtomicU64,
    /// Index of the ring's next entry.
    pub tail: AtomicU64,
    /// 1 once the VP is up.
    pub is_up: AtomicU64,
}

pub const fn mailbox_gpa(vp: u32) -> u64 {
    0x70_0000 + vp as u64 * 0x1000
}

/// The pages of a VP: message, event flags, event ring. A root partition has others, from its
/// hypervisor, and finds them in its registers.
pub const fn page_gpa(vp: u32, page: u64) -> u64 {
    0x50_0000 + vp as u64 * 0x3000 + page * 0x1000
}

/// Of all SINTs, as in Linux (`HYPERVISOR_CALLBACK_VECTOR`).
pub const VECTOR: u8 = 0xF3;
/// By which the host tells of a new request.
pub const WAKE_VECTOR: u8 = 0xE0;
