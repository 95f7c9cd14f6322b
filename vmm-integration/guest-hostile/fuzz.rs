// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! The VP that does not behave: one random thing after the other.

use core::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use crate::cpu::{self, MSR_X2APIC_ICR, read_msr, write_msr};
use crate::drivers::{self, MSR_EOM};
use crate::fuzz_protocol::*;
use crate::memory::{byte, count, dword, plan, report, word};
use crate::msrs;
use crate::protocol::*;
use crate::random::Random;
use crate::{Cpu, fuzz_plan, phase, startup, witness_index};

/// A VP and its random numbers.
pub struct Fuzzer<'a> {
    pub cpu: &'a Cpu,
    pub random: Random,
    /// The witness is no longer to be spared.
    pub all: bool,
}

pub fn run(cpu: &Cpu) -> ! {
    let mut fuzzer = Fuzzer {
        cpu,
        random: Random::new(fuzz_plan().seed.load(Relaxed), cpu.vp.index.into()),
        all: false,
    };
    cpu::enable_interrupts();
    loop {
        match phase() {
            PHASE_ALL => fuzzer.spare_nobody(),
            PHASE_END => fuzzer.rest(),
            _ => {}
        }
        fuzzer.step();
    }
}

impl Fuzzer<'_> {
    fn step(&mut self) {
        count(&self.cpu.counts.steps);
        match self.random.below(64) {
            0..=19 => self.write_msr(),
            20..=27 => self.read_msr(),
            28..=39 => self.scribble(),
            40..=51 => self.call(),
            52..=55 => self.ring(),
            56 => self.storm_eom(),
            57..=58 => self.send_ipi(),
            59..=61 => self.bring_up(),
            62 => cpu::disable_interrupts(),
            _ => self.reset_apic(),
        }
        if self.random.one_in(4) {
            cpu::enable_interrupts();
        }
    }

    /// Wakes the witness, which sleeps perhaps, and begins when it no longer checks what it gets.
    fn spare_nobody(&mut self) {
        if self.all {
            return;
        }
        let witness = witness_index();
        let ipi = u64::from(witness) << 32 | drivers::VECTOR;
        write_msr(MSR_X2APIC_ICR, ipi);
        self.all = report(witness).state.load(Acquire) == STATE_DRAINED;
    }

    /// VP 0 waits for the others and ends the guest.
    fn rest(&self) -> ! {
        cpu::disable_interrupts();
        self.cpu.vp.report.state.store(STATE_DONE, Release);
        if self.cpu.vp.index == 0 {
            let mut others = 1..plan().vps.load(Relaxed) as u32;
            while others.any(|vp| report(vp).state.load(Acquire) != STATE_DONE) {
                core::hint::spin_loop();
                others = 1..others.end;
            }
            cpu::exit(EXIT_OK)
        }
        loop {
            cpu::halt();
        }
    }

    fn write_msr(&mut self) {
        let msr = msrs::any_msr(&mut self.random);
        let value = msrs::value_for(msr, &mut self.random, self.all);
        count(&self.cpu.counts.msr_writes);
        if msrs::is_timer(msr) {
            count(&self.cpu.counts.timer_writes);
        }
        write_msr(msr, value);
    }

    fn read_msr(&mut self) {
        count(&self.cpu.counts.msr_reads);
        read_msr(msrs::any_msr(&mut self.random));
    }

    fn storm_eom(&mut self) {
        for _ in 0..8 + self.random.below(56) {
            count(&self.cpu.counts.eoms);
            write_msr(MSR_EOM, 0);
        }
    }

    /// So much of what a driver does that there is something to deliver.
    fn bring_up(&mut self) {
        let pages = [msrs::SCONTROL + 2, msrs::SCONTROL + 3, msrs::SCONTROL + 5];
        for msr in pages {
            write_msr(msr, msrs::page(&mut self.random) | 1);
        }
        let sint = 0x4000_0090 + self.random.below(16) as u32;
        write_msr(sint, msrs::value_for(sint, &mut self.random, self.all));
        write_msr(msrs::SCONTROL, 1);
        self.cpu
            .counts
            .msr_writes
            .store(self.cpu.counts.msr_writes.load(Relaxed) + 5, Relaxed);
    }

    /// Messages taken and messages made up, flags, ring entries: whatever these words are now.
    fn scribble(&mut self) {
        for _ in 0..16 {
            let gpa = ARENA_GPA + self.random.below(ARENA_SIZE / 8) * 8;
            let bits = self.random.next();
            count(&self.cpu.counts.page_words);
            match bits >> 60 {
                0..=7 => dword(gpa & !0xFF).store(0, Relaxed),
                8..=9 => word(gpa).store(0, Relaxed),
                10 => word(gpa).store(!0, Relaxed),
                11 => byte(gpa + (bits & 7)).store(bits as u8, Relaxed),
                12 => drop(word(gpa).fetch_xor(bits, Relaxed)),
                _ => word(gpa).store(bits, Relaxed),
            }
        }
    }

    fn send_ipi(&mut self) {
        count(&self.cpu.counts.ipis);
        write_msr(MSR_X2APIC_ICR, msrs::ipi(&mut self.random, self.all));
    }

    /// Off, and on again in two steps (SDM volume 3, "x2APIC State Transitions"). Meanwhile no
    /// interrupt reaches the VP.
    fn reset_apic(&mut self) {
        if !self.random.one_in(16) {
            return;
        }
        const APIC_BASE: u32 = 0x1B;
        const MODE: u64 = 0xC00;
        let base = read_msr(APIC_BASE) & !MODE;
        cpu::disable_interrupts();
        count(&self.cpu.counts.apic_resets);
        write_msr(APIC_BASE, base);
        for _ in 0..self.random.below(8) {
            self.write_msr();
            self.call();
        }
        write_msr(APIC_BASE, base | 0x800);
        self.write_msr();
        write_msr(APIC_BASE, base | MODE);
        startup::enable_apic();
    }

    fn ring(&mut self) {
        let vps = plan().vps.load(Relaxed);
        let (vp, index) = (self.random.below(vps) as u32, self.random.below(RING_PORTS));
        let value = match self.random.below(4) {
            0 => self.random.next(),
            _ => u64::from(ring_value(index)),
        };
        let spared = vp == witness_index() && !self.all;
        let gpa = match self.random.below(4) {
            _ if spared => {
                // Its odd ports, by values that do not match, and the room between.
                let index = index | 1;
                let beside = self.random.below(2) * 4;
                return self.store(
                    ring_doorbell(vp, index) + beside,
                    !u64::from(ring_value(index)),
                );
            }
            0 => vmm_doorbell(vp),
            1 => ring_doorbell(0, 0) + self.random.below(0x20_0000) / 8 * 8 + 4,
            _ => ring_doorbell(vp, index),
        };
        self.store(gpa, value);
    }

    /// A store of some size; now and then a load.
    fn store(&mut self, gpa: u64, value: u64) {
        count(&self.cpu.counts.doorbells);
        match self.random.below(8) {
            0 => byte(gpa).store(value as u8, Relaxed),
            1 => drop(dword(gpa).load(Relaxed)),
            2 if gpa & 7 == 0 => word(gpa).store(value, Relaxed),
            _ => dword(gpa).store(value as u32, Relaxed),
        }
    }
}
