// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! Guest-physical memory, identity-mapped, as shared words.

use core::sync::atomic::{
    AtomicU8, AtomicU32, AtomicU64,
    Ordering::{Relaxed, Release},
};

use crate::cpu::exit;
use crate::protocol::{EXIT_FAULT, PLAN_GPA, Plan, Report, report_gpa};

pub fn word(gpa: u64) -> &'static AtomicU64 {
    // SAFETY: all callers pass 8-byte aligned addresses of `protocol.rs`, which lie in the
    // identity-mapped first GiB and are not used by the image, its stacks or any other Rust object.
    unsafe { &*(gpa as *const AtomicU64) }
}

pub fn dword(gpa: u64) -> &'static AtomicU32 {
    // SAFETY: as for `word`, with 4-byte alignment.
    unsafe { &*(gpa as *const AtomicU32) }
}

pub fn byte(gpa: u64) -> &'static AtomicU8 {
    // SAFETY: as for `word`, with any alignment.
    unsafe { &*(gpa as *const AtomicU8) }
}

pub fn plan() -> &'static Plan {
    // SAFETY: as for `word`; `Plan` is made of such words only.
    unsafe { &*(PLAN_GPA as *const Plan) }
}

pub fn report(vp: u32) -> &'static Report {
    // SAFETY: as for `word`; `Report` is made of such words only.
    unsafe { &*(report_gpa(vp) as *const Report) }
}

/// Adds one to a word that only this VP writes: no locked instruction needed.
pub fn count(word: &AtomicU64) -> u64 {
    let old = word.load(Relaxed);
    word.store(old + 1, Relaxed);
    old
}

impl Report {
    /// Reports what went wrong and leaves the guest: what follows a fault tells nothing more.
    pub fn fail(&self, fault: u64, sint: u64, expected: u64, got: u64) -> ! {
        self.fault_sint.store(sint, Relaxed);
        self.expected.store(expected, Relaxed);
        self.got.store(got, Relaxed);
        self.fault.store(fault, Release);
        exit(EXIT_FAULT)
    }
}

// The compiler may call these for plain copies; as string instructions they also need no SSE.
#[unsafe(no_mangle)]
unsafe extern "C" fn memcpy(to: *mut u8, from: *const u8, bytes: usize) -> *mut u8 {
    // SAFETY: the caller vouches for both ranges.
    unsafe {
        core::arch::asm!(
            "rep movsb",
            inout("rcx") bytes => _,
            inout("rdi") to => _,
            inout("rsi") from => _,
            options(nostack, preserves_flags),
        );
    }
    to
}

#[unsafe(no_mangle)]
unsafe extern "C" fn memset(to: *mut u8, value: i32, bytes: usize) -> *mut u8 {
    // SAFETY: the caller vouches for the range.
    unsafe {
        core::arch::asm!(
            "rep stosb",
            inout("rcx") bytes => _,
            inout("rdi") to => _,
            in("al") value as u8,
            options(nostack, preserves_flags),
        );
    }
    to
}
