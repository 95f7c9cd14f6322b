// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! Bringing the SynIC up and giving it back, register by register in the order of Linux: the VMBus
//! half as `hv_synic_init` and `hv_synic_cleanup`, the MSHV half as `mshv_synic_cpu_init` and
//! `_exit` with VMBus active.

use core::arch::asm;
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::cpu::{hyperv_recommendations, read_msr, write_msr};
use crate::memory::{count, report, word};
use crate::protocol::*;

/// The one vector of all SINTs, `HYPERVISOR_CALLBACK_VECTOR` of Linux.
pub const VECTOR: u64 = 0xF3;
pub const SINT_INTERCEPT: u64 = 0;
pub const SINT_VMBUS: u64 = 2;
pub const SINT_DOORBELL: u64 = 5;
pub const MSR_EOM: u32 = 0x4000_0084;

/// One VP. `this` comes first: interrupt entry reads it from GS:0.
#[repr(C)]
pub struct Vp {
    pub this: AtomicU64,
    pub index: u32,
    /// The SINTs are not auto-EOI: the handler has to end the interrupt.
    pub explicit_eoi: bool,
    pub report: &'static Report,
    /// The VP that rings this one's ring, and the VP whose ring this one rings.
    pub previous: &'static Report,
    pub next: &'static Report,
    pub next_index: u32,
}

impl Vp {
    pub fn new(index: u32) -> Self {
        const DEPRECATE_AUTO_EOI: u32 = 1 << 9;
        let vps = crate::memory::plan().vps.load(Relaxed) as u32;
        let next_index = if index + 1 == vps { 0 } else { index + 1 };
        let previous_index = if index == 0 { vps - 1 } else { index - 1 };
        Self {
            this: AtomicU64::new(0),
            index,
            explicit_eoi: hyperv_recommendations() & DEPRECATE_AUTO_EOI != 0,
            report: report(index),
            previous: report(previous_index),
            next: report(next_index),
            next_index,
        }
    }

    pub fn vmbus_init(&self) {
        self.check(MSR_VP_INDEX, self.index.into());
        enable_page(MSR_SIMP, message_page(self.index));
        enable_page(MSR_SIEFP, flags_page(self.index));
        let value = self.sint_value();
        update(sint(SINT_VMBUS), |old| {
            old & !(0xFF | MASKED | AUTO_EOI) | value
        });
        update(MSR_SCONTROL, |old| old | ENABLE);
    }

    pub fn vmbus_cleanup(&self) {
        update(sint(SINT_VMBUS), |old| old | MASKED);
        disable_page(MSR_SIMP);
        disable_page(MSR_SIEFP);
        update(MSR_SCONTROL, |old| old & !ENABLE);
    }

    pub fn mshv_init(&self) {
        self.check(MSR_SIMP, message_page(self.index) | ENABLE);
        self.check(MSR_SIEFP, flags_page(self.index) | ENABLE);
        let ring = ring_page(self.index, self.report.mshv_inits.load(Relaxed));
        clear_page(ring);
        enable_page(MSR_SIRBP, ring);
        self.report.ring_page.store(ring, Relaxed);
        write_msr(sint(SINT_INTERCEPT), self.sint_value());
        write_msr(sint(SINT_DOORBELL), self.sint_value() | AS_INTERCEPT);
        count(&self.report.mshv_inits);
    }

    pub fn mshv_exit(&self) {
        update(sint(SINT_INTERCEPT), |old| old | MASKED);
        update(sint(SINT_DOORBELL), |old| old | MASKED);
        self.report.ring_page.store(0, Relaxed);
        disable_page(MSR_SIRBP);
    }

    fn sint_value(&self) -> u64 {
        VECTOR | if self.explicit_eoi { 0 } else { AUTO_EOI }
    }

    fn check(&self, register: u32, expected: u64) {
        let got = read_msr(register);
        if expected != got {
            self.report
                .fail(FAULT_REGISTER, register.into(), expected, got);
        }
    }
}

/// Names the guest and puts the hypercall page in place; once, before the first hypercall.
pub fn enable_hypercalls() {
    write_msr(MSR_GUEST_OS_ID, OS_ID);
    write_msr(MSR_HYPERCALL, HYPERCALL_GPA | ENABLE);
}

/// A fast hypercall, one input word. The status is in the low 16 bits.
pub fn fast_hypercall(code: u64, input: u64) -> u64 {
    const FAST: u64 = 1 << 16;
    hypercall(code | FAST, input)
}

/// Calls the hypercall page as the TLFS lays down: control in RCX, input in RDX, output in R8,
/// status in RAX.
pub fn hypercall(control: u64, input: u64) -> u64 {
    let status: u64;
    // SAFETY: the page holds code that changes no register but RAX and returns.
    unsafe {
        asm!(
            "call {page}",
            page = in(reg) HYPERCALL_GPA,
            in("rcx") control,
            in("rdx") input,
            in("r8") 0_u64,
            lateout("rax") status,
            clobber_abi("C"),
        );
    }
    status & 0xFFFF
}

fn enable_page(msr: u32, gpa: u64) {
    update(msr, |old| old & PRESERVED | gpa | ENABLE);
}

/// Base and enable bit become 0.
fn disable_page(msr: u32) {
    update(msr, |old| old & PRESERVED);
}

fn update(msr: u32, change: impl FnOnce(u64) -> u64) {
    write_msr(msr, change(read_msr(msr)));
}

fn clear_page(gpa: u64) {
    for offset in (0..4096).step_by(8) {
        // Relaxed: nobody else looks before the WRMSR that enables the page, which is serializing.
        word(gpa + offset).store(0, Relaxed);
    }
}

const fn sint(index: u64) -> u32 {
    0x4000_0090 + index as u32
}

pub const POST_MESSAGE: u64 = 0x5C;
pub const SIGNAL_EVENT: u64 = 0x5D;
pub const NOTIFY_PORT_RING_EMPTY: u64 = 0x8B;

const MSR_GUEST_OS_ID: u32 = 0x4000_0000;
const MSR_HYPERCALL: u32 = 0x4000_0001;
const MSR_VP_INDEX: u32 = 0x4000_0002;
const MSR_SCONTROL: u32 = 0x4000_0080;
const MSR_SIEFP: u32 = 0x4000_0082;
const MSR_SIMP: u32 = 0x4000_0083;
const MSR_SIRBP: u32 = 0x4000_0085;
const OS_ID: u64 = 0x8100_0007_020D_0000;
const ENABLE: u64 = 1;
const MASKED: u64 = 1 << 16;
const AUTO_EOI: u64 = 1 << 17;
const AS_INTERCEPT: u64 = 1 << 19;
/// The bits of SIMP, SIEFP and SIRBP that belong to nobody.
const PRESERVED: u64 = 0xFFE;
