// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! The manager holds no lock while it calls the VMM.

use std::io;
use std::sync::{Arc, OnceLock, Weak};
use vm_memory::GuestMemoryMmap;
use vm_synic::test_utils::MockVm;
use vm_synic::{
    Config, Host, Message, MessageType, Provider, SintAddr, SintIndex, SintInterrupt, SynicManager,
    VpIndex,
};

const VP: VpIndex = VpIndex::new(0);
const OTHER: VpIndex = VpIndex::new(1);
const STIMER0_CONFIG: u32 = 0x4000_00B0;
const SINT: SintIndex = SintIndex::VMBUS;

type Memory = Arc<GuestMemoryMmap<()>>;

/// A host that calls back into the manager from everything it is called for.
#[derive(Default)]
struct Nosy(OnceLock<Weak<SynicManager<Memory>>>);

impl Nosy {
    fn meddle(&self) {
        if let Some(manager) = self.0.get().and_then(Weak::upgrade) {
            drop(manager.snapshot());
            let _ = manager.add_vp(OTHER);
        }
    }
}

impl Host for Nosy {
    fn assert_sint(&self, _interrupt: SintInterrupt) -> io::Result<()> {
        self.meddle();
        Ok(())
    }

    fn route(&self, _addr: SintAddr, _vector: Option<u8>) -> io::Result<()> {
        self.meddle();
        Ok(())
    }

    fn assert_vector(&self, vp: VpIndex, _vector: u8) -> io::Result<()> {
        self.meddle();
        if let Some(manager) = self.0.get().and_then(Weak::upgrade) {
            manager.timer_due(vp);
        }
        Ok(())
    }

    fn reference_time(&self) -> u64 {
        self.meddle();
        10
    }

    fn set_timer(&self, _vp: VpIndex, _deadline: Option<u64>) {
        self.meddle();
    }

    fn kick(&self, _vp: VpIndex) {
        self.meddle();
    }

    fn writable(&self, _addr: SintAddr) {
        self.meddle();
    }
}

#[test]
fn host_may_call_the_manager_from_every_call() {
    let vm = MockVm::new(Config::new(2), 1);
    let host = Arc::new(Nosy::default());
    let config = Config {
        queue_depth: 0,
        timers: Some(Provider::Manager),
        ..Config::new(2)
    };
    let manager = SynicManager::new(config, vm.memory.clone(), host.clone());
    manager.add_vp(VP).unwrap();
    let mut guest = vm.guest(VP).under(manager.clone());
    guest.enable_all();
    assert!(host.0.set(Arc::downgrade(&manager)).is_ok());

    let addr = SintAddr::new(VP, SINT);
    let message = Message::new(MessageType::VMBUS, b"hello").unwrap();

    // Each of these waits for ever if the manager holds a lock that the host's call needs.
    guest.unmask(SINT, 0xF3);
    while manager.post_message(addr, &message).is_ok() {}
    for (timer, config) in [(0u32, 0x2_0003), (1, 0x1ED3), (2, 0x1ED1)] {
        guest.wrmsr(STIMER0_CONFIG + 1 + 2 * timer, 1).unwrap();
        guest.wrmsr(STIMER0_CONFIG + 2 * timer, config).unwrap();
    }
    manager.reset_vp(VP).unwrap();
    manager.reset();
    manager.remove_vp(VP).unwrap();
    manager.pause();
    let state = manager.save().unwrap();
    manager.restore(&state).unwrap();
    manager.resume();
}
