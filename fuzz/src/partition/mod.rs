// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! A manager of a partition on a double of /dev/mshv: two VPs (and a third that is never there),
//! ports, and an account of what was sent and what has arrived.

mod account;
mod setup;
mod steps;

use crate::mshv_exit::Answer;
use crate::op::{HEAD_SIZE, Op};
use account::Account;
use std::collections::BTreeMap;
use std::sync::Arc;
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};
use vm_synic::abi::Register;
use vm_synic::backend::mshv::{Served, handle_exit};
use vm_synic::test_utils::{MockGuest, MshvDouble};
use vm_synic::{
    Bank, ConnectionId, EventFlag, Message, MessageType, PortHandle, PortId, Posted, Registration,
    SintAddr, SintCounters, SintIndex, SynicManager, VpIndex,
};

type Space = Arc<GuestMemoryMmap>;

/// The manager and what it works on.
pub struct Partition {
    pub manager: Arc<SynicManager<Space>>,
    double: Arc<MshvDouble>,
    guests: Vec<MockGuest<Space>>,
    ports: Vec<(PortHandle, Registration)>,
    accounts: BTreeMap<SintAddr, Account>,
    /// Messages posted so far; each carries its number.
    posted: u64,
    is_paused: bool,
    /// The hypervisor may have refused to tell of a free slot; a resume asks it again.
    may_be_deaf: bool,
}

impl Partition {
    /// A partition as the first bytes of an input configure it, whose guest has enabled everything.
    pub fn new(head: [u8; HEAD_SIZE]) -> Self {
        let double = MshvDouble::new(VPS);
        let installed = double.partition().install_intercepts();
        installed.expect("the double knows them");
        let guests = (0..VPS).map(VpIndex::new).map(|vp| {
            let mut guest = double.guest(vp);
            guest.enable_all();
            SintIndex::all().for_each(|sint| guest.unmask(sint, VECTOR));
            guest
        });
        let mut partition = Self {
            manager: setup::manager(setup::config(head), &double),
            guests: guests.collect(),
            double,
            ports: Vec::new(),
            accounts: BTreeMap::new(),
            posted: 0,
            is_paused: false,
            may_be_deaf: false,
        };
        partition.register_ports();
        for vp in (0..VPS).map(VpIndex::new) {
            partition.manager.add_vp(vp).expect("a new VP");
        }
        partition
    }

    /// Runs a VP, as the VMM does; whether it has exited.
    pub fn run(&self, vp: VpIndex) -> bool {
        self.manager.pre_run(vp);
        let Some(message) = self.double.run(vp) else {
            return false;
        };
        let mut answer = Answer::default();
        let served = handle_exit(&self.manager, vp, &message, &mut answer, |_| 2);
        assert!(matches!(served, Ok(Served::Done)), "{served:?}");
        true
    }

    /// After each step: counters balance, and agree with what was sent and has arrived.
    pub fn check(&self) {
        // The double remembers each call until somebody asks.
        self.double.take_made();
        self.each_sint(|addr, counters| {
            let messages = counters.messages;
            assert!(messages.balances(), "{addr}: {messages:?}");
            let limit = u64::from(self.manager.config().queue_depth).max(1);
            assert!(messages.waiting <= limit, "{addr}: {messages:?}");
            assert_eq!(counters.interrupts.raised, 0, "{addr}: the hypervisor's");
            if let Some(account) = self.accounts.get(&addr) {
                account.check(addr, counters, self.is_slot_taken(addr));
            }
        });
    }

    /// At the end: once all goes well, all that waits arrives, and so does what comes after it.
    pub fn check_end(mut self) {
        self.double.heal();
        self.bring_up();
        if self.is_paused || self.may_be_deaf {
            self.resume();
        }
        self.drain();
        self.check();
        self.each_sint(|addr, counters| {
            if let Some(account) = self.accounts.get(&addr) {
                account.check_end(addr, counters);
            }
        });
        for vp in (0..VPS).map(VpIndex::new) {
            self.check_alive(vp);
        }
        self.check_memory();
    }

