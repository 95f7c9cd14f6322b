// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! The VP that behaves: takes what the host sends it, each delivery checked by the demo's interrupt
//! handler, and answers in kind.

use core::sync::atomic::Ordering::{Relaxed, Release};

use crate::cpu;
use crate::fuzz_protocol::PHASE_WITNESS;
use crate::memory::count;
use crate::protocol::{STATE_DRAINED, STATE_READY};
use crate::{Cpu, phase};

/// Returns when it shall behave no longer.
pub fn run(witness: &Cpu) {
    let vp = &witness.vp;
    vp.vmbus_init();
    vp.mshv_init();
    vp.report.state.store(STATE_READY, Release);
    loop {
        cpu::disable_interrupts();
        // The fuzzers' IPI that tells of a new phase comes after this look.
        if phase() != PHASE_WITNESS {
            break;
        }
        if !witness.answer() {
            cpu::wait_for_interrupt();
        }
        count(&witness.counts.steps);
    }
    witness.is_witness.store(false, Relaxed);
    vp.report.state.store(STATE_DRAINED, Release);
}

impl Cpu {
    /// One of each kind for each message that came: at the host's pace. False if it owes none.
    fn answer(&self) -> bool {
        let report = self.vp.report;
        if report.messages_sent.load(Relaxed) == report.messages_seen.load(Relaxed) {
            return false;
        }
        cpu::enable_interrupts();
        let refused = report.messages_refused.load(Relaxed);
        self.vp.send_message();
        // If the host had no room, the message goes again, and nothing with it.
        if report.messages_refused.load(Relaxed) == refused {
            self.vp.send_flag();
            self.vp.ring_vmm();
        }
        true
    }
}
