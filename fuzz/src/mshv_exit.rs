// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! A partition of /dev/mshv: whatever its VPs exit with, and whatever status the hypervisor answers
//! with, while the VMM posts, signals, pauses, resumes, saves and restores.
//!
//! Input: steps, as of the other targets; but the records that follow an [`Action::Exit`] are the
//! message that the VP exits with.

use crate::op::{self, HEAD_SIZE, OP_SIZE, Op};
use crate::partition::{Partition, vp};
use mshv_bindings::{
    hv_message, hv_message__bindgen_ty_1, hv_message_flags, hv_message_header__bindgen_ty_1,
};
use std::io;
use vm_synic::abi::{MESSAGE_SIZE, RegisterId};
use vm_synic::backend::mshv::{HypercallAnswer, Served, handle_exit};

/// What a step does. Which fields of the [`Op`] it looks at stands at its method.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    Exit,
    Run,
    Post,
    Take,
    Fail,
    Hypercall,
    Poke,
    Tell,
    Signal,
    TakeFlags,
    Register,
    PreRun,
    Pause,
    Resume,
    Reset,
    Migrate,
}

/// What a step can be.
pub const ACTIONS: &[Action] = &[
    Action::Exit,
    Action::Run,
    Action::Post,
    Action::Take,
    Action::Fail,
    Action::Hypercall,
    Action::Poke,
    Action::Tell,
    Action::Signal,
    Action::TakeFlags,
    Action::Register,
    Action::PreRun,
    Action::Pause,
    Action::Resume,
    Action::Reset,
    Action::Migrate,
];

/// Records that a message takes, with a few bytes to spare.
pub const MESSAGE_OPS: usize = MESSAGE_SIZE.div_ceil(OP_SIZE);
/// Steps of an input that are run.
const STEPS: usize = 400;

/// A step of an input.
#[derive(Clone, Debug)]
pub struct Step {
    pub action: Action,
    pub op: Op,
    /// Of an [`Action::Exit`]; what is missing reads as zero.
    pub message: Option<[u8; MESSAGE_SIZE]>,
}

/// Splits an input into its head and its steps.
pub fn steps(data: &[u8]) -> ([u8; HEAD_SIZE], impl Iterator<Item = Step>) {
    let (head, mut ops) = op::split(data);
    let steps = std::iter::from_fn(move || {
        let op = ops.next()?;
        let action = ACTIONS[usize::from(op.action) % ACTIONS.len()];
        let message = (action == Action::Exit).then(|| {
            // All of them: what is left of the last record belongs to the message.
            let records = ops.by_ref().take(MESSAGE_OPS);
            let bytes: Vec<u8> = records.flat_map(|op| op.encode()).collect();
            let mut message = [0; MESSAGE_SIZE];
            message
                .iter_mut()
                .zip(bytes)
                .for_each(|(to, byte)| *to = byte);
            message
        });
        Some(Step {
            action,
            op,
            message,
        })
    });
    (head, steps)
}

/// Runs the steps of an input, checking after each, and at the end that all has arrived.
pub fn run(data: &[u8]) {
    let (head, steps) = steps(data);
    let mut partition = Partition::new(head);
    for step in steps.take(STEPS) {
        partition.step(&step);
        partition.check();
    }
    partition.check_end();
}

impl Partition {
    fn step(&mut self, step: &Step) {
        let op = &step.op;
        match step.action {
            Action::Exit => self.exit(op, &step.message.unwrap_or([0; MESSAGE_SIZE])),
            Action::Run => {
                self.run(vp(op));
            }
            Action::Post => self.post(op),
            Action::Take => self.take(op),
            Action::Fail => self.fail(op),
            Action::Hypercall => self.hypercall(op),
            Action::Poke => self.poke(op),
            Action::Tell => self.manager.sints_deliverable(vp(op), op.number as u16),
            Action::Signal => self.signal(op),
            Action::TakeFlags => self.take_flags(op),
            Action::Register => self.register(op),
            Action::PreRun => self.manager.pre_run(vp(op)),
            Action::Pause => self.pause(),
            Action::Resume => self.resume(),
            Action::Reset => self.reset(vp(op)),
            Action::Migrate => self.migrate(),
        }
    }