    fn each_sint(&self, act: impl Fn(SintAddr, &SintCounters)) {
        for vp in self.manager.snapshot().vps {
            for sint in SintIndex::all() {
                act(SintAddr::new(vp.index, sint), &vp.plain.counters(sint));
            }
        }
    }

    fn bring_up(&self) {
        for guest in &self.guests {
            for register in [Register::Simp, Register::Siefp, Register::Scontrol] {
                guest.set(register, guest.get(register) | 1).expect("RAM");
            }
            SintIndex::all().for_each(|sint| guest.unmask(sint, VECTOR));
        }
    }

    /// VPs run, and the guest takes messages, until there is no more to do.
    fn drain(&mut self) {
        let mut rounds = 0;
        loop {
            let mut is_done = true;
            for vp in (0..VPS).map(VpIndex::new) {
                is_done &= !self.run(vp);
                for sint in SintIndex::all() {
                    is_done &= !self.take_from(SintAddr::new(vp, sint));
                }
            }
            if is_done {
                return;
            }
            rounds += 1;
            assert!(rounds < 1000, "VPs exit without end");
        }
    }

    fn check_alive(&self, vp: VpIndex) {
        let addr = SintAddr::new(vp, SintIndex::VMBUS);
        let message = Message::new(MessageType::VMBUS, b"alive").expect("5 bytes");
        let posted = self.manager.post_message(addr, &message);
        assert_eq!(posted, Ok(Posted::Delivered), "{addr}");
        let flag = EventFlag::new(FLAGS - 1).expect("the last flag");
        assert!(self.manager.signal_event(addr, flag).is_ok(), "{addr}");
        let guest = &self.guests[vp.get() as usize];
        assert_eq!(guest.take_message(addr.sint), Some(message));
        assert!(guest.take_flags(addr.sint).contains(&flag.get()));
    }

    /// RAM that the guest never named is as it was.
    fn check_memory(&self) {
        let mut bytes = [0xFF; INPUT as usize];
        let memory = &self.double.vm.memory;
        memory.read_slice(&mut bytes, GuestAddress(0)).expect("RAM");
        assert!(bytes.iter().all(|byte| *byte == 0));
    }

    fn is_slot_taken(&self, addr: SintAddr) -> bool {
        let guest = self.guests.get(addr.vp.get() as usize);
        guest.is_some_and(|guest| guest.peek_message(addr.sint).is_some())
    }

    /// The guest empties a slot; whether there was anything.
    fn take_from(&mut self, addr: SintAddr) -> bool {
        let guest = self.guests.get(addr.vp.get() as usize);
        let taken = guest.and_then(|guest| guest.take_message(addr.sint));
        if let (Some(message), Some(account)) = (&taken, self.account(addr)) {
            account.take(addr, message);
        }
        taken.is_some()
    }

    /// `None`: there is no such SynIC, or ports of the guest's lead there.
    fn account(&mut self, addr: SintAddr) -> Option<&mut Account> {
        let is_there = has_vp(addr.vp) && addr.bank == Bank::Plain && addr.sint != BYSTANDER;
        is_there.then(|| self.accounts.entry(addr).or_default())
    }

    fn register_ports(&mut self) {
        for id in 1..=4 {
            let port = PortId::new(id).expect("a small id");
            let port = self.manager.create_port(port, setup::port(id));
            let port = port.expect("a free id");
            let id = ConnectionId::new(id).expect("a small id");
            let connection = self.manager.connect(id, &port).expect("a free id");
            self.ports.push((port, connection));
        }
    }
}

/// The VP of a step; the last number is never there.
pub fn vp(op: &Op) -> VpIndex {
    VpIndex::new(u32::from(op.vp) % (VPS + 1))
}

fn has_vp(vp: VpIndex) -> bool {
    vp.get() < VPS
}

const VPS: u32 = 2;
const VECTOR: u8 = 0xF3;
const FLAGS: u16 = 2048;
/// The SINT that ports of the guest's lead to.
const BYSTANDER: SintIndex = SintIndex::DOORBELL;
/// The page of the guest's hypercall input; nobody names what is before it.
const INPUT: u64 = 0x8000;
