// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! The consumer side: one handler for SINT0, SINT2 and SINT5, MSHV first and VMBus second as
//! `sysvec_hyperv_callback` has it. It takes at most one message per slot and interrupt, and never
//! polls: where interrupts are lost, deliveries are left over, and the demo comes to a stop.

use core::sync::atomic::{
    AtomicU32, AtomicU64,
    Ordering::{Acquire, Relaxed, Release, SeqCst},
};

use crate::cpu::{MSR_X2APIC_EOI, read_tsc, write_msr};
use crate::drivers::*;
use crate::memory::{byte, count, dword, word};
use crate::protocol::*;

#[unsafe(no_mangle)]
pub extern "C" fn sint_interrupt(vp: &Vp) {
    let now = read_tsc();
    count(&vp.report.interrupts);
    if vp.report.ring_page.load(Relaxed) != 0 {
        vp.take_notification();
    }
    vp.take_flags();
    vp.take_message(now);
    if vp.explicit_eoi {
        write_msr(MSR_X2APIC_EOI, 0);
    }
}

impl Vp {
    /// SINT0: only notifications of the doorbell ring are expected. False if there was none.
    pub fn take_notification(&self) -> bool {
        let slot = message_page(self.index);
        let message_type = dword(slot).load(Acquire);
        if message_type == 0 {
            return false;
        }
        let sint = u64::from(dword(slot + PAYLOAD).load(Relaxed));
        if message_type != SYNIC_SINT_INTERCEPT || sint != SINT_DOORBELL {
            let (expected, got) = (SYNIC_SINT_INTERCEPT.into(), message_type.into());
            self.report
                .fail(FAULT_MESSAGE_TYPE, SINT_INTERCEPT, expected, got);
        }
        count(&self.report.notifications);
        self.drain_ring();
        if release_slot(slot) {
            count(&self.report.eoms_intercept);
        }
        true
    }

    fn drain_ring(&self) {
        let ring = self.report.ring_page.load(Relaxed) + SINT_DOORBELL * 256;
        while let Some(port) = self.next_port(ring) {
            let seen = count(&self.report.rings_seen);
            let base = plan_first_port() + u64::from(self.index) * RING_PORTS;
            let expected = base + seen % RING_PORTS;
            if port != expected {
                self.report
                    .fail(FAULT_RING_PORT, SINT_DOORBELL, expected, port);
            }
        }
    }

    /// One entry of the ring, by the steps of `synic_event_ring_get_queued_port`.
    fn next_port(&self, ring: u64) -> Option<u64> {
        let tail = self.report.ring_tail.load(Relaxed);
        let entry = dword(ring + 4 + tail * 4);
        let mut port = entry.load(Acquire);
        if port == 0 {
            port = self.refill(ring, entry)?;
        }
        // Release: the producer reuses the entry once it reads 0.
        entry.store(0, Release);
        let next = if tail + 1 == RING_ENTRIES {
            0
        } else {
            tail + 1
        };
        self.report.ring_tail.store(next, Relaxed);
        Some(u64::from(port))
    }

    /// The ring looks empty: asks for what did not fit, else lets the producer notify again.
    fn refill(&self, ring: u64, entry: &AtomicU32) -> Option<u32> {
        let (signal_masked, ring_full) = (byte(ring), byte(ring + 1));
        let mut port = 0;
        if ring_full.load(Relaxed) != 0 {
            // Before the call: a refill that overflows again sets it anew.
            ring_full.store(0, Relaxed);
            count(&self.report.overflows);
            self.expect_success(fast_hypercall(NOTIFY_PORT_RING_EMPTY, SINT_DOORBELL));
            port = entry.load(Acquire);
        }
        if port == 0 {
            // A swap is the full barrier between this store and the last look at the entry.
            signal_masked.swap(0, SeqCst);
            port = entry.load(Acquire);
        }
        if port == 0 {
            return None;
        }
        signal_masked.store(1, Relaxed);
        Some(port)
    }

    /// SINT2's flags are set one after the other, so those set now continue where the last look
    /// ended.
    fn take_flags(&self) {
        loop {
            let seen = self.report.flags_seen.load(Relaxed);
            let (index, bit) = (seen % FLAGS / 64, seen % 64);
            let area = word(flags_page(self.index) + SINT_VMBUS * 256 + index * 8);
            if area.load(Relaxed) == 0 {
                return;
            }
            let set = area.swap(0, SeqCst);
            let run = u64::from((set >> bit).trailing_ones());
            if set != run_mask(run) << bit {
                let stray = set & !(run_mask(run) << bit);
                let flag = index * 64 + u64::from(stray.trailing_zeros());
                self.report
                    .fail(FAULT_FLAG, SINT_VMBUS, (seen + run) % FLAGS, flag);
            }
            self.report.flags_seen.store(seen + run, Release);
            if bit + run < 64 {
                return;
            }
        }
    }

    fn take_message(&self, now: u64) {
        let slot = message_page(self.index) + SINT_VMBUS * 256;
        let message_type = dword(slot).load(Acquire);
        if message_type == 0 {
            return;
        }
        let seq = count(&self.report.messages_seen);
        word(stamp_gpa(self.index, seq)).store(now, Relaxed);
        if message_type != MESSAGE_TYPE {
            let (expected, got) = (MESSAGE_TYPE.into(), message_type.into());
            self.report
                .fail(FAULT_MESSAGE_TYPE, SINT_VMBUS, expected, got);
        }
        self.check_body(slot, seq);
        if release_slot(slot) {
            count(&self.report.eoms_vmbus);
        }
    }

    fn check_body(&self, slot: u64, seq: u64) {
        // First which message it is: of another one, size and payload tell nothing.
        let mut expected = first_word(self.index, seq);
        self.check_word(FAULT_MESSAGE_SEQUENCE, expected, word(slot + PAYLOAD));
        let size = u64::from(byte(slot + 4).load(Relaxed));
        if size != payload_size(seq) {
            self.report
                .fail(FAULT_MESSAGE_SIZE, SINT_VMBUS, payload_size(seq), size);
        }
        for offset in (8..size).step_by(8) {
            expected = expected.wrapping_add(WORD_STEP);
            self.check_word(
                FAULT_MESSAGE_PAYLOAD,
                expected,
                word(slot + PAYLOAD + offset),
            );
        }
    }

    fn check_word(&self, fault: u64, expected: u64, word: &AtomicU64) {
        let got = word.load(Relaxed);
        if got != expected {
            self.report.fail(fault, SINT_VMBUS, expected, got);
        }
    }

    pub fn expect_success(&self, status: u64) {
        if status != 0 {
            self.report.fail(FAULT_HYPERCALL, 0, 0, status);
        }
    }
}

/// Empties a message slot and asks for the next message if there is one. True if that took an EOM.
fn release_slot(slot: u64) -> bool {
    // The swap is the full barrier between emptying the slot and looking at msg_pending.
    dword(slot).swap(0, SeqCst);
    let pending = byte(slot + 5).load(Relaxed) & 1 != 0;
    if pending {
        write_msr(MSR_EOM, 0);
    }
    pending
}

fn run_mask(run: u64) -> u64 {
    if run == 64 { u64::MAX } else { (1 << run) - 1 }
}

fn plan_first_port() -> u64 {
    crate::memory::plan().first_port.load(Relaxed)
}

const PAYLOAD: u64 = 16;
const RING_ENTRIES: u64 = 63;
const SYNIC_SINT_INTERCEPT: u32 = 0x8000_0061;
