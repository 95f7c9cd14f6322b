// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! The guest's side: taking messages out of slots and port ids out of rings, as Linux does.

use crate::action::body;
use crate::check::RING_WAITING_MAX;
use crate::world::{PAGE, RAM, Space, World};
use std::sync::atomic::{Ordering, fence};
use vm_memory::{ByteValued, Bytes, GuestAddress};
use vm_synic::{Bank, HypercallInput, RingMemory, SintAddr, SintIndex, VpIndex};

impl World {
    /// Takes the message out of a SINT's slot, if there is one, and writes EOM if asked to.
    pub fn take_message(&mut self, addr: SintAddr) {
        let Some(page) = self.page(addr.vp, addr.bank, SIMP) else {
            return;
        };
        let slot = page + 256 * u64::from(addr.sint.get());
        let message_type: u32 = self.read(slot);
        if message_type == 0 {
            return;
        }
        if self.is_orderly {
            self.check_message(addr, message_type, slot);
        }
        self.write(slot, 0u32);
        fence(Ordering::SeqCst);
        let flags: u8 = self.read(slot + 5);
        if flags & 1 != 0 {
            let _ = self.manager.write_msr(addr.vp, msr(addr.bank, EOM), 0);
        }
    }

    /// After a doorbell, with SIRBP and SCONTROL on and no paravisor in between: its port is in the ring, or the ring is full
    /// and says so.
    pub fn check_ring(&self, vp: VpIndex, sint: SintIndex) {
        let page = self.page(vp, Bank::Plain, SIRBP);
        let register = |number| self.manager.read_msr(vp, msr(Bank::Plain, number));
        let is_on = register(SCONTROL).is_ok_and(|scontrol| scontrol & 1 != 0);
        let sint_register = register(SINT0 + u32::from(sint.get()));
        let is_ours = sint_register.is_ok_and(|sint| sint & PROXY == 0);
        let is_heard =
            is_on && is_ours && self.is_orderly && !self.is_paused && !self.left.contains(&vp);
        let Some(page) = page.filter(|_| is_heard) else {
            return;
        };
        let snapshot = self.manager.snapshot();
        let vp = snapshot.vps.iter().find(|snapshot| snapshot.index == vp);
        let waiting = vp.map_or(0, |vp| vp.plain.counters(sint).ring.waiting);
        let ring_full: u8 = self.read(page + 256 * u64::from(sint.get()) + 1);
        assert!(
            waiting == 0 || ring_full != 0,
            "{waiting} doorbells that nobody hears of"
        );
    }

    /// Takes all port ids out of a SINT's ring.
    pub fn drain_ring(&mut self, vp: VpIndex, sint: SintIndex) {
        let Some(page) = self.page(vp, Bank::Plain, SIRBP) else {
            return;
        };
        let ring = GuestRing {
            memory: self.memory.clone(),
            base: page + 256 * u64::from(sint.get()),
        };
        let manager = self.manager.clone();
        let tail = self.tails.entry((vp, sint)).or_default();
        let mut count = 0;
        let ring_empty = || {
            let input = HypercallInput {
                control: 1 << 16 | NOTIFY_PORT_RING_EMPTY,
                input: sint.get().into(),
                output: 0,
            };
            assert_eq!(manager.hypercall(vp, input), Some(0));
        };
        while tail.next(&ring, ring_empty).is_some() {
            count += 1;
            assert!(count <= 2 * 63 + RING_WAITING_MAX, "the ring never ends");
        }
    }

    /// Messages come in order, whole and once.
    fn check_message(&mut self, addr: SintAddr, message_type: u32, slot: u64) {
        let size: u8 = self.read(slot + 4);
        let mut payload = vec![0; size.into()];
        let read = self
            .memory
            .read_slice(&mut payload, GuestAddress(slot + 16));
        read.expect("inside RAM");
        if message_type == SINT_INTERCEPT && payload.len() == 4 {
            assert_eq!(addr.sint, SintIndex::INTERCEPT);
            return;
        }
        let number = payload
            .first_chunk()
            .map_or(0, |first| u64::from_le_bytes(*first));
        assert_eq!(payload, body(number), "{addr}");
        let last = self.taken.insert(addr, number).unwrap_or(0);
        assert!(
            number > last,
            "{addr}: message {number} came after message {last}"
        );
    }

    /// Address of a page that a register has enabled, if it is RAM.
    fn page(&self, vp: VpIndex, bank: Bank, register: u32) -> Option<u64> {
        let value = self.manager.read_msr(vp, msr(bank, register)).ok()?;
        let page = value & !(PAGE - 1);
        (value & 1 != 0 && page < RAM).then_some(page)
    }

    fn read<T: ByteValued>(&self, at: u64) -> T {
        self.memory.read_obj(GuestAddress(at)).expect("inside RAM")
    }

    fn write<T: ByteValued>(&self, at: u64, value: T) {
        let written = self.memory.write_obj(value, GuestAddress(at));
        written.expect("inside RAM");
    }
}

/// An event ring, as the guest sees it.
struct GuestRing {
    memory: Space,
    base: u64,
}

impl GuestRing {
    fn read<T: ByteValued>(&self, offset: u64) -> T {
        let read = self.memory.read_obj(GuestAddress(self.base + offset));
        read.expect("inside RAM")
    }

    fn write<T: ByteValued>(&self, offset: u64, value: T) {
        let written = self
            .memory
            .write_obj(value, GuestAddress(self.base + offset));
        written.expect("inside RAM");
    }
}

impl RingMemory for GuestRing {
    fn entry(&self, index: u8) -> u32 {
        self.read(4 + 4 * u64::from(index))
    }

    fn set_entry(&self, index: u8, port: u32) {
        self.write(4 + 4 * u64::from(index), port);
    }

    fn signal_masked(&self) -> bool {
        self.read::<u8>(0) != 0
    }

    fn set_signal_masked(&self, masked: bool) {
        self.write(0, u8::from(masked));
    }

    fn ring_full(&self) -> bool {
        self.read::<u8>(1) != 0
    }

    fn set_ring_full(&self, full: bool) {
        self.write(1, u8::from(full));
    }

    fn fence(&self) {
        fence(Ordering::SeqCst);
    }
}

fn msr(bank: Bank, register: u32) -> u32 {
    match bank {
        Bank::Plain => 0x4000_0080 + register,
        Bank::Nested => 0x4000_1080 + register,
    }
}

const SCONTROL: u32 = 0;
const SINT0: u32 = 0x10;
const PROXY: u64 = 1 << 20;
const SIMP: u32 = 3;
const EOM: u32 = 4;
const SIRBP: u32 = 5;
const NOTIFY_PORT_RING_EMPTY: u64 = 0x8B;
const SINT_INTERCEPT: u32 = 0x8000_0061;
