// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! What a guest does once: interrupt gates, local APICs, and the other VPs' start.

use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::cpu::{MSR_X2APIC_ICR, MSR_X2APIC_ID, MSR_X2APIC_SVR, exit, read_msr, write_msr};
use crate::memory;
use crate::protocol::{EXIT_FAULT, FAULT_CRASH};

unsafe extern "C" {
    static idt: [[AtomicU64; 2]; 256];
    fn ap_entry();
    fn exception_entries();
}

pub fn enable_apic() {
    const ENABLE: u64 = 0x100;
    const SPURIOUS_VECTOR: u64 = 0xFF;
    write_msr(MSR_X2APIC_SVR, ENABLE | SPURIOUS_VECTOR);
}

/// Has every exception end the guest by [`vp_exception`].
pub fn set_exception_gates() {
    for vector in 0..32 {
        let entries = exception_entries as *const () as u64;
        set_gate(vector, entries + vector as u64 * 16);
    }
}

pub fn set_gate(vector: usize, entry: u64) {
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

pub fn start_aps() {
    const ALL_BUT_SELF: u64 = 0xC_0000;
    const INIT: u64 = 0x4500;
    const STARTUP: u64 = 0x4600;
    let page = ap_entry as *const () as u64 >> 12;
    write_msr(MSR_X2APIC_ICR, ALL_BUT_SELF | INIT);
    write_msr(MSR_X2APIC_ICR, ALL_BUT_SELF | STARTUP | page);
}

/// Reports the crash and leaves the guest. `frame` points at the error code, if the exception has
/// one, or at RIP.
#[unsafe(no_mangle)]
extern "C" fn vp_exception(vector: u64, frame: *const u64) -> ! {
    let has_error_code = matches!(vector, 8 | 10..=14 | 17 | 21);
    // SAFETY: the CPU pushed at least three words there.
    let rip = unsafe { frame.add(usize::from(has_error_code)).read_volatile() };
    let report = memory::report(read_msr(MSR_X2APIC_ID) as u32);
    report.fail(FAULT_CRASH, 0, vector, rip)
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo) -> ! {
    exit(EXIT_FAULT)
}
