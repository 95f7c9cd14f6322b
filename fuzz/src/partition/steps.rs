// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! What a step does to a partition. Which fields of the [`Op`] it looks at stands at its method.

use super::{BYSTANDER, FLAGS, INPUT, Partition, has_vp, setup, vp};
use crate::action::body;
use crate::op::Op;
use vm_synic::abi::Register;
use vm_synic::backend::mshv::CallError;
use vm_synic::{
    EventFlag, HypercallInput, Message, MessageType, PostError, SintAddr, SintIndex, VpIndex,
};

impl Partition {
    /// Posts the next message; its type is `number`.
    pub fn post(&mut self, op: &Op) {
        let addr = addr(op);
        self.posted += 1;
        let number = self.posted;
        let message_type = MessageType::new(op.number).unwrap_or(MessageType::VMBUS);
        let message = Message::new(message_type, &body(number)).expect("at most 240 bytes");
        let posted = self
            .manager
            .post_message(addr, &message.with_sender(op.other));
        let Some(account) = self.account(addr) else {
            assert_eq!(posted, Err(PostError::NoVp(addr)));
            return;
        };
        match posted {
            Ok(_) => account.accepted.push_back(number),
            Err(PostError::NotReady { .. } | PostError::WouldBlock(_)) => account.refused += 1,
            // Nothing is counted that neither arrived nor could.
            Err(_) => {}
        }
    }

    /// The guest empties a slot; for an odd `small` that which its own ports lead to.
    pub fn take(&mut self, op: &Op) {
        let sint = [sint(op), BYSTANDER][usize::from(op.small % 2)];
        self.take_from(SintAddr::new(vp(op), sint));
    }

    /// The hypervisor fails the next calls of a kind with a status, or the kernel with an `errno`.
    pub fn fail(&mut self, op: &Op) {
        let code = [POST, SIGNAL, SET_REGISTERS, GET_REGISTERS][usize::from(op.small % 4)];
        let error = match op.number >> 31 {
            0 => CallError::Status(op.number as u16),
            _ => CallError::Os(i32::from(op.number as u8)),
        };
        self.may_be_deaf |= code == SET_REGISTERS;
        let count = usize::from(op.small >> 2) % 3 + 1;
        self.double.fail(code, vec![error; count]);
    }

    /// The guest makes a hypercall: of the SynIC, unless `small` says so. It exits when the VP runs.
    pub fn hypercall(&mut self, op: &Op) {
        let control = match op.small {
            0 => op.value & !0xFFFF | POST_MESSAGE,
            1 => op.value & !0xFFFF | SIGNAL_EVENT,
            _ => op.value,
        };
        let input = HypercallInput {
            control,
            input: op.other,
            output: op.number.into(),
        };
        if has_vp(vp(op)) {
            let _ = self.double.hypercall(vp(op), input);
        }
    }

    /// The guest writes `value` and `other` into the page of its hypercalls' input.
    pub fn poke(&mut self, op: &Op) {
        let words = [op.value, op.other].map(u64::to_le_bytes);
        let gpa = INPUT + u64::from(op.number) % (PAGE - 15);
        self.guests[0].write_ram(gpa, words.as_flattened());
    }

    /// Signals flag `number`.
    pub fn signal(&mut self, op: &Op) {
        let addr = addr(op);
        let flag = EventFlag::new(op.number as u16 % FLAGS).expect("below 2048");
        let signalled = self.manager.signal_event(addr, flag);
        let Some(account) = self.account(addr) else {
            assert!(signalled.is_err());
            return;
        };
        account.signals += 1;
        if signalled.is_ok() {
            account.flags.insert(flag.get());
        }
    }

    /// The guest clears the flags of a SINT: all were signalled since.
    pub fn take_flags(&mut self, op: &Op) {
        let addr = addr(op);
        let Some(guest) = self.guests.get(addr.vp.get() as usize) else {
            return;
        };
        let taken = guest.take_flags(addr.sint);
        if let Some(account) = self.account(addr) {
            for flag in taken {
                assert!(
                    account.flags.remove(&flag),
                    "{addr}: nobody signalled {flag}"
                );
            }
        }
    }

    /// The guest writes `value` to a register that `small` chooses; its pages stay where they are.
    pub fn register(&mut self, op: &Op) {
        let Some(guest) = self.guests.get(vp(op).get() as usize) else {
            return;
        };
        let register = match op.small % 4 {
            0 => Register::Scontrol,
            1 => Register::Simp,
            2 => Register::Siefp,
            _ => Register::Sint(sint(op)),
        };
        let value = match register {
            Register::Simp | Register::Siefp => guest.get(register) & !1 | op.value & 1,
            _ => op.value,
        };
        if register == Register::Simp {
            // Enabling clears the page, so the guest takes what it is about to lose.
            for sint in SintIndex::all() {
                self.take_from(SintAddr::new(vp(op), sint));
            }
        }
        // A vector below 16 is refused.
        let _ = self.guests[vp(op).get() as usize].set(register, value);
    }

    pub fn pause(&mut self) {
        self.manager.pause();
        self.is_paused = true;
    }

    pub fn resume(&mut self) {
        self.manager.resume();
        self.is_paused = false;
    }

    /// What waits is dropped, and counted so.
    pub fn reset(&mut self, vp: VpIndex) {
        assert_eq!(self.manager.reset_vp(vp).is_ok(), has_vp(vp));
    }

    /// Saves, and goes on in a new manager of the same partition, which must come to the same state.
    pub fn migrate(&mut self) {
        self.pause();
        let saved = self.manager.save().expect("paused");
        self.ports.clear();
        self.manager = setup::manager(self.manager.config().clone(), &self.double);
        self.register_ports();
        self.manager.restore(&saved).expect("our own state");
        assert_eq!(self.manager.save().expect("paused"), saved);
        self.resume();
    }
}

/// The SINT of a step, one of a few.
fn sint(op: &Op) -> SintIndex {
    let sint = [0, 2, 7, 15][usize::from(op.sint % 4)];
    SintIndex::new(sint).expect("below 16")
}

/// The SINT of a step, in the nested bank, which is not there, if `small`'s high bit is set.
fn addr(op: &Op) -> SintAddr {
    let addr = SintAddr::new(vp(op), sint(op));
    match op.small & 0x80 {
        0 => addr,
        _ => addr.nested(),
    }
}

const PAGE: u64 = 4096;
const POST_MESSAGE: u64 = 0x5C;
const SIGNAL_EVENT: u64 = 0x5D;
const GET_REGISTERS: u16 = 0x50;
const SET_REGISTERS: u16 = 0x51;
const SIGNAL: u16 = 0xC0;
const POST: u16 = 0xC1;
