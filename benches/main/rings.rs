// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! Event rings, from the producer to a guest that drains them.

use crate::rig::{Page, Rig, Ring};
use crate::table::{Table, What};
use std::hint::black_box;
use vm_synic::{DoorbellTarget, PortId, RingConsumer, RingMemory, SintAddr, SintIndex, VpIndex};

pub fn rows(table: &mut Table) {
    push_and_drain(table, What::new("ring 1 port, drain", 1), 1);
    push_and_drain(table, What::new("ring 32 ports, drain", 1), 32);
}

fn push_and_drain(table: &mut Table, what: What, ports: u32) {
    let rig: Rig = Rig::new(1);
    let addr = SintAddr::new(VpIndex::new(0), SintIndex::DOORBELL);
    let area = rig.area(addr, Page::Rings);
    let ring = Ring::new(&area);
    let ids: Vec<_> = (1..=ports).filter_map(PortId::new).collect();
    let target = DoorbellTarget::Vp(addr.vp);
    let mut guest = RingConsumer::new();
    let ours = || {
        for &id in &ids {
            let rung = (rig.manager).ring_doorbell(black_box(target), addr.sint, black_box(id));
            assert_eq!(rung, Ok(()));
        }
        assert_eq!(drain(&mut guest, &ring), ports);
    };
    let other: Rig = Rig::new(1);
    let area = other.area(addr, Page::Rings);
    let ring = Ring::new(&area);
    let (mut head, mut guest) = (0, RingConsumer::new());
    let floor = || {
        for &id in &ids {
            push(&mut head, &ring, black_box(id));
        }
        assert_eq!(drain(&mut guest, &ring), ports);
    };
    table.row(what, ours, floor);
}

/// The floor of a producer: what the protocol asks for, without a lock, an overflow or a count.
fn push(head: &mut u8, ring: &Ring<'_>, port: PortId) -> bool {
    assert_eq!(ring.entry(*head), 0);
    ring.set_entry(*head, port.get());
    *head = if *head == 62 { 0 } else { *head + 1 };
    ring.fence();
    if ring.signal_masked() {
        return false;
    }
    ring.set_signal_masked(true);
    true
}

fn drain(guest: &mut RingConsumer, ring: &Ring<'_>) -> u32 {
    let mut count = 0;
    while guest
        .next(ring, || panic!("the ring never overflows"))
        .is_some()
    {
        count += 1;
    }
    count
}
