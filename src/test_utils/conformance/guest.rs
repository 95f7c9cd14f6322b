// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! The guest's VMBus on one VP, in a few lines.

use super::Machine;
use crate::abi::{
    HEADER_SIZE, MESSAGE_SIZE, Message, MessageType, Register, RegisterId, SintAddr, SintIndex,
    VpIndex,
};
use crate::hypercall::HypercallInput;

use std::sync::atomic::Ordering;
use vm_memory::{Bytes, GuestAddress, GuestAddressSpace};

/// A VP whose guest has its SynIC on: both pages, and two SINTs of VMBus's kind.
#[derive(Clone, Copy, Debug)]
pub struct Guest {
    /// The VP.
    pub vp: VpIndex,
    pages: u64,
}

impl Guest {
    /// SINT2's vector.
    pub const VECTOR: u8 = 0xF3;
    /// SINT4's vector.
    pub const OTHER_VECTOR: u8 = 0xF4;
    /// The SINT that has [`OTHER_VECTOR`](Self::OTHER_VECTOR).
    pub const OTHER: SintIndex = match SintIndex::new(4) {
        Some(sint) => sint,
        None => SintIndex::VMBUS,
    };

    /// Switches a VP's SynIC on.
    ///
    /// # Panics
    /// If a register refuses.
    pub fn start<M: Machine>(machine: &mut M, vp: u32) -> Self {
        let vp = VpIndex::new(vp);
        let pages = machine.pages(vp);
        let guest = Self { vp, pages };
        guest.set(machine, Register::Simp, pages | 1);
        guest.set(machine, Register::Siefp, (pages + PAGE) | 1);
        guest.unmask(machine);
        guest.set(
            machine,
            Register::Sint(Self::OTHER),
            Self::OTHER_VECTOR.into(),
        );
        guest.set(machine, Register::Scontrol, 1);
        machine.settle();
        guest
    }

    /// SINT2 of this VP.
    pub fn addr(&self) -> SintAddr {
        SintAddr::new(self.vp, SintIndex::VMBUS)
    }

    /// Writes a register.
    ///
    /// # Panics
    /// On #GP.
    pub fn set<M: Machine>(&self, machine: &mut M, register: Register, value: u64) {
        let written = machine.wrmsr(self.vp, msr(register), value);
        written.expect("the register takes this value");
    }

    /// Unmasks SINT2.
    ///
    /// # Panics
    /// On #GP.
    pub fn unmask<M: Machine>(&self, machine: &mut M) {
        let sint2 = Register::Sint(SintIndex::VMBUS);
        self.set(machine, sint2, Self::VECTOR.into());
    }

    /// Masks SINT2.
    ///
    /// # Panics
    /// On #GP.
    pub fn mask<M: Machine>(&self, machine: &mut M) {
        let sint2 = Register::Sint(SintIndex::VMBUS);
        self.set(machine, sint2, 1 << 16 | u64::from(Self::VECTOR));
    }

    /// Empties a slot, writes EOM if it is asked for, and lets the VP run.
    ///
    /// # Panics
    /// If the slot holds no valid message.
    pub fn take<M: Machine>(&self, machine: &mut M, sint: SintIndex) -> Option<Message> {
        let slot = self.pages + u64::from(sint.get()) * AREA;
        let memory = machine.space().memory();
        let message_type: u32 = (memory.load(GuestAddress(slot), Ordering::Acquire)).expect(RAM);
        let message_type = MessageType::new(message_type)?;
        let mut bytes = [0; MESSAGE_SIZE];
        memory
            .read_slice(&mut bytes, GuestAddress(slot))
            .expect(RAM);
        (memory.store(0u32, GuestAddress(slot), Ordering::SeqCst)).expect(RAM);
        let flags: u8 = (memory.load(GuestAddress(slot + 5), Ordering::SeqCst)).expect(RAM);
        drop(memory);
        if flags & 1 != 0 {
            self.set(machine, Register::Eom, 0);
        }
        machine.settle();
        let payload = &bytes[HEADER_SIZE..HEADER_SIZE + usize::from(bytes[4])];
        Some(Message::new(message_type, payload).expect("a slot holds valid messages"))
    }

    /// Empties SINT2's slot until it stays empty; gives the first byte of each message.
    ///
    /// # Panics
    /// If a message has no payload.
    pub fn take_all<M: Machine>(&self, machine: &mut M) -> Vec<u8> {
        let messages = std::iter::from_fn(|| self.take(machine, SintIndex::VMBUS));
        messages.map(|message| message.payload()[0]).collect()
    }

    /// Clears the flags of a SINT; gives those that were set, ascending.
    ///
    /// # Panics
    /// If there is no memory.
    pub fn take_flags<M: Machine>(&self, machine: &M, sint: SintIndex) -> Vec<u16> {
        let area = self.pages + PAGE + u64::from(sint.get()) * AREA;
        let mut bytes = [0; AREA as usize];
        let memory = machine.space().memory();
        memory
            .read_slice(&mut bytes, GuestAddress(area))
            .expect(RAM);
        memory
            .write_slice(&[0; AREA as usize], GuestAddress(area))
            .expect(RAM);
        let is_set = |flag: &u16| bytes[usize::from(*flag) / 8] >> (flag % 8) & 1 != 0;
        (0..FLAGS).filter(is_set).collect()
    }

    /// `HvPostMessage`; gives the result value.
    ///
    /// # Panics
    /// If there is no memory.
    pub fn post<M: Machine>(&self, machine: &mut M, connection: u32, payload: &[u8]) -> u64 {
        let block = self.pages + 2 * PAGE;
        let size = u32::try_from(payload.len()).expect("a payload is short");
        let header = [connection, 0, 1, size].map(u32::to_le_bytes);
        let memory = machine.space().memory();
        (memory.write_slice(header.as_flattened(), GuestAddress(block))).expect(RAM);
        memory
            .write_slice(payload, GuestAddress(block + 16))
            .expect(RAM);
        drop(memory);
        let input = HypercallInput {
            control: POST_MESSAGE,
            input: block,
            output: 0,
        };
        machine.hypercall(self.vp, input)
    }

    /// `HvSignalEvent`, fast; gives the result value.
    pub fn signal<M: Machine>(&self, machine: &mut M, connection: u32, flag: u16) -> u64 {
        let input = HypercallInput {
            control: SIGNAL_EVENT | FAST,
            input: u64::from(connection) | u64::from(flag) << 32,
            output: 0,
        };
        machine.hypercall(self.vp, input)
    }
}

/// A message that is known by one byte.
///
/// # Panics
/// Never.
pub fn message(body: u8) -> Message {
    Message::new(MessageType::VMBUS, &[body]).expect("one byte is short")
}

fn msr(register: Register) -> u32 {
    let msr = RegisterId::plain(register).msr();
    msr.expect("the register has an MSR")
}

const PAGE: u64 = 0x1000;
const AREA: u64 = 256;
const FLAGS: u16 = 2048;
const RAM: &str = "the machine's pages are RAM";
const POST_MESSAGE: u64 = 0x5C;
const SIGNAL_EVENT: u64 = 0x5D;
const FAST: u64 = 1 << 16;
