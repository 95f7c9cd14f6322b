// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! Saved states of partitions of /dev/mshv, on a double of it: from one to the next, and to and from a
//! manager that has the SynICs itself.

use std::sync::Arc;

use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};
use vm_synic::abi::{PageRegister, StimerConfig};
use vm_synic::backend::mshv::{self, MshvPartition, SaveError, StatePage, VpCalls};
use vm_synic::ownership::SynicPage;
use vm_synic::state::State;
use vm_synic::test_utils::{MockGuest, MockVm, MshvDouble, RecordingHost, VpDouble};
use vm_synic::{
    Config, DoorbellTarget, Error, EventFlag, Message, MessageType, PortId, Posted, Provider,
    SintAddr, SintIndex, SynicManager, VpIndex,
};

const VP: VpIndex = VpIndex::new(0);
const SINT: SintIndex = SintIndex::VMBUS;
const ADDR: SintAddr = SintAddr::new(VP, SINT);
const SIMP: u8 = 2;
const SIEFP: u8 = 3;
const TIMERS: u8 = 4;

/// A partition, beside the guest memory that its VMM sees.
struct Host {
    double: Arc<MshvDouble>,
    partition: MshvPartition,
    vp: VpDouble,
    manager: Arc<SynicManager<Arc<GuestMemoryMmap>>>,
}

impl Host {
    fn new(memory: &Arc<GuestMemoryMmap>) -> Self {
        let double = MshvDouble::new(1);
        let manager = SynicManager::of_partition(
            config(),
            memory.clone(),
            Arc::new(RecordingHost::default()),
            Arc::new(double.partition()),
        );
        manager.add_vp(VP).unwrap();
        Self {
            partition: double.partition(),
            vp: VpDouble::new(double.clone(), VP),
            double,
            manager,
        }
    }

    fn capture(&self) -> Result<(), SaveError> {
        mshv::capture(&self.manager, &self.partition, VP, &self.vp, NOW)
    }

    fn save(&self) -> State {
        self.manager.pause();
        self.capture().unwrap();
        self.manager.save().unwrap()
    }

    fn restore(&self, state: &State) {
        self.manager.restore(state).unwrap();
        mshv::restore(&self.manager, &self.partition, VP, &self.vp).unwrap();
    }

    fn page(&self, kind: u8) -> StatePage {
        let mut page = StatePage::default();
        self.vp.get_state(kind, &mut page).unwrap();
        page
    }
}

fn config() -> Config {
    Config {
        timers: Some(Provider::Manager),
        ..Config::new(1)
    }
}

/// Guest memory, and a guest kernel of a manager that has the SynIC itself.
fn emulated() -> (MockVm, MockGuest<Arc<GuestMemoryMmap>>) {
    let vm = MockVm::new(config(), 1);
    let mut guest = vm.guest(VP);
    guest.enable_all();
    guest.unmask(SINT, 0xF3);
    (vm, guest)
}

fn message(body: u8) -> Message {
    Message::new(MessageType::VMBUS, &[body]).unwrap()
}

fn timers(words: [u64; 5]) -> StatePage {
    let mut page = StatePage::default();
    page.0[..40].copy_from_slice(words.map(u64::to_le_bytes).as_flattened());
    page
}

/// A VP with a message in its slot, another that waits, a flag that is set, and a timer.
fn busy(host: &Host) -> StatePage {
    let mut guest = host.double.guest(VP);
    guest.enable_all();
    guest.unmask(SINT, 0xF3);
    for (body, posted) in [(1, Posted::Delivered), (2, Posted::Queued)] {
        let done = host.manager.post_message(ADDR, &message(body));
        assert_eq!(done, Ok(posted));
    }
    let flag = EventFlag::new(77).unwrap();
    host.manager.signal_event(ADDR, flag).unwrap();
    let one_shot = u64::from(StimerConfig::to_sint(SINT));
    let timers = timers([0, one_shot, NOW + 500, 0, 0]);
    host.vp.set_state(TIMERS, &timers).unwrap();
    timers
}

