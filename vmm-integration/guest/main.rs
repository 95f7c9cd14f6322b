// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! The demo guest: on every VP a VMBus-like and an MSHV-like SynIC driver, side by side, and their
//! traffic.
//!
//! It touches memory only by scalar volatile or atomic access and never by floating point, so the
//! compiler has no reason for SSE: interrupt entry does not save vector registers, and KVM's
//! instruction emulator, which runs this kernel code on hosts without full hardware virtualization,
//! hardly knows them. `build.rs` checks the assembly.

#![no_std]
#![no_main]

mod cpu;
mod drivers;
mod interrupt;
mod memory;
#[allow(dead_code, reason = "the host needs the rest")]
mod protocol;
mod traffic;

use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

use cpu::{MSR_GS_BASE, MSR_X2APIC_ICR, MSR_X2APIC_SVR, read_msr, write_msr};
use drivers::Vp;
use protocol::*;

core::arch::global_asm!(include_str!("boot.s"), options(att_syntax));

unsafe extern "C" {
    static idt: [[AtomicU64; 2]; 256];
    fn ap_entry();
    fn sint_entry();
    fn exception_entries();
}

/// Every VP arrives here once, on its own stack and with interrupts off.
#[unsafe(no_mangle)]
extern "C" fn vp_main(index: u32) -> ! {
    // The first frame of a stack that is never unwound: as good as static, without a table of VPs.
    let vp = Vp::new(index);
    vp.this.store(&raw const vp as u64, Relaxed);
    write_msr(MSR_GS_BASE, &raw const vp as u64);
    write_msr(MSR_X2APIC_SVR, APIC_ENABLE | SPURIOUS_VECTOR);
    if index == 0 {
        fill_idt();
        drivers::enable_hypercalls();
        start_aps();
    }
    traffic::run(&vp)
}

/// Reports the crash and leaves the guest. `frame` points at the error code, if the exception has
/// one, or at RIP.
#[unsafe(no_mangle)]
extern "C" fn vp_exception(vector: u64, frame: *const u64) -> ! {
    let has_error_code = matches!(vector, 8 | 10..=14 | 17 | 21);
    // SAFETY: the CPU pushed at least three words there.
    let rip = unsafe { frame.add(usize::from(has_error_code)).read_volatile() };
    let report = memory::report(read_msr(cpu::MSR_X2APIC_ID) as u32);
    report.fail(FAULT_CRASH, 0, vector, rip)
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo) -> ! {
    cpu::exit(EXIT_FAULT)
}

fn fill_idt() {
    for vector in 0..32 {
        let entries = exception_entries as *const () as u64;
        set_gate(vector, entries + vector as u64 * 16);
    }
    set_gate(drivers::VECTOR as usize, sint_entry as *const () as u64);
}

fn set_gate(vector: usize, entry: u64) {
    const CODE_SEGMENT: u64 = 0x08 << 16;
    const INTERRUPT_GATE: u64 = 0x8E00 << 32;
    let (bits_15_0, bits_31_16) = (entry & 0xFFFF, entry >> 16 & 0xFFFF);
    let low = bits_15_0 | CODE_SEGMENT | INTERRUPT_GATE | bits_31_16 << 48;
    // SAFETY: boot.s reserves 256 gates; only the boot VP writes them, before it starts the others.
    if let Some(gate) = unsafe { idt.get(vector) } {
        gate[0].store(low, Relaxed);
        gate[1].store(entry >> 32, Relaxed);
    }
}

fn start_aps() {
    const ALL_BUT_SELF: u64 = 0xC_0000;
    const INIT: u64 = 0x4500;
    const STARTUP: u64 = 0x4600;
    let page = ap_entry as *const () as u64 >> 12;
    write_msr(MSR_X2APIC_ICR, ALL_BUT_SELF | INIT);
    write_msr(MSR_X2APIC_ICR, ALL_BUT_SELF | STARTUP | page);
}

const APIC_ENABLE: u64 = 0x100;
const SPURIOUS_VECTOR: u64 = 0xFF;
