// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! The calls as Linux makes them, and the status of every refusal.

use super::partition::PAGES_TO_INITIALIZE;
use super::*;
use vm_memory::{Bytes, GuestAddress};
use vm_synic::Config;
use vm_synic::test_utils::MockVm;

const INPUT: u64 = 0x1000;
const OUTPUT: u64 = 0x2000;
const FAST: u64 = 1 << 16;
const OWN: u64 = u64::MAX;
const CAPABILITIES: u64 = 0x0009_0007;
const SYNTHETIC_FEATURES: u64 = 0x0001_0001;
/// Beyond the mock's memory.
const NO_RAM: u64 = 0x10_0000;

struct Guest {
    hypervisor: Hypervisor,
    memory: Memory,
}

impl Guest {
    fn new() -> Self {
        // VPs for their memory: pages to deposit.
        let vm = MockVm::new(Config::new(16), 16);
        Self {
            hypervisor: Hypervisor::new(vm.manager.clone(), vm.memory.clone()),
            memory: vm.memory,
        }
    }

    fn call(&self, control: u64, block: &[u64]) -> u64 {
        let bytes: Vec<u8> = block.iter().flat_map(|q| q.to_le_bytes()).collect();
        self.memory
            .write_slice(&bytes, GuestAddress(INPUT))
            .unwrap();
        self.hypervisor.hypercall(HypercallInput {
            control,
            input: INPUT,
            output: OUTPUT,
        })
    }

    fn fast(&self, code: u16, input: u64) -> u64 {
        self.hypervisor.hypercall(HypercallInput {
            control: u64::from(code) | FAST,
            input,
            output: 0,
        })
    }

    fn output(&self, index: u64) -> u64 {
        self.memory
            .read_obj(GuestAddress(OUTPUT + index * 8))
            .unwrap()
    }

    fn create(&self) -> u64 {
        let status = self.call(
            CREATE_PARTITION.into(),
            &[0x8000_0000, 0, 0x50_0001, 0, 0, 0, 0],
        );
        assert_eq!(status, 0);
        self.output(0)
    }

    /// The result value of a deposit of these pages.
    fn deposit(&self, partition: u64, pages: impl IntoIterator<Item = u64>) -> u64 {
        let block: Vec<u64> = [partition].into_iter().chain(pages).collect();
        let reps = block.len() as u64 - 1;
        self.call(u64::from(DEPOSIT_MEMORY) | reps << 32, &block)
    }

    fn withdraw(&self, partition: u64, reps: u64) -> u64 {
        self.call(u64::from(WITHDRAW_MEMORY) | reps << 32, &[partition, 0])
    }
}

fn enough() -> std::ops::Range<u64> {
    0x10..0x10 + PAGES_TO_INITIALIZE as u64
}

fn done(reps: usize, status: HvStatus) -> u64 {
    (reps as u64) << 32 | u64::from(status)
}

fn only(status: HvStatus) -> u64 {
    status.into()
}

#[test]
fn partition_when_it_lives_as_linux_has_it_gives_all_of_its_memory_back() {
    let guest = Guest::new();
    let id = guest.create();
    assert_eq!(guest.hypervisor.partitions(), (1, 1));
    let deposited = guest.deposit(id, enough());
    assert_eq!(deposited, done(PAGES_TO_INITIALIZE, HvStatus::Success));
    assert_eq!(guest.fast(INITIALIZE_PARTITION, id), 0);
    assert_eq!(guest.fast(FINALIZE_PARTITION, id), 0);
    let withdrawn = guest.withdraw(id, 512);
    assert_eq!(withdrawn, done(PAGES_TO_INITIALIZE, HvStatus::NoResources));
    let mut pages: Vec<_> = (0..PAGES_TO_INITIALIZE as u64)
        .map(|i| guest.output(i))
        .collect();
    pages.sort();
    assert_eq!(pages, enough().collect::<Vec<_>>());
    assert_eq!(guest.fast(DELETE_PARTITION, id), 0);
    assert_eq!(guest.hypervisor.partitions(), (0, 1));
    assert_ne!(guest.create(), id, "an id is not used twice");
}

#[test]
fn initialize_without_enough_memory_asks_for_more() {
    let guest = Guest::new();
    let id = guest.create();
    guest.deposit(id, enough().skip(1));
    let status = guest.fast(INITIALIZE_PARTITION, id);
    assert_eq!(status, only(HvStatus::InsufficientMemory));
    guest.deposit(id, [0x10]);
    assert_eq!(guest.fast(INITIALIZE_PARTITION, id), 0);
}

