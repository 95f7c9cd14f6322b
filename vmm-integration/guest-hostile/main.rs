// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! The hostile guest: every VP but the last fuzzes the SynIC, and the last one, the witness, is a
//! well-behaved driver of the demo guest, which must not notice.
//!
//! Boot, drivers and interrupt handler are those of the demo guest in `guest/`, and so are the
//! rules that keep the compiler from using SSE.

#![no_std]
#![no_main]

#[path = "../guest/cpu.rs"]
mod cpu;
#[path = "../guest/drivers.rs"]
mod drivers;
mod frame;
mod fuzz;
mod fuzz_protocol;
mod hypercalls;
#[path = "../guest/interrupt.rs"]
mod interrupt;
#[path = "../guest/memory.rs"]
mod memory;
mod msrs;
#[path = "../guest/protocol.rs"]
#[allow(dead_code, reason = "the host and the demo guest need the rest")]
mod protocol;
mod random;
#[path = "../guest/startup.rs"]
mod startup;
#[path = "../guest/traffic.rs"]
#[allow(dead_code, reason = "the demo guest needs the rest")]
mod traffic;
mod traps;
mod witness;

use core::sync::atomic::{
    AtomicBool, AtomicU64,
    Ordering::{Acquire, Relaxed},
};

use cpu::{MSR_GS_BASE, write_msr};
use drivers::Vp;
use fuzz_protocol::*;
use memory::{plan, word};

core::arch::global_asm!(include_str!("../guest/boot.s"), options(att_syntax));

/// One VP.
#[repr(C)]
pub struct Cpu {
    /// First, so that its pointer to itself, which is at GS:0, points here as well.
    vp: Vp,
    counts: &'static Counts,
    /// It takes part as a well-behaved driver.
    is_witness: AtomicBool,
}

/// Every VP arrives here once, on its own stack and with interrupts off.
#[unsafe(no_mangle)]
extern "C" fn vp_main(index: u32) -> ! {
    let cpu = Cpu {
        vp: Vp::new(index),
        counts: counts(index),
        is_witness: AtomicBool::new(index == witness_index()),
    };
    cpu.vp.this.store(&raw const cpu as u64, Relaxed);
    write_msr(MSR_GS_BASE, &raw const cpu as u64);
    startup::enable_apic();
    if index == 0 {
        startup::set_exception_gates();
        traps::set_gates();
        hypercalls::fill_pages();
        drivers::enable_hypercalls();
        startup::start_aps();
    }
    if cpu.is_witness.load(Relaxed) {
        witness::run(&cpu);
    }
    fuzz::run(&cpu)
}

fn witness_index() -> u32 {
    plan().vps.load(Relaxed) as u32 - 1
}

fn phase() -> u64 {
    fuzz_plan().phase.load(Acquire)
}

fn fuzz_plan() -> &'static FuzzPlan {
    // SAFETY: a `FuzzPlan` is made of shared words only, and nothing else lies there.
    unsafe { &*core::ptr::from_ref(word(FUZZ_PLAN_GPA)).cast() }
}

fn counts(vp: u32) -> &'static Counts {
    // SAFETY: `Counts` is made of shared words only, and nothing else lies there.
    unsafe { &*core::ptr::from_ref::<AtomicU64>(word(counts_gpa(vp))).cast() }
}
