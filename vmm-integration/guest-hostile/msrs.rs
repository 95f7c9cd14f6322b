// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! Which MSR to access, and what to write to it.
//!
//! A guest may ruin itself: a SynIC page over its own code, a reset, an INIT for another VP. The
//! values here keep to what must not disturb the witness, and leave nothing else out.

use crate::drivers::VECTOR;
use crate::fuzz_protocol::*;
use crate::protocol::{HYPERCALL_GPA, RAM_SIZE};
use crate::random::Random;

/// Any of Hyper-V's MSRs, the SynIC's most often.
pub fn any_msr(random: &mut Random) -> u32 {
    let (base, count) = match random.below(16) {
        0..=2 => (0x4000_0000, 0x201),
        // Of the whole partition.
        3 => (GUEST_OS_ID, 2),
        4..=5 => (0x4000_1080, 0x20),
        6..=7 => (TIMERS, 8),
        8..=9 => (SCONTROL, 6),
        _ => (SCONTROL, 0x20),
    };
    base + random.below(count) as u32
}

/// A value for `msr`; `all` says that no other VP has to be spared.
pub fn value_for(msr: u32, random: &mut Random, all: bool) -> u64 {
    match msr {
        // Giving up the partition's identity takes every VP's event rings away.
        GUEST_OS_ID if all && random.one_in(4) => 0,
        GUEST_OS_ID => random.next() | 1,
        HYPERCALL => hypercall_page(random, all),
        // A guest may reset or crash itself; here it would end the test.
        RESET | CRASH_CTL => random.next() & !(1 << 63 | 1),
        HV_ICR => ipi(random, all),
        SCONTROL | NESTED_SCONTROL => scontrol(random),
        SINT_FIRST..=SINT_LAST | NESTED_SINT_FIRST..=NESTED_SINT_LAST => sint(random),
        TIMERS..=TIMERS_LAST if msr & 1 == 0 => timer_config(random),
        TIMERS..=TIMERS_LAST => timer_count(random),
        _ => page(random),
    }
}

pub fn is_timer(msr: u32) -> bool {
    (TIMERS..=TIMERS_LAST).contains(&msr)
}

/// An enabled or disabled page, mostly one of the arena; or a number that is none.
pub fn page(random: &mut Random) -> u64 {
    let bits = random.next();
    let value = match random.below(16) {
        0 => bits,
        1 => bits & 0xFFF,
        2 => RAM_SIZE as u64 | bits & 0xF001,
        3 => !0 << random.below(64) | bits & 1,
        4 => 0xFEE0_0000 | bits & 0xFFF,
        5 => bits & 0xFFFF_FFFF,
        6 | 7 => arena_page(bits) | bits & 0xFFE,
        8 => arena_page(bits),
        _ => arena_page(bits) | 1,
    };
    tame(value)
}

/// Any address: in the arena if it is in RAM at all.
pub fn tame(gpa: u64) -> u64 {
    if gpa < RAM_SIZE as u64 {
        arena_page(gpa >> 12 & 0xFF) | gpa & 0xFFF
    } else {
        gpa
    }
}

/// Fixed delivery to any VP, the witness too, with any vector that is not an exception. The vector
/// of the witness's SINTs would hide that one of its interrupts was lost.
pub fn ipi(random: &mut Random, all: bool) -> u64 {
    let vector = match random.below(240) + 16 {
        VECTOR if !all => VECTOR - 1,
        vector => vector,
    };
    let (destination, shorthand) = (random.below(9), random.below(4));
    destination << 32 | shorthand << 18 | vector
}

fn arena_page(number: u64) -> u64 {
    ARENA_GPA + (number & 0xFF_FFFF) * 0x1000 % ARENA_SIZE
}

fn hypercall_page(random: &mut Random, all: bool) -> u64 {
    let page = match random.below(8) {
        0 => HYPERCALL_GPA,
        1 => !0 << (32 + random.below(32)),
        2 => RAM_SIZE as u64,
        n => HYPERCALLS_GPA + n % HYPERCALL_PAGES * 0x1000,
    };
    // Locked, it would keep its value for the rest of the run.
    let lock = if all && random.one_in(8) { 2 } else { 0 };
    page | lock | u64::from(!random.one_in(4))
}

fn scontrol(random: &mut Random) -> u64 {
    match random.below(16) {
        0 => 0,
        1 => random.next(),
        _ => 1,
    }
}

fn sint(random: &mut Random) -> u64 {
    let bits = random.next();
    match random.below(8) {
        0 => bits,
        1 => 1 << 16,
        // AutoEOI, polling, as-intercept and proxy; any vector, of an exception too.
        2 | 3 => bits & 0x1E_00FF,
        _ => bits & 0x0A_00FF | 0x20,
    }
}

/// Enabled, periodic, lazy, auto-enable, APIC vector, direct mode, SINT.
fn timer_config(random: &mut Random) -> u64 {
    let bits = random.next();
    if random.one_in(8) {
        bits
    } else {
        bits & 0xF_1FFF
    }
}

/// From one unit of 100 ns to more than all time.
fn timer_count(random: &mut Random) -> u64 {
    random.next() >> random.below(64)
}

const GUEST_OS_ID: u32 = 0x4000_0000;
const HYPERCALL: u32 = 0x4000_0001;
const RESET: u32 = 0x4000_0003;
const HV_ICR: u32 = 0x4000_0071;
pub const SCONTROL: u32 = 0x4000_0080;
const SINT_FIRST: u32 = 0x4000_0090;
const SINT_LAST: u32 = 0x4000_009F;
const TIMERS: u32 = 0x4000_00B0;
const TIMERS_LAST: u32 = 0x4000_00B7;
const CRASH_CTL: u32 = 0x4000_0105;
const NESTED_SCONTROL: u32 = 0x4000_1080;
const NESTED_SINT_FIRST: u32 = 0x4000_1090;
const NESTED_SINT_LAST: u32 = 0x4000_109F;
