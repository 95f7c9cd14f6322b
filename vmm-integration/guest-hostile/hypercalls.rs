// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! Random hypercalls.

use core::arch::asm;
use core::sync::atomic::Ordering::Relaxed;

use crate::drivers::{NOTIFY_PORT_RING_EMPTY, POST_MESSAGE, SIGNAL_EVENT};
use crate::fuzz::Fuzzer;
use crate::fuzz_protocol::*;
use crate::memory::{count, plan, word};
use crate::msrs::{self, tame};
use crate::protocol::*;
use crate::witness_index;

/// Fills the hypercall pages with RET. Their code ends in RET as well, so that a VP that runs into
/// the middle of its being written returns, too.
pub fn fill_pages() {
    const RETS: u64 = 0xC3C3_C3C3_C3C3_C3C3;
    for offset in (0..HYPERCALL_PAGES * 0x1000).step_by(8) {
        word(HYPERCALLS_GPA + offset).store(RETS, Relaxed);
    }
}

impl Fuzzer<'_> {
    pub fn call(&mut self) {
        let code = self.code();
        let (input, output) = (self.input(code), tame(msrs::page(&mut self.random) & !1));
        let control = self.control(code);
        let page = match self.random.below(8) {
            0 => HYPERCALLS_GPA + self.random.below(HYPERCALL_PAGES) * 0x1000,
            _ => HYPERCALL_GPA,
        };
        let result = call(page, control, input, output);
        if result == NO_ANSWER {
            count(&self.cpu.counts.calls_unanswered);
            return;
        }
        let statuses = &self.cpu.counts.statuses;
        let status = (result as usize & 0xFFFF).min(STATUSES - 1);
        if let Some(counter) = statuses.get(status) {
            count(counter);
        }
    }

    fn code(&mut self) -> u64 {
        match self.random.below(8) {
            0 | 1 => POST_MESSAGE,
            2 | 3 => SIGNAL_EVENT,
            4 => NOTIFY_PORT_RING_EMPTY,
            5 => GET_VP_REGISTERS,
            6 => SET_VP_REGISTERS,
            _ => self.junk_code(),
        }
    }

    /// Any number, but the one that needs a block of its own.
    fn junk_code(&mut self) -> u64 {
        match self.random.next() >> self.random.below(16) & 0xFFFF {
            SET_VP_REGISTERS => 0,
            code => code,
        }
    }

    /// The code with the flags and counts that make sense with it, or without.
    fn control(&mut self, code: u64) -> u64 {
        let repeats = matches!(code, GET_VP_REGISTERS | SET_VP_REGISTERS);
        let count = if repeats { 1 + self.random.below(4) } else { 0 };
        let control = code | count << REP_COUNT;
        match self.random.below(16) {
            0 => control | self.random.next() & !0xFFFF,
            1 => control | FAST | self.random.next() & (0xFFF << REP_START),
            2 => control | self.random.next() & (0xFFF << REP_COUNT),
            3 => control | FAST,
            _ if matches!(code, SIGNAL_EVENT | NOTIFY_PORT_RING_EMPTY) => control | FAST,
            _ => control,
        }
    }

    /// For a fast call the input itself; else the address of a block.
    fn input(&mut self, code: u64) -> u64 {
        match (code, self.random.below(8)) {
            (SET_VP_REGISTERS, _) => self.registers(),
            (SIGNAL_EVENT, 0..=5) => self.event(),
            (NOTIFY_PORT_RING_EMPTY, 0..=6) => self.random.below(18),
            (POST_MESSAGE, 0..=4) => self.message(),
            (GET_VP_REGISTERS, 0..=4) => self.registers(),
            (_, 5) => self.random.next(),
            _ => tame(msrs::page(&mut self.random)),
        }
    }

    fn event(&mut self) -> u64 {
        let flag = self.random.below(FLAGS + 64);
        let connection = self.connection(event_connection(0));
        u64::from(connection) | flag << 32
    }

    fn message(&mut self) -> u64 {
        let block = private_gpa(self.cpu.vp.index);
        let size = self.random.below(264);
        let message_type = self.random.next() >> (32 + self.random.below(32));
        let connection = self.connection(message_connection(0));
        word(block).store(connection.into(), Relaxed);
        word(block + 8).store(message_type & 0xFFFF_FFFF | size << 32, Relaxed);
        let misaligned = u64::from(self.random.one_in(16));
        block + misaligned
    }

    /// Any connection but the witness's, which are its own to use.
    fn connection(&mut self, base: u32) -> u32 {
        let connection = match self.random.below(4) {
            0 => self.random.next() as u32,
            1 => base + self.random.below(8) as u32,
            _ => FUZZ_CONNECTION + self.random.below(FUZZ_CONNECTIONS.into()) as u32,
        };
        let witness = witness_index();
        let its = [message_connection(witness), event_connection(witness)];
        if !self.all && its.contains(&(connection & 0xFF_FFFF)) {
            return connection ^ 0x8_0000;
        }
        connection
    }

    /// Header and associations of HvGetVpRegisters and HvSetVpRegisters. The partition is the
    /// boundary, not the VP: a call that sets a register of another VP is served like one for
    /// itself. So the witness is offered only what must change nothing.
    fn registers(&mut self) -> u64 {
        const SELF: u64 = 0xFFFF_FFFE;
        let block = private_gpa(self.cpu.vp.index);
        let vps = plan().vps.load(Relaxed);
        let vp = match self.random.below(8) {
            0 => self.random.next() & 0xFFFF_FFF8 | 0x10,
            1 | 2 => SELF,
            _ => self.random.below(vps),
        };
        let partition = if self.random.one_in(8) {
            self.random.next()
        } else {
            !0
        };
        word(block).store(partition, Relaxed);
        word(block + 8).store(vp | self.target_vtl() << 32, Relaxed);
        let spared = vp == u64::from(witness_index()) && !self.all;
        for association in 0..4 {
            self.association(block + 16 + association * 32, spared);
        }
        block
    }

    fn target_vtl(&mut self) -> u64 {
        match self.random.below(8) {
            0 => self.random.next() & 0xFFFF_FFFF,
            n => (n & 1) << 4,
        }
    }

    fn association(&mut self, gpa: u64, spared: bool) {
        let (name, low, high) = if spared {
            self.harmless()
        } else {
            let number = self.random.below(0x20);
            let msr = msrs::SCONTROL + number as u32;
            let value = msrs::value_for(msr, &mut self.random, self.all);
            (self.name(number), value, u64::from(self.random.one_in(16)))
        };
        word(gpa).store(name, Relaxed);
        word(gpa + 16).store(low, Relaxed);
        word(gpa + 24).store(high, Relaxed);
    }

    /// A register's name, as the low half of a word whose other half is reserved.
    fn name(&mut self, number: u64) -> u64 {
        match self.random.below(8) {
            0 => self.random.next(),
            1 => NAMES + 0x1000 + by_name(number),
            _ => NAMES + by_name(number),
        }
    }

    /// Name and value: refused for what they are. (An EOM would be harmless, too, but hide that one
    /// which the witness owes was not asked for.)
    fn harmless(&mut self) -> (u64, u64, u64) {
        let bits = self.random.next();
        match self.random.below(8) {
            // SINT2 unmasked with the vector of an exception.
            0 => (NAMES + 2, bits & 0xF, 0),
            // Pages beyond the end of RAM.
            1 => (
                NAMES + 0x12 + (bits & 1),
                RAM_SIZE as u64 | bits & !0xFFF | 1,
                0,
            ),
            2 => (NAMES + 0x15, !0, 0),
            // A value of more than 64 bits.
            3 => (NAMES + by_name(bits & 0x1F), bits, 1),
            // Read-only: SVERSION, VP_INDEX.
            4 => (NAMES + 0x11, bits, 0),
            5 => (0x0009_0003, bits, 0),
            // No register has such a name.
            _ => (NAMES | 0x100 | bits & 0xFF, bits, 0),
        }
    }
}

/// Where the MSRs begin with SCONTROL, the names begin with SINT0.
const fn by_name(number: u64) -> u64 {
    number ^ 0x10
}

/// RAX of a call by this hypercall page; [`NO_ANSWER`] if the page has not changed it.
fn call(page: u64, control: u64, input: u64, output: u64) -> u64 {
    let mut result = NO_ANSWER;
    // SAFETY: the page holds code that changes no register but RAX and returns, or bytes all of
    // which return, or raise an exception that the handler returns from.
    unsafe {
        asm!(
            "call {page}",
            page = in(reg) page,
            in("rcx") control,
            in("rdx") input,
            in("r8") output,
            inlateout("rax") result,
            clobber_abi("C"),
        );
    };
    result
}

const GET_VP_REGISTERS: u64 = 0x50;
const SET_VP_REGISTERS: u64 = 0x51;
const FAST: u64 = 1 << 16;
const REP_COUNT: u64 = 32;
const REP_START: u64 = 48;
/// HvRegisterSint0.
const NAMES: u64 = 0x000A_0000;
/// No call returns this: the bits between status and count are 0.
const NO_ANSWER: u64 = !0;
