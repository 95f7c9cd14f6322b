// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! Ports of the guest's own, and doorbells of its children that ring them.

use super::*;
use crate::Child;
use crate::abi::PartitionId;
use crate::hypercall::ports::{CONNECT_PORT, CREATE_PORT, DELETE_PORT, DISCONNECT_PORT};

const OWN: u64 = u64::MAX;
const CHILD: u64 = 0x11;
const GPA: u64 = 0xF000_0000;
const DOORBELL: u64 = 4;
const ANY_VALUE: u64 = 1 << 31;
const PORTS: u32 = 8;

fn parent() -> (Guest, Child) {
    let guest = Guest::new(Config {
        guest_ports: PORTS,
        ..Config::new(1)
    });
    let child = guest.manager.add_child(PartitionId::new(CHILD)).unwrap();
    (guest, child)
}

fn call_with(guest: &Guest, code: u16, block: &[u64]) -> HvStatus {
    for (gpa, qword) in (INPUT..).step_by(8).zip(block) {
        guest.write(gpa, &qword.to_le_bytes());
    }
    status(guest.call(code.into(), INPUT))
}

/// A call whose two qwords are in registers, as Linux makes it.
fn call_fast(guest: &Guest, code: u16, [input, output]: [u64; 2]) -> HvStatus {
    let control = u64::from(code) | FAST;
    let input = HypercallInput {
        control,
        input,
        output,
    };
    status(guest.manager.hypercall(VP, input))
}

fn status(answer: Option<u64>) -> HvStatus {
    let all = [
        HvStatus::Success,
        HvStatus::InvalidHypercallInput,
        HvStatus::InvalidAlignment,
        HvStatus::InvalidParameter,
        HvStatus::InvalidPartitionId,
        HvStatus::InvalidVpIndex,
        HvStatus::InvalidPortId,
        HvStatus::InvalidConnectionId,
        HvStatus::ObjectInUse,
        HvStatus::NoResources,
    ];
    let answer = answer.expect("the call is the manager's");
    let known = all.into_iter().find(|status| u64::from(*status) == answer);
    known.unwrap_or_else(|| panic!("status {answer:#x}"))
}

/// As Linux has it (`mshv_register_doorbell`): SINT5, any VP.
fn port_block(id: u64) -> [u64; 7] {
    [OWN, id, CHILD, DOORBELL, 5 | 0xFFFF_FFFF << 32, 0, 0]
}

fn connection_block(id: u64, gpa: u64) -> [u64; 9] {
    [CHILD, id, OWN, id, DOORBELL, gpa, 0, ANY_VALUE, 0]
}

fn create(guest: &Guest, id: u64) -> HvStatus {
    call_with(guest, CREATE_PORT, &port_block(id))
}

fn connect(guest: &Guest, id: u64, gpa: u64) -> HvStatus {
    call_with(guest, CONNECT_PORT, &connection_block(id, gpa))
}

fn rings(guest: &Guest, child: &Child, gpa: u64, data: &[u8]) -> bool {
    child.mmio_write(&guest.manager, gpa, data)
}

#[test]
fn port_when_connected_has_its_id_entered_for_a_childs_write_and_not_before_or_after() {
    let (guest, child) = parent();
    assert_eq!(create(&guest, 3), HvStatus::Success);
    assert!(!rings(&guest, &child, GPA, &[1]));
    assert_eq!(connect(&guest, 3, GPA), HvStatus::Success);
    assert!(rings(&guest, &child, GPA, &[1]));
    assert_eq!(ring(&guest)[..2], [3, 0]);

    let connection = [CHILD, 3 | 1 << 32];
    assert_eq!(
        call_fast(&guest, DISCONNECT_PORT, connection),
        HvStatus::Success
    );
    assert!(!rings(&guest, &child, GPA, &[1]));
    assert_eq!(call_fast(&guest, DELETE_PORT, [OWN, 3]), HvStatus::Success);
    assert_eq!(ring(&guest)[..2], [3, 0]);
}

#[test]
fn connection_when_it_has_size_and_value_is_rung_by_those_alone() {
    let (guest, child) = parent();
    assert_eq!(create(&guest, 1), HvStatus::Success);
    let mut block = connection_block(1, GPA);
    (block[6], block[7]) = (0x1234, 2);
    assert_eq!(call_with(&guest, CONNECT_PORT, &block), HvStatus::Success);
    assert!(!rings(&guest, &child, GPA, &0x1234_u32.to_le_bytes()));
    assert!(!rings(&guest, &child, GPA, &0x1235_u16.to_le_bytes()));
    assert!(rings(&guest, &child, GPA, &0x1234_u16.to_le_bytes()));
}

