// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! A VM on which Linux's drivers run, and what to look at afterwards.

use std::sync::Arc;
use vm_memory::GuestMemoryMmap;
use vm_synic::abi::Register::{self, Sint};
use vm_synic::ownership::{Entry, ViolationKind};
use vm_synic::test_utils::{MockGuest, MockVm};
use vm_synic::{
    Config, Criterion, DoorbellTarget, EventFlag, Message, MessageType, PortId, ProvidedPages,
    Role, SintAddr, SintIndex, VpIndex,
};

pub const VP: VpIndex = VpIndex::new(0);
pub const SINT0: Register = Sint(SintIndex::INTERCEPT);
pub const SINT2: Register = Sint(SintIndex::VMBUS);
pub const SINT5: Register = Sint(SintIndex::DOORBELL);
pub const CRITERIA: [Criterion; 2] = [Criterion::Seed, Criterion::Linux72];

pub type Guest = MockGuest<Arc<GuestMemoryMmap<()>>>;

/// Two VPs; where the hypervisor provides pages in this role, it does.
pub fn vm(config: Config) -> MockVm {
    let vm = MockVm::new(
        Config {
            max_vps: 2,
            ..config
        },
        2,
    );
    for vp in 0..2 {
        let base = 0x1000 + u64::from(vp) * 0x3000;
        let pages = match vm.manager.config().role {
            Role::Guest => ProvidedPages::default(),
            Role::L1vh => ProvidedPages {
                sirbp: base + 0x2000,
                ..ProvidedPages::default()
            },
            _ => ProvidedPages {
                simp: base,
                siefp: base + 0x1000,
                sirbp: base + 0x2000,
            },
        };
        vm.manager.provide_pages(VpIndex::new(vp), pages).unwrap();
    }
    vm
}

pub fn config(role: Role, criterion: Criterion) -> Config {
    Config {
        role,
        criterion,
        ..Config::new(2)
    }
}

pub fn ledger(vm: &MockVm, vp: VpIndex) -> Vec<Entry> {
    let snapshot = vm.manager.snapshot();
    snapshot.vps[vp.get() as usize].ledger.clone()
}

/// Registers and values in the order that the hypervisor saw them written.
pub fn writes(ledger: &[Entry]) -> Vec<(Register, u64)> {
    let writes = ledger
        .iter()
        .map(|entry| (entry.register.register, entry.after));
    writes.collect()
}

pub fn violations(vm: &MockVm) -> Vec<(ViolationKind, Register)> {
    let snapshot = vm.manager.snapshot();
    let all = snapshot.vps.iter().flat_map(|vp| &vp.violations);
    let violations = all.filter_map(|entry| entry.violation);
    violations.map(|v| (v.kind, v.register.register)).collect()
}

/// VMBus on this VP hears messages and events.
#[track_caller]
pub fn check_vmbus(vm: &MockVm, guest: &Guest) {
    let addr = SintAddr::new(guest.vp(), SintIndex::VMBUS);
    let message = Message::new(MessageType::VMBUS, b"offer").unwrap();
    let flag = EventFlag::new(9).unwrap();
    vm.host.take_calls();
    for _ in 0..2 {
        vm.manager.post_message(addr, &message).unwrap();
    }
    vm.manager.signal_event(addr, flag).unwrap();
    assert_eq!(vm.host.take_interrupts().len(), 2);
    assert_eq!(guest.take_flags(SintIndex::VMBUS), [9]);
    assert_eq!(guest.take_messages(SintIndex::VMBUS), [message; 2]);
}

/// MSHV on this VP hears intercepts and doorbells.
#[track_caller]
pub fn check_mshv(vm: &MockVm, guest: &mut Guest) {
    let sint0 = SintAddr::new(guest.vp(), SintIndex::INTERCEPT);
    let opaque = MessageType::new(0x8000_003F).unwrap();
    let intercept = Message::new(opaque, &[0; 4]).unwrap();
    let target = DoorbellTarget::Vp(guest.vp());
    vm.manager.post_message(sint0, &intercept).unwrap();
    for port in (1..=70).filter_map(PortId::new) {
        let rung = vm.manager.ring_doorbell(target, SintIndex::DOORBELL, port);
        rung.unwrap();
    }
    let messages = guest.take_messages(SintIndex::INTERCEPT);
    let types = messages.iter().map(|message| message.message_type());
    assert!(types.eq([opaque, MessageType::SYNIC_SINT_INTERCEPT]));
    let ports = guest.drain_ring(SintIndex::DOORBELL);
    assert_eq!(ports, (1..=70).collect::<Vec<_>>());
}
