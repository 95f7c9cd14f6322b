// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! The three pages: zeroed when they come, moved with what is on them, and left alone when they go.

use std::sync::Arc;
use std::thread;
use vm_memory::bitmap::AtomicBitmap;
use vm_memory::{GuestAddress, GuestMemoryBackend, GuestMemoryMmap, GuestMemoryRegion, MmapRegion};
use vm_synic::abi::{PageRegister, Register};
use vm_synic::ownership::SynicPage::{self, EventFlags, EventRing, Message as MessagePage};
use vm_synic::test_utils::{MockGuest, MockVm, RecordingHost};
use vm_synic::{
    Config, DoorbellTarget, EventFlag, Message, MessageType, MsrError, PortId, SintAddr, SintIndex,
    SynicManager, VpIndex,
};

const VP: VpIndex = VpIndex::new(0);
const SINT: SintIndex = SintIndex::VMBUS;
const ADDR: SintAddr = SintAddr::new(VP, SINT);
const PAGES: [SynicPage; 3] = [MessagePage, EventFlags, EventRing];
const PAGE: usize = 4096;
const DELIVERIES: u32 = 20_000;

type Memory = Arc<GuestMemoryMmap<()>>;

/// A VP with everything on and one SINT unmasked.
fn up() -> (MockVm, MockGuest<Memory>) {
    let vm = MockVm::new(Config::new(1), 1);
    let mut guest = vm.guest(VP);
    guest.enable_all();
    guest.unmask(SINT, 0xF3);
    (vm, guest)
}

fn message(body: u8) -> Message {
    Message::new(MessageType::VMBUS, &[body]).unwrap()
}

fn post<AS: vm_synic::GuestSpace>(manager: &SynicManager<AS>, body: u8) {
    let _ = manager.post_message(ADDR, &message(body));
}

fn signal<AS: vm_synic::GuestSpace>(manager: &SynicManager<AS>, flag: u16) {
    let _ = manager.signal_event(ADDR, EventFlag::new(flag).unwrap());
}

fn ring<AS: vm_synic::GuestSpace>(manager: &SynicManager<AS>, port: u32) {
    let port = PortId::new(port).unwrap();
    let rung = manager.ring_doorbell(DoorbellTarget::Vp(VP), SINT, port);
    rung.expect("the VP is there");
}

/// One of each; each shows on a page of 0xEE.
fn deliver_all<AS: vm_synic::GuestSpace>(manager: &SynicManager<AS>) {
    post(manager, 1);
    signal(manager, 0);
    ring(manager, 1);
}

#[test]
fn page_that_is_enabled_is_zeroed() {
    for page in PAGES {
        let guest = MockVm::new(Config::new(1), 1).guest(VP);
        guest.write_ram(0x3000, &[0xEE; PAGE]);
        guest.set(page.register(), 0x3001).unwrap();
        assert_eq!(guest.read_ram(0x3000, PAGE), [0; PAGE], "{page}");
    }
}

#[test]
fn page_that_is_enabled_again_where_it_is_keeps_what_is_on_it() {
    for page in PAGES {
        let guest = MockVm::new(Config::new(1), 1).guest(VP);
        guest.set(page.register(), 0x3001).unwrap();
        guest.write_ram(0x3000, &[0xEE; PAGE]);
        guest.set(page.register(), 0x3003).unwrap();
        assert_eq!(guest.read_ram(0x3000, PAGE), [0xEE; PAGE], "{page}");
    }
}

#[test]
fn page_that_is_only_named_is_not_touched() {
    for page in PAGES {
        let guest = MockVm::new(Config::new(1), 1).guest(VP);
        guest.write_ram(0x3000, &[0xEE; PAGE]);
        guest.set(page.register(), 0x3000).unwrap();
        assert_eq!(guest.read_ram(0x3000, PAGE), [0xEE; PAGE], "{page}");
    }
}

#[test]
fn message_page_that_moves_takes_its_messages_along_and_later_ones_go_to_the_new_place() {
    let (vm, guest) = up();
    post(&vm.manager, 1);
    post(&vm.manager, 2);
    guest.set(Register::Simp, 0x3001).unwrap();
    assert_eq!(guest.page(MessagePage), 0x3000);
    assert_eq!(guest.take_messages(SINT), [message(1), message(2)]);
}

