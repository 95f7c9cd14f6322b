// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! The VMM replaces the memory map under the pages that the guest uses.

use std::sync::Arc;
use vm_memory::{GuestAddress, GuestAddressSpace, GuestMemoryAtomic, GuestMemoryMmap};
use vm_synic::test_utils::{MockGuest, RecordingHost};
use vm_synic::{
    Config, DoorbellTarget, EventFlag, Message, MessageType, NotReady, PortId, PostError, Posted,
    SintAddr, SintIndex, SynicManager, VpIndex,
};

const VP: VpIndex = VpIndex::new(0);
const SINT: SintIndex = SintIndex::VMBUS;
const ADDR: SintAddr = SintAddr::new(VP, SINT);
/// Where the guest's pages are.
const HEAP: u64 = 0x1_0000;

type Ram = GuestMemoryMmap<()>;
type Space = GuestMemoryAtomic<Ram>;

fn ram(ranges: &[(u64, usize)]) -> Ram {
    let ranges = ranges.iter().map(|(gpa, len)| (GuestAddress(*gpa), *len));
    Ram::from_ranges(&ranges.collect::<Vec<_>>()).unwrap()
}

/// RAM with the guest's pages, and without.
fn whole() -> Ram {
    ram(&[(0, 0x2_0000)])
}

fn lacking() -> Ram {
    ram(&[(0, 0x1_0000)])
}

struct Vm {
    space: Space,
    manager: Arc<SynicManager<Space>>,
    guest: MockGuest<Space>,
}

impl Vm {
    fn new() -> Self {
        let space = Space::new(whole());
        let host = Arc::new(RecordingHost::default());
        let manager = SynicManager::new(Config::new(1), space.clone(), host);
        manager.add_vp(VP).unwrap();
        let heap = HEAP..HEAP + 0x1_0000;
        let mut guest = MockGuest::new(manager.clone(), space.clone(), VP, heap);
        guest.enable_all();
        guest.unmask(SINT, 0xF3);
        Self {
            space,
            manager,
            guest,
        }
    }

    fn replace_map(&self, map: Ram) {
        self.manager.pause();
        self.space.lock().unwrap().replace(map);
        self.manager.memory_changed();
        self.manager.resume();
        self.manager.pre_run(VP);
    }

    fn post(&self, body: u8) -> Result<Posted, PostError> {
        let message = Message::new(MessageType::VMBUS, &[body]).unwrap();
        self.manager.post_message(ADDR, &message)
    }

    fn signal(&self) -> bool {
        let flag = EventFlag::new(7).unwrap();
        self.manager.signal_event(ADDR, flag).is_ok()
    }

    fn ring(&self, port: u32) {
        let port = PortId::new(port).unwrap();
        let target = DoorbellTarget::Vp(VP);
        self.manager.ring_doorbell(target, SINT, port).unwrap();
    }
}

#[test]
fn map_with_other_memory_behind_the_pages_is_where_deliveries_go() {
    let mut vm = Vm::new();
    let old = vm.space.memory();
    vm.replace_map(whole());

    assert_eq!(vm.post(1), Ok(Posted::Delivered));
    assert!(vm.signal());
    vm.ring(3);

    assert_eq!(vm.guest.take_message(SINT).unwrap().payload(), [1]);
    assert_eq!(vm.guest.take_flags(SINT), [7]);
    assert_eq!(vm.guest.drain_ring(SINT), [3]);
    let mut bytes = vec![0; 0x1_0000];
    vm_memory::Bytes::read_slice(&*old, &mut bytes, GuestAddress(HEAP)).unwrap();
    assert!(
        bytes.iter().all(|byte| *byte == 0),
        "the old memory is left alone"
    );
}

#[test]
fn map_without_the_pages_has_them_off_until_they_are_back() {
    let mut vm = Vm::new();
    vm.replace_map(lacking());
    let cause = NotReady::PageOff;
    assert_eq!(vm.post(1), Err(PostError::NotReady { addr: ADDR, cause }));
    assert!(!vm.signal());
    vm.ring(3);

    vm.replace_map(whole());

    assert_eq!(vm.post(2), Ok(Posted::Delivered));
    assert!(vm.signal());
    assert_eq!(vm.guest.take_message(SINT).unwrap().payload(), [2]);
    assert_eq!(vm.guest.take_flags(SINT), [7]);
    assert_eq!(vm.guest.drain_ring(SINT), [3], "a doorbell waits");
}

#[test]
fn map_that_changes_leaves_a_page_off_that_the_guest_has_off() {
    let vm = Vm::new();
    vm.guest.disable(vm_synic::ownership::SynicPage::Message);
    vm.replace_map(whole());
    let cause = NotReady::PageOff;
    assert_eq!(vm.post(1), Err(PostError::NotReady { addr: ADDR, cause }));
}