#[test]
fn call_out_of_turn_is_an_invalid_state() {
    let guest = Guest::new();
    let id = guest.create();
    let invalid = only(HvStatus::InvalidPartitionState);
    assert_eq!(guest.fast(FINALIZE_PARTITION, id), invalid);
    guest.deposit(id, enough());
    assert_eq!(guest.fast(DELETE_PARTITION, id), invalid, "it has memory");
    guest.fast(INITIALIZE_PARTITION, id);
    assert_eq!(guest.fast(INITIALIZE_PARTITION, id), invalid);
    assert_eq!(guest.fast(DELETE_PARTITION, id), invalid, "it is active");
    let early = [id, SYNTHETIC_FEATURES, 7];
    assert_eq!(guest.call(SET_PARTITION_PROPERTY.into(), &early), invalid);
}

#[test]
fn withdraw_of_what_an_active_partition_uses_gives_the_rest() {
    let guest = Guest::new();
    let id = guest.create();
    guest.deposit(id, enough().start..enough().end + 3);
    guest.fast(INITIALIZE_PARTITION, id);
    assert_eq!(guest.withdraw(id, 9), done(3, HvStatus::NoResources));
}

#[test]
fn deposit_of_no_ram_or_of_a_page_twice_stops_there() {
    let guest = Guest::new();
    let (one, other) = (guest.create(), guest.create());
    let bad = HvStatus::InvalidParameter;
    assert_eq!(guest.deposit(one, [0x10, NO_RAM, 0x11]), done(1, bad));
    assert_eq!(guest.deposit(one, [u64::MAX]), done(0, bad));
    assert_eq!(guest.deposit(other, [0x10]), done(0, bad));
    assert_eq!(guest.deposit(OWN, [0x10]), done(0, bad));
    assert_eq!(guest.deposit(OWN, [0x11]), done(1, HvStatus::Success));
}

#[test]
fn calls_of_an_unknown_partition_are_refused() {
    let guest = Guest::new();
    let unknown = only(HvStatus::InvalidPartitionId);
    for code in [INITIALIZE_PARTITION, FINALIZE_PARTITION, DELETE_PARTITION] {
        assert_eq!(guest.fast(code, 0x99), unknown, "{code:#x}");
        assert_eq!(guest.fast(code, OWN), unknown, "{code:#x} of its own");
    }
    assert_eq!(guest.deposit(0x99, [0x10]), unknown);
    assert_eq!(guest.withdraw(0x99, 1), unknown);
    for code in [GET_PARTITION_PROPERTY_EX, GET_PARTITION_PROPERTY] {
        assert_eq!(guest.call(code.into(), &[0x99, CAPABILITIES, 0]), unknown);
    }
    let stats = [0x0001_0001, 0x99, 0, 0x10];
    assert_eq!(guest.call(MAP_STATS_PAGE_2.into(), &stats), unknown);
}

#[test]
fn create_beyond_the_limit_has_no_resources_until_one_is_deleted() {
    let guest = Guest::new();
    let first = guest.create();
    for _ in 1..64 {
        guest.create();
    }
    let block = [0; 7];
    let refused = guest.call(CREATE_PARTITION.into(), &block);
    assert_eq!(refused, only(HvStatus::NoResources));
    assert_eq!(guest.fast(DELETE_PARTITION, first), 0);
    assert_eq!(guest.call(CREATE_PARTITION.into(), &block), 0);
}

#[test]
fn create_of_an_isolated_partition_is_refused() {
    let guest = Guest::new();
    let status = guest.call(CREATE_PARTITION.into(), &[0, 0, 0, 0, 0, 0, 1]);
    assert_eq!(status, only(HvStatus::InvalidParameter));
}

#[test]
fn vmm_capabilities_say_that_the_parent_provides_statistics_pages() {
    let guest = Guest::new();
    let status = guest.call(GET_PARTITION_PROPERTY_EX.into(), &[OWN, CAPABILITIES, 0]);
    assert_eq!((status, guest.output(0), guest.output(1)), (0, 1, 2));
}

#[test]
fn property_when_set_reads_back_and_an_unknown_one_is_refused() {
    let guest = Guest::new();
    let id = guest.create();
    let (get, set) = (GET_PARTITION_PROPERTY.into(), SET_PARTITION_PROPERTY.into());
    assert_eq!(guest.call(set, &[id, SYNTHETIC_FEATURES, 7]), 0);
    assert_eq!(guest.call(get, &[id, SYNTHETIC_FEATURES]), 0);
    assert_eq!(guest.output(0), 7);
    let unknown = only(HvStatus::UnknownProperty);
    assert_eq!(guest.call(set, &[id, 0x1234, 7]), unknown);
    assert_eq!(guest.call(get, &[OWN, 0x1234]), unknown);
}