    /// A VP exits with any message; the VMM fails to set RIP and RAX if `small` is odd.
    fn exit(&mut self, op: &Op, bytes: &[u8; MESSAGE_SIZE]) {
        let message = message(bytes);
        let mut answer = Answer {
            refuses: op.small & 1 != 0,
            completed: None,
        };
        let mut others = None;
        let manager = &self.manager;
        let served = handle_exit(manager, vp(op), &message, &mut answer, |input| {
            others = Some(input.control().code());
            OTHERS_RESULT
        });
        let exit = Exit(bytes);
        match served {
            Ok(Served::Done) => assert!(exit.is_ours(), "{exit:x?}"),
            Ok(Served::NotMine) => {
                let is_legacy = exit.is_hypercall() && !exit.is_64_bit();
                assert!(!exit.is_ours() || is_legacy, "{exit:x?}");
            }
            Ok(Served::Fault) => assert!(exit.is_msr_of_ours(), "{exit:x?}"),
            // The VMM's own failure, and no message can bring it about.
            Err(error) => assert!(answer.refuses && error.vp == vp(op), "{error}"),
        }
        if let Some((rip, rax)) = answer.completed {
            exit.check_completed(rip, rax, others);
        }
    }
}

/// What a message says, by its bytes.
#[derive(Debug)]
struct Exit<'a>(&'a [u8; MESSAGE_SIZE]);

impl Exit<'_> {
    fn u64_at(&self, payload: usize) -> u64 {
        let bytes = self.0[16 + payload..].first_chunk();
        u64::from_le_bytes(*bytes.expect("inside the message"))
    }

    fn kind(&self) -> u32 {
        u32::from_le_bytes(*self.0.first_chunk().expect("4 bytes"))
    }

    fn is_hypercall(&self) -> bool {
        self.kind() == 0x8000_0050
    }

    /// EFER.LMA in the execution state.
    fn is_64_bit(&self) -> bool {
        self.u64_at(0) >> 48 & 1 << 4 != 0
    }

    /// Of the SynIC, whether it makes sense or not.
    fn is_ours(&self) -> bool {
        self.is_hypercall() || matches!(self.kind(), 0x8000_0060..=0x8000_0062)
    }

    fn is_msr_of_ours(&self) -> bool {
        let is_ours = RegisterId::from_msr(self.u64_at(40) as u32).is_some();
        self.kind() == 0x8001_0001 && is_ours
    }

    /// The guest goes on behind the instruction of a hypercall, which was made in 64-bit mode.
    fn check_completed(&self, rip: u64, rax: u64, others: Option<u16>) {
        assert!(self.is_hypercall() && self.is_64_bit(), "{self:x?}");
        let length = self.u64_at(0) >> 32 & 0xF;
        assert_eq!(rip, self.u64_at(24).wrapping_add(length));
        let code = self.u64_at(56) as u16;
        match others {
            Some(other) => assert_eq!((other, rax), (code, OTHERS_RESULT)),
            None => assert!(CODES.contains(&code) && rax <= 0xFFFF, "{rax:#x}"),
        }
    }
}

/// What sets RIP and RAX, or fails to.
#[derive(Debug, Default)]
pub struct Answer {
    pub refuses: bool,
    pub completed: Option<(u64, u64)>,
}

impl HypercallAnswer for Answer {
    fn complete(&mut self, rip: u64, rax: u64) -> io::Result<()> {
        assert_eq!(self.completed, None, "completed twice");
        self.completed = Some((rip, rax));
        match self.refuses {
            true => Err(io::ErrorKind::Other.into()),
            false => Ok(()),
        }
    }
}

fn message(bytes: &[u8; MESSAGE_SIZE]) -> hv_message {
    let mut words = bytes.chunks_exact(8).map(|word| {
        let word = word.try_into().expect("8 bytes");
        u64::from_le_bytes(word)
    });
    let mut word = || words.next().unwrap_or_default();
    let (first, sender) = (word(), word());
    let mut message = hv_message {
        u: hv_message__bindgen_ty_1 {
            payload: std::array::from_fn(|_| word()),
        },
        ..hv_message::default()
    };
    message.header.message_type = first as u32;
    message.header.payload_size = (first >> 32) as u8;
    message.header.message_flags = hv_message_flags {
        asu8: (first >> 40) as u8,
    };
    message.header.reserved = [(first >> 48) as u8, (first >> 56) as u8];
    message.header.__bindgen_anon_1 = hv_message_header__bindgen_ty_1 { sender };
    message
}

/// HvPostMessage, HvSignalEvent, HvNotifyPortRingEmpty: all that is the manager's in a partition.
const CODES: [u16; 3] = [0x5C, 0x5D, 0x8B];
/// What the VMM answers to any other.
const OTHERS_RESULT: u64 = 0x1234_0002;
