// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! What each VP sends, and its way through the demo. One VP never waits for another in a way that
//! keeps it from sending: the main loop offers every kind of work in turn.

use core::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use crate::cpu;
use crate::drivers::*;
use crate::memory::{count, dword, plan, report, word};
use crate::protocol::*;

pub fn run(vp: &Vp) -> ! {
    vp.vmbus_init();
    vp.mshv_init();
    vp.report.state.store(STATE_READY, Release);
    cpu::enable_interrupts();
    while !vp.is_drained() {
        if !vp.work() {
            vp.idle();
        }
    }
    vp.report.state.store(STATE_DRAINED, Release);
    finish(vp)
}

/// Stays ready for deliveries that should not come until nobody sends any more, then gives the
/// SynIC back.
fn finish(vp: &Vp) -> ! {
    wait_for_all(STATE_DRAINED);
    cpu::disable_interrupts();
    // A ring emptied on an earlier notification may leave one more behind, which finds nothing.
    while vp.take_notification() {}
    vp.check_strays();
    vp.mshv_exit();
    vp.vmbus_cleanup();
    vp.report.state.store(STATE_DONE, Release);
    wait_for_all(STATE_DONE);
    cpu::exit(EXIT_OK)
}

fn wait_for_all(state: u64) {
    for vp in 0..plan().vps.load(Relaxed) as u32 {
        while report(vp).state.load(Acquire) < state {
            core::hint::spin_loop();
        }
    }
}

impl Vp {
    /// One step of each kind of work. False if there was nothing to do.
    fn work(&self) -> bool {
        // Not `||`: each kind gets its turn.
        self.send_message()
            | self.send_flag()
            | self.ring_vmm()
            | self.ring_next()
            | self.reload_mshv()
            | self.burst()
    }

    /// Nothing to send. Only what the host sends comes with an interrupt; on the other VPs, spin.
    fn idle(&self) {
        let awaits_neighbours = self.report.burst_open.load(Relaxed) != 2 || !self.all_rung();
        if awaits_neighbours {
            return core::hint::spin_loop();
        }
        cpu::disable_interrupts();
        if self.is_drained() {
            cpu::enable_interrupts();
        } else {
            cpu::wait_for_interrupt();
        }
    }

    fn is_drained(&self) -> bool {
        let (plan, report) = (plan(), self.report);
        report.messages_seen.load(Relaxed) >= plan.messages.load(Relaxed)
            && report.flags_seen.load(Relaxed) >= plan.flags.load(Relaxed)
            && report.rings_seen.load(Relaxed) >= plan.rings.load(Relaxed) + RING_BURST
            && report.messages_sent.load(Relaxed) == plan.messages.load(Relaxed)
            && report.flags_sent.load(Relaxed) == plan.flags.load(Relaxed)
            && report.vmm_rings_sent.load(Relaxed) == plan.vmm_rings.load(Relaxed)
            && self.all_rung()
    }

    fn all_rung(&self) -> bool {
        self.report.rings_sent.load(Relaxed) == plan().rings.load(Relaxed) + RING_BURST
    }

    pub fn send_message(&self) -> bool {
        let seq = self.report.messages_sent.load(Relaxed);
        if seq == plan().messages.load(Relaxed) {
            return false;
        }
        let input = input_page(self.index);
        let size = payload_size(seq);
        word(input).store(message_connection(self.index).into(), Relaxed);
        word(input + 8).store(u64::from(MESSAGE_TYPE) | size << 32, Relaxed);
        let mut value = first_word(self.index, seq);
        for offset in (0..size).step_by(8) {
            word(input + 16 + offset).store(value, Relaxed);
            value = value.wrapping_add(WORD_STEP);
        }
        const INSUFFICIENT_BUFFERS: u64 = 0x13;
        let status = hypercall(POST_MESSAGE, input);
        if status == INSUFFICIENT_BUFFERS {
            count(&self.report.messages_refused);
            return true;
        }
        self.expect_success(status);
        count(&self.report.messages_sent);
        true
    }

    pub fn send_flag(&self) -> bool {
        let seq = self.report.flags_sent.load(Relaxed);
        if seq == plan().flags.load(Relaxed) {
            return false;
        }
        let input = u64::from(event_connection(self.index)) | (seq % FLAGS) << 32;
        self.expect_success(fast_hypercall(SIGNAL_EVENT, input));
        count(&self.report.flags_sent);
        true
    }

