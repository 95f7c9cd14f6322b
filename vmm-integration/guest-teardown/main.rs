// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! The teardown guest: writes registers of its SynIC as its host asks for it, one by one, and takes
//! what arrives meanwhile as Linux's VMBus and MSHV drivers do.
//!
//! So the host can replay what a kernel did at its worst. Boot is that of the demo guest in
//! `guest/`, and so are the rules that keep the compiler from using SSE.

#![no_std]
#![no_main]

#[path = "../guest/cpu.rs"]
#[allow(dead_code, reason = "the demo guest needs the rest")]
mod cpu;
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
    Ordering::{Acquire, Relaxed, Release, SeqCst},
};

use cpu::{MSR_GS_BASE, MSR_X2APIC_EOI, read_msr, write_msr};
use frame::Frame;
use mailbox::{Mailbox, VECTOR, WAKE_VECTOR, mailbox_gpa};
use memory::{byte, count, dword, report, word};
use protocol::FAULT_CRASH;

core::arch::global_asm!(include_str!("../guest/boot.s"), options(att_syntax));
core::arch::global_asm!(
    include_str!("../guest-hostile/entries.s"),
    options(att_syntax)
);

unsafe extern "C" {
    fn sint_entry();
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
    let (sint, trap) = (
        sint_entry as *const () as u64,
        trap_entries as *const () as u64,
    );
    startup::set_gate(VECTOR.into(), sint);
    startup::set_gate(WAKE_VECTOR.into(), sint);
    startup::set_gate(GENERAL_PROTECTION as usize, trap + GENERAL_PROTECTION * 16);
}

impl Vp {
    /// Makes the write that the host asks for; false if there is none.
    fn serve(&self) -> bool {
        let asked = self.mailbox.asked.load(Acquire);
        if asked == self.mailbox.done.load(Relaxed) {
            return false;
        }
        let msr = self.mailbox.msr.load(Relaxed) as u32;
        let (keep, set) = (
            self.mailbox.keep.load(Relaxed),
            self.mailbox.set.load(Relaxed),
        );
        write_msr(msr, read_msr(msr) & keep | set);
        self.mailbox.done.store(asked, Release);
        true
    }

    /// SINT0: a notification of the ring. Linux's MSHV handler comes first.
    fn take_notification(&self) {
        let (Some(slot), Some(rings)) = (page(MSR_SIMP), page(MSR_SIRBP)) else {
            return;
        };
        if dword(slot).load(Acquire) != SYNIC_SINT_INTERCEPT {
            return;
        }
        let ring = rings + DOORBELL * AREA;
        loop {
            let tail = self.mailbox.tail.load(Relaxed);
            let entry = dword(ring + 4 + tail * 4);
            if entry.load(Acquire) == 0 {
                // A swap is the full barrier between this store and the last look at the entry.
                byte(ring).swap(0, SeqCst);
                if entry.load(Acquire) == 0 {
                    break;
                }
                byte(ring).store(1, Relaxed);
            }
            // Release: the producer reuses the entry once it reads 0.
            entry.store(0, Release);
            self.mailbox.tail.store((tail + 1) % RING_ENTRIES, Relaxed);
            count(&self.mailbox.doorbells);
        }
        release_slot(slot);
    }

    /// SINT2: the next numbered message.
    fn take_message(&self) {
        let Some(slots) = page(MSR_SIMP) else {
            return;
        };
        let slot = slots + VMBUS * AREA;
        if dword(slot).load(Acquire) == 0 {
            return;
        }
        let expected = count(&self.mailbox.messages);
        if word(slot + PAYLOAD).load(Relaxed) != expected {
            count(&self.mailbox.disorder);
        }
        release_slot(slot);
    }
}

#[unsafe(no_mangle)]
extern "C" fn sint_interrupt(vp: &Vp) {
    vp.take_notification();
    vp.take_message();
    write_msr(MSR_X2APIC_EOI, 0);
}

/// The page that a register names, if it is enabled: asked each time, as it may be anybody's.
fn page(msr: u32) -> Option<u64> {
    let value = read_msr(msr);
    (value & 1 != 0).then_some(value & !0xFFF)
}

/// Empties a message slot and asks for the next message if there is one.
fn release_slot(slot: u64) {
    // The swap is the full barrier between emptying the slot and looking at msg_pending.
    dword(slot).swap(0, SeqCst);
    if byte(slot + 5).load(Relaxed) & 1 != 0 {
        write_msr(MSR_EOM, 0);
    }
}

/// Steps over a register write that was refused by #GP. Any other exception is a crash.
#[unsafe(no_mangle)]
extern "C" fn trap(frame: &mut Frame, vp: &Vp) {
    let opcode = [byte(frame.rip), byte(frame.rip + 1)].map(|byte| byte.load(Relaxed));
    if frame.vector != GENERAL_PROTECTION || opcode != WRMSR {
        report(vp.index).fail(FAULT_CRASH, 0, frame.vector, frame.rip);
    }
    count(&vp.mailbox.faults);
    frame.rip += 2;
}

const GENERAL_PROTECTION: u64 = 13;
const WRMSR: [u8; 2] = [0x0F, 0x30];
const MSR_SIMP: u32 = 0x4000_0083;
const MSR_SIRBP: u32 = 0x4000_0085;
const MSR_EOM: u32 = 0x4000_0084;
const AREA: u64 = 256;
const PAYLOAD: u64 = 16;
const VMBUS: u64 = 2;
const DOORBELL: u64 = 5;
const RING_ENTRIES: u64 = 63;
const SYNIC_SINT_INTERCEPT: u32 = 0x8000_0061;
