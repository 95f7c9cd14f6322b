// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! What a step can be.

use crate::check::is_stored;
use crate::op::Op;
use crate::world::{DOORBELL_GPA, DOORBELLS, PAGE, RAM, RING_PORTS, VPS, World};
use vm_memory::{Bytes, GuestAddress};
use vm_synic::{
    Bank, DoorbellTarget, Error, EventFlag, HypercallInput, Message, MessageType, MsrError, PortId,
    SintAddr, SintIndex, ViolationPolicy, VpIndex,
};

/// What a step does. Which fields of the [`Op`] it looks at stands at its method.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    WriteMsr,
    ReadMsr,
    MovePage,
    Hypercall,
    Poke,
    Mmio,
    TakeMessage,
    DrainRing,
    Post,
    Signal,
    Ring,
    PreRun,
    Pause,
    Resume,
    Reset,
    Plug,
    MemoryChanged,
    TogglePort,
    ToggleDoorbell,
    Migrate,
    RestoreHostile,
    Show,
    TimerDue,
}

impl World {
    /// Does a step.
    pub fn step(&mut self, action: Action, op: &Op) {
        match action {
            Action::WriteMsr => self.write_msr(vp(op), msr(op.number), op.value),
            Action::ReadMsr => drop(self.manager.read_msr(vp(op), msr(op.number))),
            Action::MovePage => self.move_page(op),
            Action::Hypercall => self.hypercall(op),
            Action::Poke => self.poke(op),
            Action::Mmio => self.mmio(op),
            Action::TakeMessage => self.take_message(addr(op)),
            Action::DrainRing => self.drain_ring(vp(op), sint(op)),
            Action::Post => self.post(op),
            Action::Signal => self.signal(op),
            Action::Ring => self.ring(op),
            Action::PreRun => self.manager.pre_run(vp(op)),
            Action::Pause => self.pause(),
            Action::Resume => self.resume(),
            Action::Reset => self.reset(op),
            Action::Plug => self.plug(op),
            Action::MemoryChanged => self.manager.memory_changed(),
            Action::TogglePort => self.toggle_port(op.number),
            Action::ToggleDoorbell => self.toggle_doorbell(op.number),
            Action::Migrate => self.migrate(),
            Action::RestoreHostile => self.restore_hostile(op),
            Action::Show => self.show(),
            Action::TimerDue => self.timer_due(op),
        }
    }

    /// A register takes the value or faults, and after a fault holds what it held.
    pub fn write_msr(&mut self, vp: VpIndex, msr: u32, value: u64) {
        self.claim(vp, msr, value);
        let before = self.manager.read_msr(vp, msr);
        let written = self.manager.write_msr(vp, msr, value);
        let after = self.manager.read_msr(vp, msr);
        // Where a write may be refused, one of the same value tells nothing.
        let is_observed = self.config.violations == ViolationPolicy::Observe;
        if after == Ok(value) && (is_observed || before != after) {
            self.follow_tails(vp, msr, before.unwrap_or_default(), value);
        }
        match written {
            Ok(()) if is_stored(msr) && is_observed => {
                assert_eq!(after, Ok(value), "{vp}, MSR {msr:#x}");
            }
            Ok(()) => assert!(after.is_ok(), "{vp}, MSR {msr:#x}: {after:?}"),
            Err(MsrError::Fault) => assert_eq!(after, before, "{vp}, MSR {msr:#x}"),
            Err(MsrError::NotMine(_)) => assert_eq!(after, Err(MsrError::NotMine(msr))),
        }
    }

    /// `small` chooses a page register, `number` a page of RAM or one beyond; it stays enabled.
    fn move_page(&mut self, op: &Op) {
        let msr = [0x4000_0082, 0x4000_0083, 0x4000_0085][usize::from(op.small % 3)];
        let page = u64::from(op.number) % (RAM / PAGE + 1);
        self.write_msr(vp(op), msr, (page * PAGE) | 1);
    }

