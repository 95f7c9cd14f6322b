// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! Ports of a guest that is a parent, and their connections, through save and restore.

use vm_synic::state::{GuestConnectionState, State};
use vm_synic::test_utils::MockVm;
use vm_synic::{Child, Config, DoorbellSpec, Error, PartitionId, PortId, VpIndex};

const VP: VpIndex = VpIndex::new(0);
const CHILD: PartitionId = PartitionId::new(0x11);
const GPA: u64 = 0xF000_0000;
const PORTS: u32 = 4;
const OWN: u64 = u64::MAX;
const CREATE_PORT: u64 = 0x95;
const CONNECT_PORT: u64 = 0x96;
const DELETE_PORT: u64 = 0x1_0058;
const DISCONNECT_PORT: u64 = 0x1_005B;

fn config() -> Config {
    Config {
        guest_ports: PORTS,
        ..Config::new(1)
    }
}

/// A parent with a child, to which ports 1 and 2 are connected.
fn parent() -> (MockVm, Child) {
    let vm = MockVm::new(config(), 1);
    let child = vm.manager.add_child(CHILD).unwrap();
    for id in [1, 2] {
        let any_vp = 5 | 0xFFFF_FFFF << 32;
        call(&vm, CREATE_PORT, &[OWN, id, CHILD.get(), 4, any_vp, 0, 0]);
        let any_value = 1 << 31;
        let gpa = GPA + id * 0x1000;
        call(
            &vm,
            CONNECT_PORT,
            &[CHILD.get(), id, OWN, id, 4, gpa, 0, any_value, 0],
        );
    }
    (vm, child)
}

fn call(vm: &MockVm, code: u64, block: &[u64]) {
    assert_eq!(status(vm, code, block), 0, "{code:#x} {block:x?}");
}

fn status(vm: &MockVm, code: u64, block: &[u64]) -> u64 {
    let guest = vm.guest(VP);
    for (gpa, qword) in (0x1000..).step_by(8).zip(block) {
        guest.write_ram(gpa, &qword.to_le_bytes());
    }
    guest.hypercall(code, 0x1000, 0).unwrap()
}

fn fast(vm: &MockVm, code: u64, [input, output]: [u64; 2]) -> u64 {
    vm.guest(VP).hypercall(code, input, output).unwrap()
}

fn save(vm: &MockVm) -> State {
    vm.manager.pause();
    vm.manager.save().unwrap()
}

/// The same in another manager, which runs.
fn restored(vm: &MockVm, state: &State) -> MockVm {
    let next = vm.successor(config());
    next.manager.restore(state).unwrap();
    next.manager.resume();
    next
}

fn rings(vm: &MockVm, child: &Child, id: u64) -> bool {
    child.mmio_write(&vm.manager, GPA + id * 0x1000, &[1])
}

#[test]
fn restore_when_the_child_comes_later_has_its_doorbells_connected() {
    let (vm, _child) = parent();
    let next = restored(&vm, &save(&vm));
    let child = next.manager.add_child(CHILD).unwrap();
    assert_eq!(child.doorbells(), 2);
    assert!(rings(&next, &child, 1) && rings(&next, &child, 2));
    assert!(!rings(&next, &child, 3));
}

#[test]
fn restore_when_the_child_is_there_replaces_its_doorbells() {
    let (vm, _child) = parent();
    let state = save(&vm);
    let (next, child) = parent();
    assert_eq!(fast(&next, DISCONNECT_PORT, [CHILD.get(), 1 | 1 << 32]), 0);
    next.manager.restore(&state).unwrap();
    next.manager.resume();
    assert_eq!(child.doorbells(), 2);
    assert!(rings(&next, &child, 1));
}