#[test]
fn statistics_page_when_mapped_is_there_once_and_goes_with_its_partition() {
    let guest = Guest::new();
    let id = guest.create();
    let (map, unmap) = (MAP_STATS_PAGE_2.into(), UNMAP_STATS_PAGE.into());
    let own_vp_1 = [0x0001_0002, OWN, 1, 0x10];
    assert_eq!(guest.call(map, &own_vp_1), 0);
    assert_eq!(guest.call(map, &own_vp_1), only(HvStatus::ObjectInUse));
    assert_eq!(guest.call(map, &[0x0001_0001, id, 1 << 56, 0x11]), 0);
    assert_eq!(guest.hypervisor.lock().stats.len(), 2);
    guest.fast(DELETE_PARTITION, id);
    assert_eq!(guest.hypervisor.lock().stats.len(), 1);
    assert_eq!(guest.call(unmap, &own_vp_1[..3]), 0);
    assert_eq!(
        guest.call(unmap, &own_vp_1[..3]),
        only(HvStatus::InvalidParameter)
    );
}

#[test]
fn statistics_of_what_is_not_there_are_refused() {
    let guest = Guest::new();
    let cases = [
        ("hypervisor", [1, OWN, 0, 0x10], HvStatus::InvalidParameter),
        (
            "area 2",
            [0x0001_0001, OWN, 2 << 56, 0x10],
            HvStatus::InvalidParameter,
        ),
        (
            "VP 99",
            [0x0001_0002, OWN, 99, 0x10],
            HvStatus::InvalidVpIndex,
        ),
        (
            "no RAM",
            [0x0001_0001, OWN, 0, NO_RAM],
            HvStatus::InvalidParameter,
        ),
    ];
    for (what, block, expected) in cases {
        let status = guest.call(MAP_STATS_PAGE_2.into(), &block);
        assert_eq!(status, only(expected), "{what}");
    }
}

#[test]
fn intercepts_of_a_partition_are_taken_and_of_none_refused() {
    let guest = Guest::new();
    let id = guest.create();
    let (execute, hypercalls) = (4, 8 << 32);
    let cases = [
        ("hypercalls", id, execute | hypercalls, 0),
        (
            "no such partition",
            id + 1,
            execute,
            only(HvStatus::InvalidPartitionId),
        ),
        (
            "no access",
            id,
            hypercalls,
            only(HvStatus::InvalidParameter),
        ),
        (
            "no such kind",
            id,
            execute | 0x10 << 32,
            only(HvStatus::InvalidParameter),
        ),
    ];
    for (name, partition, what, expected) in cases {
        let block = [partition, what, 0];
        assert_eq!(
            guest.call(INSTALL_INTERCEPT.into(), &block),
            expected,
            "{name}"
        );
    }
}

#[test]
fn message_or_event_for_a_vp_of_a_partition_finds_none() {
    let guest = Guest::new();
    let id = guest.create();
    for code in [POST_MESSAGE_DIRECT, SIGNAL_EVENT_DIRECT] {
        let no_vp = only(HvStatus::InvalidVpIndex);
        assert_eq!(guest.call(code.into(), &[id, 0]), no_vp, "{code:#x}");
        let no_partition = only(HvStatus::InvalidPartitionId);
        assert_eq!(
            guest.call(code.into(), &[id + 1, 0]),
            no_partition,
            "{code:#x}"
        );
    }
}

#[test]
fn call_that_is_nobodys_or_in_a_bad_form_is_refused() {
    let guest = Guest::new();
    let create_vp = 0x004E;
    assert_eq!(
        guest.call(create_vp, &[0; 5]),
        only(HvStatus::InvalidHypercallCode)
    );
    let bad_form = only(HvStatus::InvalidHypercallInput);
    for bits in [1 << 17, 1 << 27, 1 << 31, 1 << 32, 1 << 63] {
        let control = u64::from(CREATE_PARTITION) | bits;
        assert_eq!(guest.call(control, &[0; 7]), bad_form, "{bits:#x}");
    }
    let fast = u64::from(DEPOSIT_MEMORY) | FAST | 1 << 32;
    assert_eq!(guest.call(fast, &[OWN, 0x10]), bad_form);
    assert_eq!(
        guest.call(DEPOSIT_MEMORY.into(), &[OWN]),
        bad_form,
        "no reps"
    );
}

#[test]
fn reset_when_partitions_exist_forgets_them_and_frees_their_children() {
    let guest = Guest::new();
    let id = guest.create();
    guest.hypervisor.reset();
    assert_eq!(guest.hypervisor.partitions(), (0, 1));
    assert!(guest.hypervisor.child(0).is_none());
    assert_eq!(guest.create(), id + 1);
}
