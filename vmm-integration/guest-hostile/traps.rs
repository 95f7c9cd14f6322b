// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! Interrupts of every vector, and the exceptions that fuzzing provokes.

use core::sync::atomic::Ordering::Relaxed;

use crate::Cpu;
use crate::cpu::{MSR_X2APIC_EOI, write_msr};
use crate::drivers;
use crate::frame::Frame;
use crate::fuzz_protocol::*;
use crate::interrupt::sint_interrupt;
use crate::memory::{byte, count, word};
use crate::protocol::{FAULT_CRASH, HYPERCALL_GPA};
use crate::startup::set_gate;

core::arch::global_asm!(include_str!("entries.s"), options(att_syntax));

unsafe extern "C" {
    fn trap_entries();
}

/// All vectors but the exceptions that nothing here provokes.
pub fn set_gates() {
    let entries = trap_entries as *const () as u64;
    let provoked = [INVALID_OPCODE, GENERAL_PROTECTION];
    for vector in provoked.into_iter().chain(FIRST_INTERRUPT..256) {
        set_gate(vector as usize, entries + vector * 16);
    }
}

#[unsafe(no_mangle)]
extern "C" fn trap(frame: &mut Frame, cpu: &Cpu) {
    if frame.vector < FIRST_INTERRUPT {
        return cpu.resume(frame);
    }
    count(&cpu.counts.interrupts);
    if frame.vector == drivers::VECTOR && cpu.is_witness.load(Relaxed) {
        sint_interrupt(&cpu.vp);
    }
    // Also for an AutoEOI SINT: the same vector may have come as an IPI. An EOI too many is
    // harmless, as there is no other interrupt in service.
    write_msr(MSR_X2APIC_EOI, 0);
}

impl Cpu {
    /// Steps over an MSR access that was refused, and returns from a hypercall page that holds
    /// something else than a hypercall. Any other exception is a crash.
    fn resume(&self, frame: &mut Frame) {
        let opcode = u16::from(byte(frame.rip + 1).load(Relaxed)) << 8
            | u16::from(byte(frame.rip).load(Relaxed));
        if frame.vector == GENERAL_PROTECTION && matches!(opcode, WRMSR | RDMSR) {
            count(&self.counts.msr_faults);
            frame.rip += 2;
        } else if is_hypercall_page(frame.rip) {
            frame.rip = word(frame.rsp).load(Relaxed);
            frame.rsp += 8;
        } else {
            (self.vp.report).fail(FAULT_CRASH, 0, frame.vector, frame.rip);
        }
    }
}

fn is_hypercall_page(rip: u64) -> bool {
    let pages = HYPERCALLS_GPA..HYPERCALLS_GPA + HYPERCALL_PAGES * 0x1000;
    rip & !0xFFF == HYPERCALL_GPA || pages.contains(&rip)
}

const INVALID_OPCODE: u64 = 6;
const GENERAL_PROTECTION: u64 = 13;
const FIRST_INTERRUPT: u64 = 16;
const WRMSR: u16 = 0x300F;
const RDMSR: u16 = 0x320F;
