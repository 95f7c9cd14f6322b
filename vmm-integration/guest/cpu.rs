// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! The instructions Rust has no word for.

use core::arch::asm;

use crate::protocol::EXIT_PORT;

pub const MSR_X2APIC_ID: u32 = 0x802;
pub const MSR_X2APIC_EOI: u32 = 0x80B;
pub const MSR_X2APIC_SVR: u32 = 0x80F;
pub const MSR_X2APIC_ICR: u32 = 0x830;
pub const MSR_GS_BASE: u32 = 0xC000_0101;

pub fn read_msr(msr: u32) -> u64 {
    let (low, high): (u32, u32);
    // SAFETY: the guest runs at CPL 0; an MSR the VMM refuses raises #GP, which is reported as a
    // crash.
    unsafe {
        asm!(
            "rdmsr",
            in("ecx") msr,
            out("eax") low,
            out("edx") high,
            options(nostack, preserves_flags),
        );
    };
    u64::from(high) << 32 | u64::from(low)
}

pub fn write_msr(msr: u32, value: u64) {
    // SAFETY: as for `read_msr`. Not `nomem`: a SynIC write publishes memory.
    unsafe {
        asm!(
            "wrmsr",
            in("ecx") msr,
            in("eax") value as u32,
            in("edx") (value >> 32) as u32,
            options(nostack, preserves_flags),
        );
    }
}

/// CPUID.40000004H:EAX, the recommendations to the guest.
#[allow(unused_unsafe, reason = "newer Rust has `__cpuid` as a safe function")]
pub fn hyperv_recommendations() -> u32 {
    // SAFETY: every x86-64 CPU has CPUID.
    unsafe { core::arch::x86_64::__cpuid(0x4000_0004) }.eax
}

pub fn read_tsc() -> u64 {
    // SAFETY: every x86-64 CPU has a TSC, and CR4.TSD is clear.
    unsafe { core::arch::x86_64::_rdtsc() }
}

pub fn enable_interrupts() {
    // SAFETY: the IDT is in place before the first call.
    unsafe { asm!("sti", options(nostack)) };
}

pub fn disable_interrupts() {
    // SAFETY: only the interrupt flag changes.
    unsafe { asm!("cli", options(nostack)) };
}

/// Waits for an interrupt, and returns with interrupts on. To be called with interrupts off: one
/// that comes after the caller's last look ends the wait.
pub fn wait_for_interrupt() {
    unsafe extern "C" {
        #[link_name = "wait_for_interrupt"]
        fn wait();
    }
    // SAFETY: it stops the VP, and interrupt entries preserve all registers that Rust code uses.
    unsafe { wait() };
}

/// Stops this VP until an interrupt, if they are on.
#[allow(dead_code, reason = "the hostile guest needs it")]
pub fn halt() {
    // SAFETY: as for `wait_for_interrupt`.
    unsafe { asm!("hlt", options(nostack)) };
}

/// Ends the guest with `code`.
pub fn exit(code: u8) -> ! {
    loop {
        // SAFETY: the VMM ends the guest on this port; HLT is for a VMM that takes its time.
        unsafe {
            asm!("out dx, al", "cli", "hlt", in("dx") EXIT_PORT, in("al") code, options(nostack))
        };
    }
}
