// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! Doorbells: from a guest's write to an eventfd, or to a port id in an event ring, none lost.

use std::sync::Arc;
use vm_memory::GuestMemoryMmap;
use vm_synic::abi::Register;
use vm_synic::ownership::Owner::{Mshv, VmBus};
use vm_synic::test_utils::{MockGuest, MockVm};
use vm_synic::{
    Bank, Config, DoorbellSink, DoorbellSize, DoorbellSpec, DoorbellTarget, Message, MessageType,
    PortId, RegisterId, Registration, RingError, Role, SintAddr, SintIndex, VpIndex,
};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

const VP: VpIndex = VpIndex::new(0);
const SINT0: SintIndex = SintIndex::INTERCEPT;
const SINT5: SintIndex = SintIndex::DOORBELL;
const GPA: u64 = 0xFE00_0000;

type Guest = MockGuest<Arc<GuestMemoryMmap<()>>>;

fn l1vh_config() -> Config {
    Config {
        role: Role::L1vh,
        ..Config::new(3)
    }
}

/// An L1VH's VP with both of Linux's drivers up.
fn l1vh() -> (MockVm, Guest) {
    let vm = MockVm::new(l1vh_config(), 1);
    let guest = load(&vm, VP);
    vm.host.take_calls();
    (vm, guest)
}

fn load(vm: &MockVm, vp: VpIndex) -> Guest {
    let mut guest = vm.guest(vp);
    guest.load(VmBus).unwrap();
    guest.load(Mshv).unwrap();
    guest
}

/// What Linux's handler does on an interrupt: takes the notice and drains the ring.
fn interrupt_handler(guest: &mut Guest) -> Vec<u32> {
    assert_eq!(guest.take_message(SINT0), Some(notice()));
    guest.drain_ring(SINT5)
}

fn notice() -> Message {
    Message::new(MessageType::new(0x8000_0061).unwrap(), &[5, 0, 0, 0]).unwrap()
}

fn sink(target: DoorbellTarget, port: u32) -> DoorbellSink {
    DoorbellSink::Ring {
        target,
        sint: SINT5,
        port: PortId::new(port).unwrap(),
    }
}

fn fd_doorbell(vm: &MockVm, spec: DoorbellSpec) -> (Arc<EventFd>, Registration) {
    let fd = Arc::new(EventFd::new(EFD_NONBLOCK).unwrap());
    let registration = vm.manager.add_doorbell(spec, DoorbellSink::Fd(fd.clone()));
    (fd, registration.unwrap())
}

#[test]
fn write_to_a_doorbell_of_an_eventfd_signals_it_once_each() {
    let (vm, _guest) = l1vh();
    let (fd, _registration) = fd_doorbell(&vm, DoorbellSpec::at(GPA));
    for _ in 0..3 {
        assert!(vm.manager.mmio_write(GPA, &[1, 2, 3, 4]));
    }
    assert_eq!(fd.read().unwrap(), 3);
    assert!(!vm.manager.mmio_write(GPA + 4, &[1]), "no doorbell there");
    assert!(fd.read().is_err());
}

#[test]
fn doorbell_of_a_size_takes_writes_of_that_size_alone() {
    let sizes = [
        (DoorbellSize::Byte, 1),
        (DoorbellSize::Word, 2),
        (DoorbellSize::Dword, 4),
        (DoorbellSize::Qword, 8),
    ];
    for (size, len) in sizes {
        let (vm, _guest) = l1vh();
        let (_fd, _registration) = fd_doorbell(&vm, DoorbellSpec::at(GPA).size(size));
        for written in [1, 2, 4, 8] {
            let rung = vm.manager.mmio_write(GPA, &[0; 8][..written]);
            assert_eq!(rung, written == len, "{size:?} {written}");
        }
    }
}