    pub fn ring_vmm(&self) -> bool {
        let sent = self.report.vmm_rings_sent.load(Relaxed);
        if sent == plan().vmm_rings.load(Relaxed) {
            return false;
        }
        dword(vmm_doorbell(self.index)).store(sent as u32, Relaxed);
        count(&self.report.vmm_rings_sent);
        true
    }

    /// Rings the next VP, as far as that keeps up with its ring.
    fn ring_next(&self) -> bool {
        let sent = self.report.rings_sent.load(Relaxed);
        let seen = self.next.rings_seen.load(Relaxed);
        if sent >= plan().rings.load(Relaxed) || sent >= seen + RING_WINDOW {
            return false;
        }
        self.ring(sent % RING_PORTS);
        true
    }

    fn ring(&self, index: u64) {
        // Counted first: the entry may be seen before the store that rings it returns.
        count(&self.report.rings_sent);
        dword(ring_doorbell(self.next_index, index)).store(ring_value(index), Relaxed);
    }

    /// Half way, MSHV exits with entries unread in its ring, misses some more doorbells, and comes
    /// back on another page. VMBus goes on.
    fn reload_mshv(&self) -> bool {
        let (plan, report) = (plan(), self.report);
        let rings = plan.rings.load(Relaxed);
        let seen = report.rings_seen.load(Relaxed);
        let rung = self.previous.rings_sent.load(Acquire);
        let reload = report.reload.load(Relaxed);
        match reload {
            0 if seen >= rings / 2 => cpu::disable_interrupts(),
            1 if rung >= rings.min(seen + RING_UNREAD) => {
                self.mshv_exit();
                cpu::enable_interrupts();
            }
            2 if rung >= rings.min(seen + RING_UNREAD + RING_MISSED) => {
                self.mshv_init();
                self.take_early_notification();
            }
            _ => return false,
        }
        report.reload.store(reload + 1, Relaxed);
        true
    }

    /// A message that came before its handler was there has had its interrupt already.
    fn take_early_notification(&self) {
        cpu::disable_interrupts();
        self.take_notification();
        cpu::enable_interrupts();
    }

    /// Takes the burst with interrupts off, and rings the next VP's once it is ready.
    fn burst(&self) -> bool {
        self.ring_burst() | self.take_burst()
    }

    fn take_burst(&self) -> bool {
        let open = self.report.burst_open.load(Relaxed);
        let all_seen = self.report.rings_seen.load(Relaxed) == plan().rings.load(Relaxed);
        if open == 0 && all_seen && self.report.mshv_inits.load(Relaxed) == 2 {
            cpu::disable_interrupts();
            self.report.burst_open.store(1, Release);
            return true;
        }
        if open == 1 && self.report.burst_rung.load(Acquire) == 1 {
            self.report.burst_open.store(2, Relaxed);
            cpu::enable_interrupts();
            return true;
        }
        false
    }

    fn ring_burst(&self) -> bool {
        let rings = plan().rings.load(Relaxed);
        if self.report.rings_sent.load(Relaxed) != rings || self.next.burst_open.load(Acquire) != 1
        {
            return false;
        }
        for seq in rings..rings + RING_BURST {
            self.ring(seq % RING_PORTS);
        }
        for _ in 0..RING_REPEATS {
            let last = (rings + RING_BURST - 1) % RING_PORTS;
            dword(ring_doorbell(self.next_index, last)).store(ring_value(last), Relaxed);
        }
        self.next.burst_rung.store(1, Release);
        true
    }

    /// All was seen, so nothing may be left in the pages, under any SINT.
    fn check_strays(&self) {
        let messages = message_page(self.index);
        let flags = flags_page(self.index);
        let rings = self.report.ring_page.load(Relaxed);
        for sint in 0..16 {
            let area = sint * 256;
            self.check_empty(sint, dword(messages + area).load(Relaxed).into());
            for offset in (0..256).step_by(8) {
                self.check_empty(sint, word(flags + area + offset).load(Relaxed));
            }
            // A ring area begins with signal_masked and ring_full, which may be anything.
            for offset in (4..256).step_by(4) {
                self.check_empty(sint, dword(rings + area + offset).load(Relaxed).into());
            }
        }
    }

    fn check_empty(&self, sint: u64, got: u64) {
        if got != 0 {
            self.report.fail(FAULT_STRAY, sint, 0, got);
        }
    }
}