    /// `small` chooses the code, unless its high bits are set; `value` is the control word, `other`
    /// the input, `number` the output.
    fn hypercall(&mut self, op: &Op) {
        self.is_orderly = false;
        self.touched = u64::MAX;
        let control = match CODES.get(usize::from(op.small)) {
            Some(code) => op.value & !0xFFFF | code,
            None => op.value,
        };
        let input = HypercallInput {
            control,
            input: op.other,
            output: op.number.into(),
        };
        let is_inside = self.is_block_inside_page(&input);
        let result = self.manager.hypercall(vp(op), input);
        assert_eq!(result.is_some(), CODES.contains(&(control & 0xFFFF)));
        let result = result.unwrap_or_default();
        let (reps_done, reps) = (result >> 32, control >> 32 & 0xFFF);
        assert!(reps_done <= reps, "{control:#x} gave {result:#x}");
        assert_eq!(result & 0xFFFF_0000, 0, "{control:#x} gave {result:#x}");
        let is_fast = control & FAST != 0;
        let has_failed = result & 0xFFFF != 0 || !CODES.contains(&(control & 0xFFFF));
        assert!(
            is_inside || is_fast || has_failed,
            "{input:x?} gave {result:#x}"
        );
    }

    /// Whether a call's input is aligned, in RAM and does not cross a page, as it must.
    fn is_block_inside_page(&self, call: &HypercallInput) -> bool {
        let reps = call.control >> 32 & 0xFFF;
        let size = || {
            self.memory
                .read_obj::<u32>(GuestAddress(call.input.saturating_add(12)))
        };
        let length = match call.control & 0xFFFF {
            POST_MESSAGE => 16 + size().map_or(0, u64::from),
            GET_VP_REGISTERS => 16 + 4 * reps,
            SET_VP_REGISTERS => 16 + 32 * reps,
            CREATE_PORT => 56,
            CONNECT_PORT => 72,
            DELETE_PORT | DISCONNECT_PORT => 16,
            _ => 8,
        };
        call.input.is_multiple_of(8) && call.input < RAM && call.input % PAGE + length <= PAGE
    }

    /// The guest writes `value` and `other` at `number`, again and again for a larger `small`, each
    /// time a little different.
    fn poke(&mut self, op: &Op) {
        self.is_orderly = false;
        for step in 0..=u64::from(op.small % 16) {
            let at = (u64::from(op.number) + step * 16) % (RAM - 15);
            self.touch(at / PAGE);
            self.touch((at + 15) / PAGE);
            let words = [op.value, op.other].map(|word| word.wrapping_add(step << 33 | step << 1));
            let bytes = (u128::from(words[0]) | u128::from(words[1]) << 64).to_le_bytes();
            let written = self.memory.write_slice(&bytes, GuestAddress(at));
            written.expect("inside RAM");
        }
    }

    /// The guest writes `value` at doorbell `number`, in `small` bytes; so does its child.
    fn mmio(&mut self, op: &Op) {
        let gpa = DOORBELL_GPA + u64::from(op.number % (DOORBELLS + 1)) * 8;
        let mut data = op.value.to_le_bytes().to_vec();
        data.resize(usize::from(op.small % 10), 0);
        self.manager.mmio_write(gpa, &data);
        if let Some(child) = &self.child {
            child.mmio_write(&self.manager, gpa, &data);
        }
    }

    /// Posts the next message; its type is `number`.
    fn post(&mut self, op: &Op) {
        self.posted += 1;
        let message_type = MessageType::new(op.number).unwrap_or(MessageType::VMBUS);
        let body = body(self.posted);
        let message = Message::new(message_type, &body).expect("at most 240 bytes");
        let _ = self
            .manager
            .post_message(addr(op), &message.with_sender(op.other));
    }

    fn signal(&mut self, op: &Op) {
        let flag = u16::try_from(op.number % 2048)
            .ok()
            .and_then(EventFlag::new);
        let _ = self
            .manager
            .signal_event(addr(op), flag.expect("below 2048"));
    }

    /// Time passes, `value` units of 100 ns at most.
    fn timer_due(&self, op: &Op) {
        self.host.pass(op.value % HOUR);
        self.manager.timer_due(vp(op));
    }

    /// Rings port `number`, on any VP if `small` is odd.
    fn ring(&mut self, op: &Op) {
        let port = PortId::new(1 + op.number % RING_PORTS).expect("a small id");
        let target = match op.small % 2 {
            0 => DoorbellTarget::Vp(vp(op)),
            _ => DoorbellTarget::AnyVp,
        };
        self.manager.pre_run(vp(op));
        let rung = self.manager.ring_doorbell(target, sint(op), port);
        if rung.is_ok() && target == DoorbellTarget::Vp(vp(op)) {
            let rung = self.rung.entry((vp(op), sint(op))).or_default();
            rung.insert(port.get());
            self.check_ring(vp(op), sint(op));
        }
    }