#[test]
fn doorbell_of_a_value_takes_that_value_alone_whatever_its_size() {
    let (vm, _guest) = l1vh();
    let (fd, _registration) = fd_doorbell(&vm, DoorbellSpec::at(GPA).value(0x1234));
    assert!(vm.manager.mmio_write(GPA, &[0x34, 0x12]));
    assert!(vm.manager.mmio_write(GPA, &[0x34, 0x12, 0, 0]));
    assert!(!vm.manager.mmio_write(GPA, &[0x34]));
    assert!(!vm.manager.mmio_write(GPA, &[0x34, 0x12, 0, 1]));
    assert!(!vm.manager.mmio_write(GPA, &[]));
    assert_eq!(fd.read().unwrap(), 2);
}

#[test]
fn doorbell_whose_registration_is_dropped_rings_no_more_and_leaves_the_others() {
    let (vm, mut guest) = l1vh();
    let (fd, other) = fd_doorbell(&vm, DoorbellSpec::at(GPA + 8));
    let sink = sink(DoorbellTarget::Vp(VP), 7);
    let registration = vm.manager.add_doorbell(DoorbellSpec::at(GPA), sink);
    assert!(vm.manager.mmio_write(GPA, &[1]));

    drop(registration);

    assert!(!vm.manager.mmio_write(GPA, &[1]));
    assert!(vm.manager.mmio_write(GPA + 8, &[1]));
    assert_eq!(fd.read().unwrap(), 1);
    drop(other);
    assert_eq!(interrupt_handler(&mut guest), [7], "what was rung stays");
}

#[test]
fn doorbell_of_a_ring_enters_its_port_and_a_notice_comes_through_sint0() {
    let (vm, mut guest) = l1vh();
    let sink = sink(DoorbellTarget::Vp(VP), 0xAB_CDEF);
    let _doorbell = vm
        .manager
        .add_doorbell(DoorbellSpec::at(GPA), sink)
        .unwrap();

    assert!(vm.manager.mmio_write(GPA, &[1]));

    let interrupts = vm.host.take_interrupts();
    assert_eq!(interrupts.len(), 1);
    assert_eq!(interrupts[0].addr, SintAddr::new(VP, SINT0));
    assert_eq!(interrupt_handler(&mut guest), [0xAB_CDEF]);
}

#[test]
fn doorbell_for_any_vp_goes_to_one_whose_ring_is_on() {
    let vm = MockVm::new(l1vh_config(), 3);
    let sink = sink(DoorbellTarget::AnyVp, 9);
    let _doorbell = vm
        .manager
        .add_doorbell(DoorbellSpec::at(GPA), sink)
        .unwrap();
    let last = VpIndex::new(2);
    let mut guest = load(&vm, last);
    vm.host.take_calls();

    assert!(vm.manager.mmio_write(GPA, &[1]));

    assert_eq!(vm.host.take_raised(last), SINT0.bit());
    assert_eq!(interrupt_handler(&mut guest), [9]);
}

#[test]
fn doorbell_for_any_vp_is_not_deceived_by_a_ring_of_the_nested_bank() {
    let config = Config {
        nested: true,
        ..l1vh_config()
    };
    let vm = MockVm::new(config, 2);
    let nested_sirbp = RegisterId {
        bank: Bank::Nested,
        register: Register::Sirbp,
    };
    vm.manager.write_register(VP, nested_sirbp, 0x1001).unwrap();
    let mut guest = load(&vm, VpIndex::new(1));
    let port = PortId::new(9).unwrap();
    let rung = vm.manager.ring_doorbell(DoorbellTarget::AnyVp, SINT5, port);
    assert_eq!(rung, Ok(()));
    assert_eq!(interrupt_handler(&mut guest), [9]);
}

#[test]
fn doorbell_for_a_vp_that_is_not_there_is_the_vmms_fault() {
    let vm = MockVm::new(Config::new(1), 0);
    let port = PortId::new(1).unwrap();
    let ring = |target| vm.manager.ring_doorbell(target, SINT5, port);
    let addr = SintAddr::new(VP, SINT5);
    assert_eq!(ring(DoorbellTarget::Vp(VP)), Err(RingError::NoVp(addr)));
    assert_eq!(ring(DoorbellTarget::AnyVp), Err(RingError::NoVpAtAll(port)));
}