#[test]
fn restored_ports_are_deleted_and_disconnected_as_before() {
    let (vm, _child) = parent();
    let next = restored(&vm, &save(&vm));
    let child = next.manager.add_child(CHILD).unwrap();
    assert_eq!(fast(&next, DELETE_PORT, [OWN, 1]), 0);
    assert!(!rings(&next, &child, 1));
    assert_eq!(fast(&next, DISCONNECT_PORT, [CHILD.get(), 2 | 1 << 32]), 0);
    assert!(!rings(&next, &child, 2));
    // Its id is taken still.
    let create = [OWN, 2, CHILD.get(), 4, 5 | 0xFFFF_FFFF << 32, 0, 0];
    assert_eq!(status(&next, CREATE_PORT, &create), 0x11);
}

#[test]
fn restored_connection_whose_port_is_deleted_rings_nothing_even_under_its_id() {
    let (vm, _child) = parent();
    assert_eq!(fast(&vm, DELETE_PORT, [OWN, 1]), 0);
    call(
        &vm,
        CREATE_PORT,
        &[OWN, 1, CHILD.get(), 4, 5 | 0xFFFF_FFFF << 32, 0, 0],
    );
    let next = restored(&vm, &save(&vm));
    let child = next.manager.add_child(CHILD).unwrap();
    assert_eq!(child.doorbells(), 2);
    assert!(!rings(&next, &child, 1));
}

#[test]
fn restore_and_save_give_the_same_with_and_without_the_child() {
    let (vm, _child) = parent();
    let state = save(&vm);
    assert_eq!(
        (state.guest_ports.len(), state.guest_connections.len()),
        (2, 2)
    );
    let json = serde_json::to_string(&state).unwrap();
    let next = restored(&vm, &serde_json::from_str(&json).unwrap());
    assert_eq!(save(&next), state);
    let _child = next.manager.add_child(CHILD).unwrap();
    assert_eq!(save(&next), state);
}

#[test]
fn reset_forgets_what_was_restored_for_children_to_come() {
    let (vm, _child) = parent();
    let next = restored(&vm, &save(&vm));
    next.manager.reset();
    assert_eq!(next.manager.add_child(CHILD).unwrap().doorbells(), 0);
}

#[test]
fn restore_of_ports_that_cannot_be_names_the_field() {
    let (vm, _child) = parent();
    let good = save(&vm);
    let changed = |change: &dyn Fn(&mut State)| {
        let mut state = good.clone();
        change(&mut state);
        let next = vm.successor(config());
        match next.manager.restore(&state) {
            Err(Error::State { field, .. }) => {
                assert_eq!(save(&next).guest_ports, []);
                field
            }
            other => panic!("{other:?}"),
        }
    };
    let many = |state: &mut State| state.guest_ports = vec![state.guest_ports[0]; 5];
    assert_eq!(changed(&many), "guest_ports");
    let twice = |state: &mut State| state.guest_ports[1] = state.guest_ports[0];
    assert_eq!(changed(&twice), "guest_ports[1]");
    let no_vp = |state: &mut State| state.guest_ports[1].vp = Some(VpIndex::new(7));
    assert_eq!(changed(&no_vp), "guest_ports[1]");
    let no_port = |state: &mut State| state.guest_connections[1].port = PortId::new(9).unwrap();
    assert_eq!(changed(&no_port), "guest_connections[1]");
    let another = |state: &mut State| state.guest_ports[0].child = PartitionId::new(1);
    assert_eq!(changed(&another), "guest_connections[0]");
    let again = |state: &mut State| state.guest_connections[1] = state.guest_connections[0];
    assert_eq!(changed(&again), "guest_connections[1]");
    let far = |state: &mut State| state.guest_connections[0].spec.gpa = 1 << 60;
    assert_eq!(changed(&far), "guest_connections[0]");
    let endless = |state: &mut State| {
        let first = state.guest_connections[0];
        let more = (10..20).map(|id| GuestConnectionState {
            id: vm_synic::ConnectionId::new(id).unwrap(),
            spec: DoorbellSpec::at(u64::from(id) * 8),
            ..first
        });
        state.guest_connections.extend(more);
    };
    assert_eq!(changed(&endless), "guest_connections[4]");
}
