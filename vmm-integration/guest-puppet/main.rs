// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! The puppet: a guest whose VPs do as they are told, one thing at a time, and write down by which
//! vectors they are interrupted. What else a guest does, in its memory, its host does for it.
//!
//! Boot is that of the demo guest in `guest/`, and so are the rules that keep the compiler from using
//! SSE.

#![no_std]
#![no_main]

#[path = "../guest/cpu.rs"]
#[allow(dead_code, reason = "the demo guest needs the rest")]
mod cpu;
#[path = "../guest/drivers.rs"]
#[allow(dead_code, reason = "the demo guest needs the rest")]
mod drivers;
#[path = "../guest-hostile/frame.rs"]
mod frame;
#[allow(dead_code, reason = "the host needs the rest")]
mod mailbox;
#[path = "../guest/memory.rs"]
#[allow(dead_code, reason = "the demo guest needs the rest")]
mod memory;
#[path = "../guest/protocol.rs"]
#[allow(dead_code, reason = "the demo guest needs the rest")]
mod protocol;
#[path = "../guest/startup.rs"]
mod startup;

use core::sync::atomic::{
    AtomicU64,
    Ordering::{Acquire, Relaxed, Release},
};

use cpu::{MSR_GS_BASE, MSR_X2APIC_EOI, read_msr, write_msr};
use frame::Frame;
use mailbox::*;
use memory::{byte, count, report, word};
use protocol::FAULT_CRASH;

core::arch::global_asm!(include_str!("../guest/boot.s"), options(att_syntax));
core::arch::global_asm!(
    include_str!("../guest-hostile/entries.s"),
    options(att_syntax)
);

unsafe extern "C" {
    fn trap_entries();
}

/// One VP.
#[repr(C)]
struct Vp {
    /// First, because interrupt entry reads it from GS:0.
    this: AtomicU64,
    index: u32,
    mailbox: &'static Mailbox,
}

/// Every VP arrives here once, on its own stack and with interrupts off.
#[unsafe(no_mangle)]
extern "C" fn vp_main(index: u32) -> ! {
    let vp = Vp {
        this: AtomicU64::new(0),
        index,
        // SAFETY: a `Mailbox` is made of shared words only, and nothing else lies there.
        mailbox: unsafe { &*core::ptr::from_ref(word(mailbox_gpa(index))).cast() },
    };
    vp.this.store(&raw const vp as u64, Relaxed);
    write_msr(MSR_GS_BASE, &raw const vp as u64);
    startup::enable_apic();
    if index == 0 {
        startup::set_exception_gates();
        set_gates();
        drivers::enable_hypercalls();
        startup::start_aps();
    }
    vp.mailbox.is_up.store(1, Release);
    loop {
        cpu::disable_interrupts();
        if !vp.serve() {
            // The wake-up that tells of a request comes after this look.
            cpu::wait_for_interrupt();
        }
    }
}

fn set_gates() {
    let trap = trap_entries as *const () as u64;
    let sints = u64::from(FIRST_VECTOR)..0xFF;
    for vector in sints.chain([GENERAL_PROTECTION, WAKE_VECTOR.into()]) {
        startup::set_gate(vector as usize, trap + vector * 16);
    }
}

impl Vp {
    /// Meets the request that there is; false if there is none.
    fn serve(&self) -> bool {
        let mailbox = self.mailbox;
        let asked = mailbox.asked.load(Acquire);
        if asked == mailbox.done.load(Relaxed) {
            return false;
        }
        let [first, second] = &mailbox.arguments;
        let (first, second) = (first.load(Relaxed), second.load(Relaxed));
        let result = match mailbox.operation.load(Relaxed) {
            READ_MSR => read_msr(first as u32),
            WRITE_MSR => {
                write_msr(first as u32, second);
                0
            }
            HYPERCALL => drivers::hypercall(first, second),
            _ => 0,
        };
        mailbox.result.store(result, Relaxed);
        mailbox.done.store(asked, Release);
        true
    }

    fn interrupted(&self, vector: u64) {
        if vector != u64::from(WAKE_VECTOR) {
            let number = self.mailbox.interrupts.load(Relaxed);
            if let Some(slot) = self.mailbox.vectors.get(number as usize % VECTORS) {
                slot.store(vector, Relaxed);
            }
            self.mailbox.interrupts.store(number + 1, Release);
        }
        write_msr(MSR_X2APIC_EOI, 0);
    }
}

/// Steps over an MSR access that was refused by #GP. Any other exception is a crash.
#[unsafe(no_mangle)]
extern "C" fn trap(frame: &mut Frame, vp: &Vp) {
    if frame.vector != GENERAL_PROTECTION {
        return vp.interrupted(frame.vector);
    }
    let opcode = [byte(frame.rip), byte(frame.rip + 1)].map(|byte| byte.load(Relaxed));
    if !matches!(opcode, [0x0F, 0x30 | 0x32]) {
        report(vp.index).fail(FAULT_CRASH, 0, frame.vector, frame.rip);
    }
    count(&vp.mailbox.faults);
    frame.rip += 2;
}

/// The boot code's own entry, which no gate here leads to.
#[unsafe(no_mangle)]
extern "C" fn sint_interrupt(_: &Vp) {}

const GENERAL_PROTECTION: u64 = 13;
