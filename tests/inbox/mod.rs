// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! A VP that takes messages, and messages that can be told apart.

use std::ops::RangeInclusive;
use std::sync::Arc;
use vm_memory::GuestMemoryMmap;
use vm_synic::test_utils::{MockGuest, MockVm};
use vm_synic::{
    Config, Message, MessageCounters, MessageType, PostError, Posted, SintAddr, SintIndex, VpIndex,
};

pub const VP: VpIndex = VpIndex::new(0);
pub const SINT: SintIndex = SintIndex::VMBUS;
pub const ADDR: SintAddr = SintAddr::new(VP, SINT);
pub const DEPTH: u16 = 4;

pub type Memory = Arc<GuestMemoryMmap<()>>;

/// A VP that takes messages on SINT2.
pub fn up() -> (MockVm, MockGuest<Memory>) {
    let config = Config {
        queue_depth: DEPTH,
        ..Config::new(1)
    };
    let vm = MockVm::new(config, 1);
    let mut guest = vm.guest(VP);
    guest.enable_all();
    guest.unmask(SINT, 0xF3);
    vm.host.take_calls();
    (vm, guest)
}

pub fn message(body: u8) -> Message {
    Message::new(MessageType::VMBUS, &[body]).unwrap()
}

pub fn post(vm: &MockVm, body: u8) -> Result<Posted, PostError> {
    vm.manager.post_message(ADDR, &message(body))
}

pub fn post_all(vm: &MockVm, bodies: RangeInclusive<u8>) {
    for body in bodies {
        post(vm, body).unwrap();
    }
}

pub fn bodies(messages: &[Message]) -> Vec<u8> {
    messages.iter().map(|m| m.payload()[0]).collect()
}

pub fn counters(vm: &MockVm, sint: SintIndex) -> MessageCounters {
    let counters = vm.manager.snapshot().vps[0].plain.counters(sint).messages;
    assert!(counters.balances(), "{counters:?}");
    counters
}
