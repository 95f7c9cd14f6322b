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
mod startup;
mod traffic;

use core::sync::atomic::Ordering::Relaxed;

use cpu::{MSR_GS_BASE, write_msr};
use drivers::Vp;

core::arch::global_asm!(include_str!("boot.s"), options(att_syntax));

unsafe extern "C" {
    fn sint_entry();
}

/// Every VP arrives here once, on its own stack and with interrupts off.
#[unsafe(no_mangle)]
extern "C" fn vp_main(index: u32) -> ! {
    // The first frame of a stack that is never unwound: as good as static, without a table of VPs.
    let vp = Vp::new(index);
    vp.this.store(&raw const vp as u64, Relaxed);
    write_msr(MSR_GS_BASE, &raw const vp as u64);
    startup::enable_apic();
    if index == 0 {
        startup::set_exception_gates();
        startup::set_gate(drivers::VECTOR as usize, sint_entry as *const () as u64);
        drivers::enable_hypercalls();
        startup::start_aps();
    }
    traffic::run(&vp)
}
