// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! Managers that a state is restored into.

use std::collections::BTreeSet;
use std::sync::Arc;
use vm_memory::GuestMemoryMmap;
use vm_synic::state::State;
use vm_synic::test_utils::{MockGuest, MockVm, MshvDouble, RecordingHost};
use vm_synic::{
    Bank, Config, DoorbellTarget, EventFlag, Message, MessageType, PortId, Posted, Provider, Role,
    SintAddr, SintIndex, SynicManager, VpIndex,
};

/// How a manager was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Plain,
    Timers,
    Nested,
    /// A parent of partitions under another.
    L1vh,
    /// One under nobody.
    Root,
    /// Where KVM has timers and hypercall page.
    Kvm,
    /// Of a partition, whose hypervisor has the SynICs.
    Partition,
}

impl Kind {
    pub const ALL: [Self; 7] = [
        Self::Plain,
        Self::Timers,
        Self::Nested,
        Self::L1vh,
        Self::Root,
        Self::Kvm,
        Self::Partition,
    ];

    pub fn config(self) -> Config {
        let role = match self {
            Self::L1vh => Role::L1vh,
            Self::Root => Role::Root,
            _ => Role::Guest,
        };
        Config {
            role,
            timers: match self {
                Self::Timers => Some(Provider::Manager),
                Self::Kvm => Some(Provider::Hypervisor),
                _ => None,
            },
            hypercall_page: match self {
                Self::Kvm => Provider::Hypervisor,
                _ => Provider::Manager,
            },
            nested: self == Self::Nested,
            guest_ports: if role == Role::Guest { 0 } else { 4 },
            queue_depth: 4,
            ledger_depth: 4,
            timeline_depth: 4,
            ..Config::new(VPS)
        }
    }
}

/// A new manager without VPs, and the guest's memory.
pub struct Subject {
    pub manager: Arc<SynicManager<Arc<GuestMemoryMmap>>>,
    pub host: Arc<RecordingHost>,
    /// Whose guests have the registers: the manager's own, or the hypervisor's.
    vm: MockVm,
    kind: Kind,
}

impl Subject {
    pub fn new(kind: Kind) -> Self {
        let config = kind.config();
        if kind != Kind::Partition {
            let vm = MockVm::new(config.clone(), VPS).successor(config);
            return Self {
                manager: vm.manager.clone(),
                host: vm.host.clone(),
                vm,
                kind,
            };
        }
        let double = MshvDouble::new(VPS);
        let host = Arc::new(RecordingHost::default());
        let memory = double.vm.memory.clone();
        let partition = Arc::new(double.partition());
        Self {
            manager: SynicManager::of_partition(config, memory, host.clone(), partition),
            host,
            vm: double.vm.clone(),
            kind,
        }
    }

    /// The guest kernel on a VP, which has touched nothing yet.
    pub fn guest(&self, vp: VpIndex) -> Guest {
        self.vm.guest(vp)
    }

    /// What is connected to children is there before and after they are, and is rung or not.
    pub fn check_children(&self, state: &State, saved: &State) {
        let connections = &state.guest_connections;
        let ids: BTreeSet<_> = connections.iter().map(|at| at.child).collect();
        let mut children = Vec::new();
        for id in ids {
            let child = self.manager.add_child(id).expect("a new manager");
            let own = connections.iter().filter(|at| at.child == id);
            assert_eq!(child.doorbells(), own.count());
            assert!(&self.manager.save().expect("paused") == saved);
            children.push(child);
        }
        for (child, connection) in children.iter().zip(connections) {
            child.mmio_write(&self.manager, connection.spec.gpa, &[0; 4]);
        }
    }

    /// Everything that a VMM and its guest do, with whatever was restored or refused.
    pub fn use_it(&self) {
        self.manager.resume();
        self.host.set_time(1 << 40);
        for vp in (0..VPS).map(VpIndex::new) {
            self.manager.pre_run(vp);
            self.manager.timer_due(vp);
            for sint in [SintIndex::VMBUS, SintIndex::DOORBELL] {
                self.send(SintAddr::new(vp, sint));
                self.send(SintAddr::new(vp, sint).nested());
            }
            let _ = self.manager.write_msr(vp, EOM, 0);
            self.manager.sints_deliverable(vp, u16::MAX);
        }
        let snapshot = self.manager.snapshot();
        for vp in &snapshot.vps {
            assert!(vp.plain.balances(), "{}", vp.index);
            let nested = vp.nested.as_ref();
            assert!(
                nested.is_none_or(|nested| nested.balances()),
                "{}",
                vp.index
            );
        }
        let _ = snapshot.to_string();
        assert!(!snapshot.to_json().is_null());
        assert!(!self.manager.chrome_trace().is_null());
    }

    /// As often as there is room, and once more.
    pub fn send(&self, addr: SintAddr) {
        for round in 0..6 {
            let message = Message::new(MessageType::VMBUS, &[round]).expect("a byte");
            let _ = self.manager.post_message(addr, &message);
            let flag = EventFlag::new(round.into()).expect("below 2048");
            let _ = self.manager.signal_event(addr, flag);
            let port = PortId::new(u32::from(round) + 1).expect("a small id");
            let target = DoorbellTarget::Vp(addr.vp);
            let _ = self.manager.ring_doorbell(target, addr.sint, port);
        }
    }

    /// A VP that is reset can be brought up and reached.
    pub fn check_alive(&self) {
        let vp = VpIndex::new(0);
        let _ = self.manager.add_vp(vp);
        self.manager.pre_run(vp);
        self.manager.reset_vp(vp).expect("plugged in");
        let mut guest = self.guest(vp);
        self.check_bank(&mut guest, Bank::Plain);
        if self.kind != Kind::Partition {
            self.check_ring(&mut guest);
        }
        if self.kind == Kind::Nested {
            self.check_bank(&mut guest.in_bank(Bank::Nested), Bank::Nested);
        }
    }

    fn check_bank(&self, guest: &mut Guest, bank: Bank) {
        let (vp, sint) = (guest.vp(), SintIndex::VMBUS);
        guest.enable_all();
        guest.unmask(sint, 0xF3);
        let addr = SintAddr { vp, bank, sint };
        let message = Message::new(MessageType::VMBUS, b"alive").expect("5 bytes");
        let posted = self.manager.post_message(addr, &message);
        assert_eq!(posted, Ok(Posted::Delivered), "{:?}", self.kind);
        assert_eq!(guest.take_message(sint), Some(message));
        let flag = EventFlag::new(2047).expect("the last flag");
        assert_eq!(self.manager.signal_event(addr, flag), Ok(true));
        assert_eq!(guest.take_flags(sint), [2047]);
    }

    fn check_ring(&self, guest: &mut Guest) {
        let sint = SintIndex::DOORBELL;
        guest.unmask(sint, 0xF5);
        let (target, port) = (DoorbellTarget::Vp(guest.vp()), PortId::new(9));
        let rung = self
            .manager
            .ring_doorbell(target, sint, port.expect("a small id"));
        assert_eq!(rung, Ok(()), "{:?}", self.kind);
        assert_eq!(guest.drain_ring(sint), [9], "{:?}", self.kind);
    }
}

pub type Guest = MockGuest<Arc<GuestMemoryMmap>>;

/// VPs that there may be.
pub const VPS: u32 = 2;
const EOM: u32 = 0x4000_0084;
