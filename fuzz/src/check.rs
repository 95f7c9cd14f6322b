// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! What must hold whatever the guest does.

use crate::world::{GUEST_PORTS, PAGE, RAM, RING_PORTS, VPS, World};
use vm_memory::{Bytes, GuestAddress};
use vm_synic::{
    Bank, DoorbellTarget, EventFlag, Message, MessageType, MessageWriter, PortId, Posted, SintAddr,
    SintIndex, SynicSnapshot, ViolationPolicy, VpIndex,
};

/// Ports that can wait for an entry of one ring: those that are ever rung, each once. A guest that
/// writes port ids into its own ring, or deletes ports that are in it, can add what one ring holds,
/// and no more.
pub const RING_WAITING_MAX: u64 = RING_PORTS as u64 + GUEST_PORTS as u64 + 63;

impl World {
    /// After each step: counters balance and agree with the host's, and queues are bounded.
    pub fn check(&self) {
        let snapshot = self.manager.snapshot();
        for vp in &snapshot.vps {
            self.check_synic(vp.index, Bank::Plain, &vp.plain);
            if let Some(nested) = &vp.nested {
                self.check_synic(vp.index, Bank::Nested, nested);
            }
        }
    }

    /// At the end: pages that the guest never named are as they were.
    pub fn check_memory(&self) {
        for page in (0..RAM / PAGE).filter(|page| self.touched >> page & 1 == 0) {
            let mut bytes = [0; PAGE as usize];
            let read = self
                .memory
                .read_slice(&mut bytes, GuestAddress(page * PAGE));
            read.expect("inside RAM");
            assert_eq!(bytes, [0; PAGE as usize], "page {page} was never named");
        }
    }

    /// At the end: each VP can be brought up as if nothing had happened.
    pub fn check_alive(&mut self) {
        // Not if nobody paused it: a VP that is wrongly asleep must not be woken by this.
        if self.is_paused {
            self.resume();
        }
        for vp in (0..VPS).map(VpIndex::new) {
            let _ = self.manager.add_vp(vp);
            self.manager.pre_run(vp);
            self.manager.reset_vp(vp).expect("plugged in");
            if self.config.violations == ViolationPolicy::Observe {
                self.check_vp_alive(vp);
            }
        }
    }

    /// Remembers which register owns a page, to tell whether messages must be in order.
    pub fn claim(&mut self, vp: VpIndex, msr: u32, value: u64) {
        let page = value / PAGE;
        let is_page = matches!(msr, 0x4000_0001 | 0x4000_0082 | 0x4000_0083 | 0x4000_0085)
            || matches!(msr, 0x4000_1082 | 0x4000_1083);
        if !is_page || page >= RAM / PAGE {
            return;
        }
        self.touch(page);
        let owner = *self.claims.entry(page).or_insert((vp.get(), msr));
        self.is_orderly &= owner == (vp.get(), msr);
    }

    /// The guest may have written to a page, or let the manager do so.
    pub fn touch(&mut self, page: u64) {
        self.touched |= 1 << page;
    }

    fn check_synic(&self, vp: VpIndex, bank: Bank, synic: &SynicSnapshot) {
        for sint in SintIndex::all() {
            let addr = SintAddr { vp, bank, sint };
            let counters = synic.counters(sint);
            let limit = u64::from(self.config.queue_depth) + 16;
            assert!(counters.messages.waiting <= limit, "{addr}: {counters:?}");
            assert!(
                counters.ring.waiting <= RING_WAITING_MAX,
                "{addr}: {counters:?}"
            );
            if !self.is_forged {
                assert!(
                    counters.messages.balances(),
                    "{addr}: {:?}",
                    counters.messages
                );
                assert!(counters.ring.balances(), "{addr}: {:?}", counters.ring);
                assert_eq!(counters.interrupts.raised, self.host.raised(addr), "{addr}");
            }
        }
    }

    fn check_vp_alive(&mut self, vp: VpIndex) {
        let pages = [
            (0x4000_0082, 0xA000),
            (0x4000_0083, 0xB000),
            (0x4000_0085, 0xC000),
        ];
        for (msr, page) in pages {
            self.manager.write_msr(vp, msr, page | 1).expect("RAM");
        }
        for sint in [0x4000_0092, 0x4000_0095] {
            self.manager.write_msr(vp, sint, 0xF3).expect("a vector");
        }
        self.manager.write_msr(vp, 0x4000_0080, 1).expect("a bit");
        let (vmbus, doorbell) = (SintAddr::new(vp, SintIndex::VMBUS), SintIndex::DOORBELL);
        let raised = self.host.raised(vmbus);

        let message = Message::new(MessageType::VMBUS, b"alive").expect("5 bytes");
        let posted = self.manager.post_message(vmbus, &message);
        match self.config.message_writer {
            MessageWriter::AnyThread => assert_eq!(posted, Ok(Posted::Delivered), "{vp}"),
            MessageWriter::VpThread => assert_eq!(posted, Ok(Posted::Queued), "{vp}"),
        }
        self.manager.pre_run(vp);
        let flag = EventFlag::new(2047).expect("the last flag");
        assert_eq!(self.manager.signal_event(vmbus, flag), Ok(true), "{vp}");
        let (target, port) = (DoorbellTarget::Vp(vp), PortId::new(9).expect("small"));
        self.manager
            .ring_doorbell(target, doorbell, port)
            .expect("a VP");

        assert_eq!(self.host.raised(vmbus), raised + 2, "{vp}");
        let byte = |at| self.memory.read_obj::<u8>(GuestAddress(at)).expect("RAM");
        assert_eq!(
            [byte(0xB200), byte(0xA2FF), byte(0xC504)],
            [1, 0x80, 9],
            "{vp}"
        );
    }
}

/// Registers that read as they were written.
pub fn is_stored(msr: u32) -> bool {
    let (bank, register) = (msr & !0x1F, msr & 0x1F);
    let is_bank = bank == 0x4000_0080 || bank == 0x4000_1080;
    is_bank && matches!(register, 0 | 2 | 3 | 5 | 0x10..=0x1F)
}
