// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! Seeds of `state_json`: saved states of managers of each kind, with something in every field.

use super::Seeds;
use crate::state_json::subject::{Guest, Kind, Subject};
use std::time::Duration;
use vm_synic::abi::{Bank, Register, TimerIndex};
use vm_synic::state::{STATE_VERSION, State, SynicState};
use vm_synic::{
    Child, DoorbellTarget, EventFlag, PartitionId, PortId, SintAddr, SintIndex, VpIndex,
};

pub fn all() -> Seeds {
    let plain = saved(Kind::Plain);
    let no_vps = State {
        vps: Vec::new(),
        ..plain.clone()
    };
    let higher_version = State {
        version: STATE_VERSION + 1,
        ..no_vps.clone()
    };
    let states = [
        ("timers", saved(Kind::Timers)),
        ("nested", saved(Kind::Nested)),
        ("l1vh", saved(Kind::L1vh)),
        ("root", saved(Kind::Root)),
        ("kvm", saved(Kind::Kvm)),
        ("partition", saved(Kind::Partition)),
        (
            "forged_count",
            forged(&plain, |synic| synic.eoms = u64::MAX - 1),
        ),
        ("forged_rings", forged(&plain, |synic| synic.rings.clear())),
        ("forged_sum", forged(&plain, forge_sum)),
        (
            "abandoned",
            forged(&plain, |synic| synic.rings_abandoned = true),
        ),
        ("plain", plain),
        ("no_vps", no_vps),
        ("higher_version", higher_version),
    ];
    let text = |(name, state)| {
        let text = serde_json::to_vec(&state);
        (name, text.expect("a state has no maps"))
    };
    states.into_iter().map(text).collect()
}

fn saved(kind: Kind) -> State {
    let subject = Subject::new(kind);
    subject.manager.add_vp(VP).expect("a new VP");
    let mut guest = subject.guest(VP);
    guest.enable_all();
    for sint in [SintIndex::VMBUS, SintIndex::DOORBELL] {
        guest.unmask(sint, 0xF3);
    }
    if kind == Kind::Timers {
        expire_timer(&subject, &guest);
    }
    let is_parent = matches!(kind, Kind::L1vh | Kind::Root);
    let _child = is_parent.then(|| create_ports(&subject, &guest));
    let addr = SintAddr::new(VP, SintIndex::VMBUS);
    subject.send(addr);
    if kind == Kind::Nested {
        let mut guest = guest.in_bank(Bank::Nested);
        guest.enable_all();
        guest.unmask(addr.sint, 0xF3);
        subject.send(addr.nested());
    }
    // More than a ring holds.
    for port in (1..70).filter_map(PortId::new) {
        let target = DoorbellTarget::Vp(VP);
        let _ = (subject.manager).ring_doorbell(target, SintIndex::DOORBELL, port);
    }
    subject.manager.pause();
    let flag = EventFlag::new(2000).expect("below 2048");
    let held = subject.manager.signal_event(addr, flag);
    held.expect("it is held");
    timeless(subject.manager.save().expect("paused"))
}

/// The same with something else in its first SynIC.
fn forged(state: &State, change: impl Fn(&mut SynicState)) -> State {
    let mut state = state.clone();
    state.vps.iter_mut().for_each(|vp| change(&mut vp.plain));
    state
}

/// Counts that balance, and are about to overflow.
fn forge_sum(synic: &mut SynicState) {
    for counters in &mut synic.counters {
        let (messages, events) = (&mut counters.messages, &mut counters.events);
        messages.posted += ALMOST;
        messages.delivered += ALMOST;
        events.fresh = ALMOST;
        events.coalesced = ALMOST;
    }
}

/// A timer whose message waits, and one that runs.
fn expire_timer(subject: &Subject, guest: &Guest) {
    let vmbus = u64::from(SintIndex::VMBUS.get()) << 16;
    let (auto_enable, periodic) = (1 << 3, 1 << 1);
    for (timer, count) in TimerIndex::all().zip([10, 1 << 50]) {
        let config = vmbus | auto_enable | periodic;
        let set = |register, value| guest.set(register, value).expect("a timer");
        set(Register::TimerConfig(timer), config);
        set(Register::TimerCount(timer), count);
    }
    for _ in 0..2 {
        subject.host.set_time(1 << 30);
        subject.manager.timer_due(VP);
    }
}

/// Ports of the guest's own: one is connected, one connected and deleted.
fn create_ports(subject: &Subject, guest: &Guest) -> Child {
    let child = subject.manager.add_child(CHILD).expect("a new partition");
    let call = |code, block: &[u64]| {
        let bytes: Vec<u8> = block.iter().flat_map(|word| word.to_le_bytes()).collect();
        guest.write_ram(INPUT, &bytes);
        assert_eq!(guest.hypercall(code, INPUT, 0), Some(0), "{code:#x}");
    };
    let (own, doorbell, any_vp, any_value) = (u64::MAX, 4, 0xFFFF_FFFF << 32, 1 << 31);
    for id in [1, 2] {
        let sint = u64::from(SintIndex::DOORBELL.get());
        let create = [own, id, CHILD.get(), doorbell, sint | any_vp, 0, 0];
        call(CREATE_PORT, &create);
        let gpa = 0xF000_0000 + id * 0x1000;
        let connect = [CHILD.get(), id, own, id, doorbell, gpa, 0, any_value, 0];
        call(CONNECT_PORT, &connect);
    }
    assert_eq!(guest.hypercall(DELETE_PORT_FAST, own, 2), Some(0));
    child
}

/// The ledger's times are those of the machine that made the seed.
fn timeless(mut state: State) -> State {
    for vp in &mut state.vps {
        let ledger = &mut vp.ledger;
        for entry in ledger.entries.iter_mut().chain(&mut ledger.violations) {
            entry.at = Duration::ZERO;
        }
    }
    state
}

const VP: VpIndex = VpIndex::new(0);
const CHILD: PartitionId = PartitionId::new(0x11);
/// A page that no guest kernel uses.
const INPUT: u64 = 0x1000;
const CREATE_PORT: u64 = 0x95;
const CONNECT_PORT: u64 = 0x96;
const DELETE_PORT_FAST: u64 = 0x1_0058;
const ALMOST: u64 = u64::MAX - 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn saved_state_of_each_kind_is_taken_by_its_kind() {
        for kind in Kind::ALL {
            let restored = Subject::new(kind).manager.restore(&saved(kind));
            assert!(restored.is_ok(), "{kind:?}: {restored:?}");
        }
    }
}