#[test]
fn event_flags_page_that_moves_takes_its_flags_along() {
    let (vm, guest) = up();
    for flag in [0, 63, 64, 2047] {
        signal(&vm.manager, flag);
    }
    guest.set(Register::Siefp, 0x3001).unwrap();
    signal(&vm.manager, 5);
    assert_eq!(guest.take_flags(SINT), [0, 5, 63, 64, 2047]);
}

#[test]
fn event_ring_page_that_moves_takes_its_entries_along_from_wherever_the_guest_reads() {
    let (vm, mut guest) = up();
    (1..=40).for_each(|port| ring(&vm.manager, port));
    let mut seen: Vec<_> = (0..30).filter_map(|_| guest.next_port(SINT)).collect();
    (41..=80).for_each(|port| ring(&vm.manager, port));

    guest.set(Register::Sirbp, 0x3001).unwrap();
    ring(&vm.manager, 81);

    seen.extend(guest.drain_ring(SINT));
    assert_eq!(seen, (1..=81).collect::<Vec<_>>());
}

#[test]
fn page_that_has_moved_leaves_its_old_place_alone() {
    for page in PAGES {
        let (vm, guest) = up();
        let old = guest.page(page);
        guest.set(page.register(), 0x3001).unwrap();
        guest.write_ram(old, &[0xEE; PAGE]);
        deliver_all(&vm.manager);
        assert_eq!(guest.read_ram(old, PAGE), [0xEE; PAGE], "{page}");
    }
}

#[test]
fn page_outside_ram_faults_and_the_old_one_stays_in_use() {
    let beyond = MockVm::FREE + MockVm::HEAP;
    for gpa in [beyond, 1 << 40, !0xFFF] {
        for page in PAGES {
            let (vm, mut guest) = up();
            let before = guest.get(page.register());

            let written = guest.set(page.register(), PageRegister::at(gpa).into());

            assert_eq!(written, Err(MsrError::Fault), "{page} at {gpa:#x}");
            assert_eq!(guest.get(page.register()), before);
            deliver_all(&vm.manager);
            assert_eq!(guest.take_messages(SINT), [message(1)]);
            assert_eq!(guest.take_flags(SINT), [0]);
            assert_eq!(guest.drain_ring(SINT), [1]);
        }
    }
}

#[test]
fn page_outside_ram_may_be_named_while_disabled_but_not_enabled() {
    for page in PAGES {
        let guest = MockVm::new(Config::new(1), 1).guest(VP);
        guest.set(page.register(), !1).unwrap();
        assert_eq!(guest.set(page.register(), !0), Err(MsrError::Fault));
        assert_eq!(guest.get(page.register()), !1, "{page}");
    }
}

#[test]
fn page_across_two_regions_faults() {
    let ranges = [(0, 0x1800), (0x1800, 0x2800)].map(|(at, len)| (GuestAddress(at), len));
    let memory: Memory = Arc::new(GuestMemoryMmap::from_ranges(&ranges).unwrap());
    let host = Arc::new(RecordingHost::default());
    let manager = SynicManager::new(Config::new(1), memory.clone(), host);
    manager.add_vp(VP).unwrap();
    let guest = MockGuest::new(manager, memory, VP, 0x3000..0x4000);
    for page in PAGES {
        let refused = guest.set(page.register(), 0x1001);
        assert_eq!(refused, Err(MsrError::Fault), "{page}");
        assert_eq!(guest.set(page.register(), 0x2001), Ok(()), "{page}");
    }
}

#[test]
fn page_that_is_disabled_is_left_alone() {
    for page in PAGES {
        let (vm, guest) = up();
        let gpa = guest.page(page);
        deliver_all(&vm.manager);
        guest.disable(page);
        guest.write_ram(gpa, &[0xEE; PAGE]);
        deliver_all(&vm.manager);
        guest.end_of_message();
        assert_eq!(guest.read_ram(gpa, PAGE), [0xEE; PAGE], "{page}");
    }
}