#[test]
fn doorbell_of_one_child_is_not_rung_by_another() {
    let (guest, child) = parent();
    let other = guest.manager.add_child(PartitionId::new(0x12)).unwrap();
    create(&guest, 1);
    connect(&guest, 1, GPA);
    assert!(!rings(&guest, &other, GPA, &[1]));
    assert!(rings(&guest, &child, GPA, &[1]));
}

#[test]
fn create_with_a_bad_value_says_which() {
    let (guest, _child) = parent();
    let cases: [(&str, usize, u64, HvStatus); 11] = [
        ("port id 0", 1, 0, HvStatus::InvalidPortId),
        ("25 bits", 1, 0x100_0000, HvStatus::InvalidPortId),
        ("a VTL", 1, 1 | 1 << 32, HvStatus::InvalidParameter),
        ("not its own", 0, CHILD, HvStatus::InvalidPartitionId),
        ("no child", 2, 0x99, HvStatus::InvalidPartitionId),
        ("itself", 2, OWN, HvStatus::InvalidPartitionId),
        ("message port", 3, 1, HvStatus::InvalidParameter),
        ("reserved half", 3, 4 | 1 << 32, HvStatus::InvalidParameter),
        ("SINT 16", 4, 16, HvStatus::InvalidParameter),
        ("VP 1 of 1", 4, 5 | 1 << 32, HvStatus::InvalidVpIndex),
        ("reserved qword", 5, 1, HvStatus::InvalidParameter),
    ];
    for (what, index, value, expected) in cases {
        let mut block = port_block(1);
        block[index] = value;
        assert_eq!(call_with(&guest, CREATE_PORT, &block), expected, "{what}");
    }
    assert_eq!(create(&guest, 1), HvStatus::Success);
    assert_eq!(create(&guest, 1), HvStatus::InvalidPortId, "it exists");
}

#[test]
fn connect_with_a_bad_value_says_which() {
    let (guest, _child) = parent();
    create(&guest, 1);
    let cases: [(&str, usize, u64, HvStatus); 10] = [
        ("no child", 0, 0x99, HvStatus::InvalidPartitionId),
        ("25 bits", 1, 0x100_0000, HvStatus::InvalidConnectionId),
        ("a VTL", 1, 1 | 1 << 32, HvStatus::InvalidParameter),
        ("a child's port", 2, CHILD, HvStatus::InvalidPartitionId),
        ("no such port", 3, 2, HvStatus::InvalidPortId),
        ("port id 0", 3, 0, HvStatus::InvalidPortId),
        ("not a doorbell", 4, 2, HvStatus::InvalidParameter),
        ("53 bits", 5, 1 << 52, HvStatus::InvalidParameter),
        ("size 5", 7, 5, HvStatus::InvalidParameter),
        ("unknown flag", 7, 8, HvStatus::InvalidParameter),
    ];
    for (what, index, value, expected) in cases {
        let mut block = connection_block(1, GPA);
        block[index] = value;
        assert_eq!(call_with(&guest, CONNECT_PORT, &block), expected, "{what}");
    }
    assert_eq!(connect(&guest, 1, GPA), HvStatus::Success);
    assert_eq!(connect(&guest, 1, GPA + 8), HvStatus::InvalidConnectionId);
    create(&guest, 2);
    assert_eq!(connect(&guest, 2, GPA), HvStatus::ObjectInUse);
}

#[test]
fn connect_of_a_port_for_another_child_is_an_invalid_port() {
    let (guest, _child) = parent();
    let _other = guest.manager.add_child(PartitionId::new(0x12)).unwrap();
    create(&guest, 1);
    let mut block = connection_block(1, GPA);
    block[0] = 0x12;
    assert_eq!(
        call_with(&guest, CONNECT_PORT, &block),
        HvStatus::InvalidPortId
    );
}