    /// All VPs if `small` is odd.
    fn reset(&mut self, op: &Op) {
        match op.small % 2 {
            0 => match self.manager.reset_vp(vp(op)) {
                Ok(()) => self.forget_tails(Some(vp(op))),
                Err(error) => assert!(matches!(error, Error::NoVp(_))),
            },
            _ => {
                self.manager.reset();
                self.forget_tails(None);
            }
        }
    }

    /// Plugs a VP in, or out if `small` is odd.
    fn plug(&mut self, op: &Op) {
        let vp = vp(op);
        match op.small % 2 {
            0 => match self.manager.add_vp(vp) {
                Ok(()) => assert!(vp.get() < VPS),
                Err(Error::VpExists(_)) => assert!(self.manager.reset_vp(vp).is_ok()),
                Err(error) => assert!(vp.get() >= VPS, "{error}"),
            },
            _ => drop(self.manager.remove_vp(vp)),
        }
        self.forget_tails(Some(vp));
    }

    /// Saves, and goes on in a new manager, which must come to the same state.
    fn migrate(&mut self) {
        self.pause();
        let saved = self.manager.save().expect("paused");
        self.host.forget_all_but(&saved);
        self.replace_manager();
        self.manager.restore(&saved).expect("our own state");
        assert_eq!(self.manager.save().expect("paused"), saved);
        self.resume();
    }

    fn show(&self) {
        let snapshot = self.manager.snapshot();
        assert!(!snapshot.to_json().is_null());
        let _ = snapshot.to_string();
        assert!(!self.manager.chrome_trace().is_null());
    }
}

/// The VP of a step; the last number is never there.
pub fn vp(op: &Op) -> VpIndex {
    VpIndex::new(u32::from(op.vp) % (VPS + 1))
}

/// The SINT of a step.
pub fn sint(op: &Op) -> SintIndex {
    SintIndex::new(op.sint % 16).expect("below 16")
}

/// The SINT of a step, in the nested bank if `small`'s high bit is set.
pub fn addr(op: &Op) -> SintAddr {
    SintAddr {
        vp: vp(op),
        bank: if op.small & 0x80 == 0 {
            Bank::Plain
        } else {
            Bank::Nested
        },
        sint: sint(op),
    }
}

/// Small numbers are the SynIC's MSRs; others are taken as they are.
pub fn msr(number: u32) -> u32 {
    match number >> 24 {
        0 => 0x4000_0080 + number % 32,
        1 => 0x4000_1080 + number % 32,
        2 => 0x4000_0000 + number % 4,
        3 => 0x4000_00B0 + number % 8,
        _ => number,
    }
}

/// What message `number` says: its number, and as many bytes after it as the number tells.
pub fn body(number: u64) -> Vec<u8> {
    let rest = (0..number * 37 % 233).map(|at| (number + at) as u8);
    number.to_le_bytes().into_iter().chain(rest).collect()
}

const HOUR: u64 = 36_000_000_000;
const FAST: u64 = 1 << 16;
const POST_MESSAGE: u64 = 0x5C;
const SIGNAL_EVENT: u64 = 0x5D;
const NOTIFY_PORT_RING_EMPTY: u64 = 0x8B;
const GET_VP_REGISTERS: u64 = 0x50;
const SET_VP_REGISTERS: u64 = 0x51;
const DELETE_PORT: u64 = 0x58;
const DISCONNECT_PORT: u64 = 0x5B;
const CREATE_PORT: u64 = 0x95;
const CONNECT_PORT: u64 = 0x96;
/// Hypercalls of the SynIC.
const CODES: [u64; 9] = [
    POST_MESSAGE,
    SIGNAL_EVENT,
    NOTIFY_PORT_RING_EMPTY,
    GET_VP_REGISTERS,
    SET_VP_REGISTERS,
    CREATE_PORT,
    CONNECT_PORT,
    DELETE_PORT,
    DISCONNECT_PORT,
];