#[test]
fn pages_of_a_vp_that_is_unplugged_or_reset_are_left_alone() {
    for unplug in [true, false] {
        let (vm, guest) = up();
        deliver_all(&vm.manager);
        let pages = PAGES.map(|page| guest.page(page));
        if unplug {
            vm.manager.remove_vp(VP).unwrap();
            vm.manager.add_vp(VP).unwrap();
        } else {
            vm.manager.reset_vp(VP).unwrap();
        }
        for gpa in pages {
            guest.write_ram(gpa, &[0xEE; PAGE]);
        }
        deliver_all(&vm.manager);
        for gpa in pages {
            assert_eq!(guest.read_ram(gpa, PAGE), [0xEE; PAGE]);
        }
    }
}

/// The guest takes its pages back again and again while three threads deliver. What it writes to
/// a page that it has taken back must still be there a round later.
#[test]
fn page_given_back_while_others_deliver_is_never_written_again() {
    let (vm, guest) = up();
    let manager = &vm.manager;
    let places = [PAGES.map(|page| guest.page(page)), [0x3000, 0x4000, 0x5000]];
    thread::scope(|scope| {
        let deliverers = [
            scope.spawn(|| (0..DELIVERIES).for_each(|i| post(manager, i as u8))),
            scope.spawn(|| (0..DELIVERIES).for_each(|i| signal(manager, i as u16 % 2048))),
            scope.spawn(|| (0..DELIVERIES).for_each(|i| ring(manager, i % 100 + 1))),
        ];
        for [from, to] in [[0, 1], [1, 0]].into_iter().cycle() {
            for (page, gpa) in PAGES.iter().zip(places[to]) {
                guest.set(page.register(), gpa | 1).unwrap();
            }
            for gpa in places[from] {
                guest.write_ram(gpa, &[0xEE; PAGE]);
            }
            guest.take_message(SINT);
            let untouched = |gpa| guest.read_ram(gpa, PAGE) == [0xEE; PAGE];
            assert!(places[from].into_iter().all(untouched));
            if deliverers.iter().all(|thread| thread.is_finished()) {
                break;
            }
        }
    });
}

/// Whether each page of guest memory is dirty; none is afterwards.
fn take_dirty(memory: &GuestMemoryMmap<AtomicBitmap>) -> Vec<u64> {
    let region = memory.iter().next().unwrap();
    let words = MmapRegion::bitmap(region).get_and_reset();
    let is_dirty = |page: &u64| words[(page / 64) as usize] >> (page % 64) & 1 != 0;
    let pages = 0..region.len() / PAGE as u64;
    pages
        .filter(is_dirty)
        .map(|page| page * PAGE as u64)
        .collect()
}

#[test]
fn pages_that_are_written_are_marked_dirty_and_no_others() {
    let vm = MockVm::<AtomicBitmap>::with_bitmap(Config::new(1), 1);
    let mut guest = vm.guest(VP);
    guest.enable_all();
    guest.unmask(SINT, 0xF3);
    let [simp, siefp, sirbp] = PAGES.map(|page| guest.page(page));
    assert_eq!(take_dirty(&vm.memory), [simp, siefp, sirbp], "zeroed");

    post(&vm.manager, 1);
    assert_eq!(take_dirty(&vm.memory), [simp], "a message");
    post(&vm.manager, 2);
    assert_eq!(take_dirty(&vm.memory), [simp], "the pending bit");
    signal(&vm.manager, 7);
    assert_eq!(take_dirty(&vm.memory), [siefp], "a flag");
    ring(&vm.manager, 7);
    assert_eq!(take_dirty(&vm.memory), [sirbp], "a ring entry");
    guest.clear_slot(SINT);
    take_dirty(&vm.memory);
    guest.end_of_message();
    assert_eq!(take_dirty(&vm.memory), [simp], "a message after EOM");
    guest.set(Register::Siefp, 0x3001).unwrap();
    assert_eq!(take_dirty(&vm.memory), [0x3000], "a page that moved");
}

#[test]
fn delivery_that_is_refused_marks_nothing_dirty() {
    let vm = MockVm::<AtomicBitmap>::with_bitmap(Config::new(1), 1);
    let mut guest = vm.guest(VP);
    guest.enable_all();
    take_dirty(&vm.memory);
    post(&vm.manager, 1);
    signal(&vm.manager, 1);
    assert_eq!(take_dirty(&vm.memory), [0u64; 0]);
}
