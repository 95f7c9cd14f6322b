// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! The guest's side: taking messages out of slots and port ids out of rings, as Linux does.

use crate::action::body;
use crate::check::RING_WAITING_MAX;
use crate::world::{PAGE, RAM, Space, VPS, World};
use std::collections::HashSet;
use std::sync::atomic::{Ordering, fence};
use vm_memory::{ByteValued, Bytes, GuestAddress};
use vm_synic::{Bank, HypercallInput, RingMemory, Role, SintAddr, SintIndex, VpIndex};

impl World {
    /// Takes the message out of a SINT's slot, if there is one, and writes EOM if asked to.
    pub fn take_message(&mut self, addr: SintAddr) {
        self.manager.pre_run(addr.vp);
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
        if self.is_orderly && !self.is_paused && self.read::<u32>(slot) == 0 {
            self.check_nothing_waits(addr);
        }
    }

    /// With an empty slot, and nobody who owes an EOM, no message may wait.
    fn check_nothing_waits(&self, addr: SintAddr) {
        let bit = |register, bit| self.bit(addr.vp, addr.bank, register, bit);
        let sint = SINT0 + u32::from(addr.sint.get());
        if bit(SCONTROL, ENABLE) && !bit(sint, MASKED) && !bit(sint, PROXY) {
            let snapshot = self.manager.snapshot();
            let vp = snapshot.vps.iter().find(|vp| vp.index == addr.vp);
            let synic = vp.and_then(|vp| match addr.bank {
                Bank::Plain => Some(&vp.plain),
                Bank::Nested => vp.nested.as_ref(),
            });
            let waiting = synic.map_or(0, |synic| synic.counters(addr.sint).messages.waiting);
            assert_eq!(waiting, 0, "{addr}: messages that nobody asks for");
        }
    }

    /// After a doorbell that reaches the guest's ring: it is in it, or the ring is full and says so.
    pub fn check_ring(&self, vp: VpIndex, sint: SintIndex) {
        if !self.is_heard(vp, sint) {
            return;
        }
        let page = self.page(vp, Bank::Plain, SIRBP).expect("enabled");
        let snapshot = self.manager.snapshot();
        let vp = snapshot.vps.iter().find(|snapshot| snapshot.index == vp);
        let waiting = vp.map_or(0, |vp| vp.plain.counters(sint).ring.waiting);
        let ring_full: u8 = self.read(page + 256 * u64::from(sint.get()) + 1);
        assert!(
            waiting == 0 || ring_full != 0,
            "{waiting} doorbells that nobody hears of"
        );
    }

    /// Whether doorbells reach a ring: SIRBP and SCONTROL are on, and no paravisor is in between.
    fn is_heard(&self, vp: VpIndex, sint: SintIndex) -> bool {
        let bit = |register, bit| self.bit(vp, Bank::Plain, register, bit);
        self.is_orderly
            && !self.is_paused
            && self.ring_page(vp).is_some()
            && bit(SCONTROL, ENABLE)
            && !bit(SINT0 + u32::from(sint.get()), PROXY)
    }

    /// Address of the page with a VP's rings, unless its kernel has left.
    fn ring_page(&self, vp: VpIndex) -> Option<u64> {
        let is_read = !self.left.contains(&vp);
        is_read.then(|| self.page(vp, Bank::Plain, SIRBP)).flatten()
    }

    /// Linux frees the ring tails of a CPU that goes offline; the root's CPUs stay. The next kernel
    /// has tails of its own.
    pub fn follow_tails(&mut self, vp: VpIndex, register: u32, before: u64, value: u64) {
        let is_root = matches!(self.config.role, Role::Root | Role::NestedRoot);
        match register {
            GUEST_OS_ID if before != 0 && value == 0 => {
                self.left.extend((0..VPS).map(VpIndex::new));
                self.forget_tails(None);
            }
            MSR_SCONTROL | MSR_SIRBP => {
                if register == MSR_SIRBP {
                    self.left.remove(&vp);
                }
                let is_on = self.bit(vp, Bank::Plain, SCONTROL, ENABLE);
                if !is_root && !is_on && self.ring_page(vp).is_none() {
                    self.forget_tails(Some(vp));
                }
            }
            _ => {}
        }
    }

    /// A VP that starts anew starts to read its rings at entry 0.
    pub fn forget_tails(&mut self, vp: Option<VpIndex>) {
        let stays = |of: VpIndex| vp.is_some_and(|vp| vp != of);
        self.tails.retain(|(of, _), _| stays(*of));
        self.rung.retain(|(of, _), _| stays(*of));
    }

    /// Takes all port ids out of a SINT's ring; none that was rung is missing.
    pub fn drain_ring(&mut self, vp: VpIndex, sint: SintIndex) {
        let Some(page) = self.ring_page(vp) else {
            return;
        };
        self.manager.pre_run(vp);
        let ring = GuestRing {
            memory: self.memory.clone(),
            base: page + 256 * u64::from(sint.get()),
        };
        let manager = self.manager.clone();
        let tail = self.tails.entry((vp, sint)).or_default();
        let ring_empty = || {
            let input = HypercallInput {
                control: (1 << 16) | NOTIFY_PORT_RING_EMPTY,
                input: sint.get().into(),
                output: 0,
            };
            assert_eq!(manager.hypercall(vp, input), Some(0));
        };
        let most = 2 * 63 + RING_WAITING_MAX;
        let taken: HashSet<_> = (0..=most)
            .map_while(|_| tail.next(&ring, ring_empty))
            .collect();
        assert!(
            tail.next(&ring, ring_empty).is_none(),
            "the ring never ends"
        );
        let is_heard = self.is_heard(vp, sint);
        let rung = self.rung.entry((vp, sint)).or_default();
        rung.retain(|port| !taken.contains(port));
        assert!(
            !is_heard || rung.is_empty(),
            "{rung:?} did not arrive, {taken:?} did"
        );
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
        if message_type == TIMER_EXPIRED && payload.len() == 24 && self.config.timers.is_some() {
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

    /// Whether a register of a VP has a bit set.
    fn bit(&self, vp: VpIndex, bank: Bank, register: u32, bit: u64) -> bool {
        let value = self.manager.read_msr(vp, msr(bank, register));
        value.is_ok_and(|value| value & bit != 0)
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

const GUEST_OS_ID: u32 = 0x4000_0000;
const MSR_SCONTROL: u32 = 0x4000_0080;
const MSR_SIRBP: u32 = 0x4000_0085;
const ENABLE: u64 = 1;
const MASKED: u64 = 1 << 16;
const SCONTROL: u32 = 0;
const SINT0: u32 = 0x10;
const PROXY: u64 = 1 << 20;
const SIMP: u32 = 3;
const EOM: u32 = 4;
const SIRBP: u32 = 5;
const NOTIFY_PORT_RING_EMPTY: u64 = 0x8B;
const SINT_INTERCEPT: u32 = 0x8000_0061;
const TIMER_EXPIRED: u32 = 0x8000_0010;