#[test]
fn delete_and_disconnect_of_what_is_not_there_are_refused() {
    let (guest, _child) = parent();
    for (code, qwords, expected) in [
        (DELETE_PORT, [OWN, 1], HvStatus::InvalidPortId),
        (DELETE_PORT, [OWN, 0x100_0000], HvStatus::InvalidPortId),
        (DELETE_PORT, [OWN, 1 | 1 << 32], HvStatus::InvalidParameter),
        (DELETE_PORT, [CHILD, 1], HvStatus::InvalidPartitionId),
        (
            DISCONNECT_PORT,
            [CHILD, 1 | 1 << 32],
            HvStatus::InvalidConnectionId,
        ),
        (DISCONNECT_PORT, [CHILD, 1], HvStatus::InvalidParameter),
        (
            DISCONNECT_PORT,
            [OWN, 1 | 1 << 32],
            HvStatus::InvalidPartitionId,
        ),
    ] {
        let called = call_fast(&guest, code, qwords);
        assert_eq!(called, expected, "{code:#x} {qwords:x?}");
    }
}

#[test]
fn create_beyond_the_limit_is_refused_until_one_is_deleted() {
    let (guest, _child) = parent();
    for id in 1..=u64::from(PORTS) {
        assert_eq!(create(&guest, id), HvStatus::Success, "{id}");
    }
    assert_eq!(create(&guest, 100), HvStatus::NoResources);
    call_fast(&guest, DELETE_PORT, [OWN, 1]);
    assert_eq!(create(&guest, 100), HvStatus::Success);
}

#[test]
fn connect_of_one_port_beyond_the_limit_is_refused_until_one_is_disconnected() {
    let (guest, _child) = parent();
    create(&guest, 1);
    let connect_1 = |connection: u64| {
        let mut block = connection_block(1, GPA + connection * 0x1000);
        block[1] = connection;
        call_with(&guest, CONNECT_PORT, &block)
    };
    for connection in 1..=u64::from(PORTS) {
        assert_eq!(connect_1(connection), HvStatus::Success);
    }
    assert_eq!(connect_1(100), HvStatus::NoResources);
    let disconnected = call_fast(&guest, DISCONNECT_PORT, [CHILD, 3 | 1 << 32]);
    assert_eq!(disconnected, HvStatus::Success);
    assert_eq!(connect_1(100), HvStatus::Success);
}

#[test]
fn delete_of_a_port_that_waits_for_room_forgets_it_and_it_rings_no_more() {
    let (guest, child) = parent();
    ring_ports(&guest, 63);
    create(&guest, 0x70);
    connect(&guest, 0x70, GPA);
    assert!(rings(&guest, &child, GPA, &[1]));
    assert_eq!(
        call_fast(&guest, DELETE_PORT, [OWN, 0x70]),
        HvStatus::Success
    );
    assert!(!rings(&guest, &child, GPA, &[1]));

    let counters = guest.manager.snapshot().vps[0].plain.counters[5].ring;
    assert_eq!((counters.waiting, counters.forgotten), (0, 1));
    assert!(counters.balances());
}

#[test]
fn ports_are_gone_when_the_guests_kernel_is_and_the_next_may_use_their_ids() {
    let (guest, child) = parent();
    guest.manager.write_msr(VP, 0x4000_0000, 1).unwrap();
    create(&guest, 1);
    connect(&guest, 1, GPA);
    guest.manager.write_msr(VP, 0x4000_0000, 0).unwrap();
    assert!(!rings(&guest, &child, GPA, &[1]));
    assert_eq!(create(&guest, 1), HvStatus::Success);
}

#[test]
fn child_when_it_is_dropped_is_an_invalid_partition_and_its_id_is_free() {
    let (guest, child) = parent();
    let again = guest.manager.add_child(PartitionId::new(CHILD));
    assert!(matches!(again, Err(crate::Error::ChildExists(_))));
    drop(child);
    assert_eq!(create(&guest, 1), HvStatus::InvalidPartitionId);
    let again = guest.manager.add_child(PartitionId::new(CHILD));
    assert_eq!(again.unwrap().doorbells(), 0);
}

#[test]
fn port_calls_in_a_form_that_cannot_be_are_refused() {
    let (guest, _child) = parent();
    for (what, bits) in BAD_SIMPLE_CONTROLS {
        let called = guest.call(u64::from(CREATE_PORT) | bits, INPUT);
        assert_eq!(called, answer(HvStatus::InvalidHypercallInput), "{what}");
    }
    let fast = guest.call(u64::from(CREATE_PORT) | FAST, INPUT);
    assert_eq!(fast, answer(HvStatus::InvalidHypercallInput));
    for block in [INPUT + 4, INPUT + 0xFD0, RAM_END] {
        let called = guest.call(CREATE_PORT.into(), block);
        assert_eq!(called, answer(HvStatus::InvalidAlignment), "{block:#x}");
    }
}