#[test]
fn restored_partition_is_as_the_saved_one_was() {
    let (vm, _guest) = emulated();
    let (first, second) = (Host::new(&vm.memory), Host::new(&vm.memory));
    let timers = busy(&first);
    let state = first.save();
    second.restore(&state);
    assert_eq!(
        second.partition.registers(VP),
        first.partition.registers(VP)
    );
    for page in [SIMP, SIEFP] {
        let contents = second.page(page);
        assert!(contents == first.page(page) && contents != StatePage::default());
    }
    assert_eq!(second.page(TIMERS), timers);
    assert_eq!(second.save(), state);

    second.manager.resume();
    second.manager.pre_run(VP);
    assert_eq!(
        second.double.awaited(VP),
        SINT.bit(),
        "the second message waits"
    );
}

#[test]
fn state_goes_from_the_manager_to_a_partition_and_back() {
    let (vm, guest) = emulated();
    vm.manager.post_message(ADDR, &message(1)).unwrap();
    vm.manager.post_message(ADDR, &message(2)).unwrap();
    vm.manager.pause();
    let ours = vm.manager.save().unwrap();

    let host = Host::new(&vm.memory);
    host.restore(&ours);
    let simp = PageRegister::from(ours.vps[0].plain.simp).gpa();
    vm.memory
        .write_slice(&[0; 4096], GuestAddress(simp))
        .unwrap();
    let theirs = host.save();
    assert_eq!(theirs.vps[0].plain.queues, ours.vps[0].plain.queues);

    let back = vm.successor(config());
    back.manager.restore(&theirs).unwrap();
    let guest = guest.under(back.manager.clone());
    back.manager.resume();
    back.manager.pre_run(VP);
    let taken = [guest.take_message(SINT), guest.take_message(SINT)];
    assert_eq!(taken, [Some(message(1)), Some(message(2))]);
}

#[test]
fn timers_that_a_partition_has_are_known_by_when_they_expire() {
    let one_shot = u64::from(StimerConfig::to_sint(SINT));
    let periodic = u64::from(StimerConfig::direct(0xED).with_periodic(true));
    let off = u64::from(StimerConfig::to_sint(SINT).with_enable(false));
    for (words, expiration) in [
        ([0, one_shot, NOW + 500, 0, 0], Some(NOW + 500)),
        ([0, periodic, 10_000, 0, 0], Some(NOW + 10_000)),
        ([0, off, 500, 0, 0], None),
        // Its message waits, so that it is late.
        ([1, off, 500, 0, 500], Some(500)),
    ] {
        let (vm, _guest) = emulated();
        let host = Host::new(&vm.memory);
        host.vp.set_state(TIMERS, &timers(words)).unwrap();
        let state = host.save();
        assert_eq!(state.vps[0].plain.timers[0].expiration, expiration);
        let ours = vm.successor(config());
        ours.manager.restore(&state).unwrap();
    }
}

#[test]
fn restore_of_what_a_partition_cannot_have_is_refused_with_the_reason() {
    let (vm, guest) = emulated();
    guest.unmask(SintIndex::DOORBELL, 0xF5);
    let (target, port) = (DoorbellTarget::Vp(VP), PortId::new(7).unwrap());
    let rung = vm.manager.ring_doorbell(target, SintIndex::DOORBELL, port);
    rung.unwrap();
    vm.manager.pause();
    let with_ring = vm.manager.save().unwrap();
    vm.manager.write_msr(VP, 0x4000_0000, 0x8100).unwrap();
    vm.manager.write_msr(VP, 0x4000_0001, 0x1001).unwrap();
    let with_page = vm.manager.save().unwrap();

    let host = Host::new(&vm.memory);
    for (state, name) in [
        (with_page, "hypercall_page"),
        (with_ring, "vps[0].plain.rings"),
    ] {
        match host.manager.restore(&state) {
            Err(Error::State { field, .. }) => assert_eq!(field, name),
            other => panic!("{name}: {other:?}"),
        }
    }
}

#[test]
fn capture_of_a_page_that_is_nowhere_in_guest_memory_names_it() {
    let (vm, _guest) = emulated();
    let host = Host::new(&vm.memory);
    let mut guest = host.double.guest(VP);
    guest.enable_all();
    // The VMM has less memory than the hypervisor lets the guest name.
    let small = GuestMemoryMmap::from_ranges(&[(GuestAddress(0), 0x1000)]).unwrap();
    let host = Host {
        manager: Host::new(&Arc::new(small)).manager,
        ..host
    };
    match host.capture() {
        Err(SaveError::NoMemory { vp: VP, page, .. }) => assert_eq!(page, SynicPage::Message),
        other => panic!("{other:?}"),
    }
}

const NOW: u64 = 1_000_000;
