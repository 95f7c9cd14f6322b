// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! A guest with synthetic timers.

// Not every test file needs all of it.
#![allow(dead_code)]

use std::sync::Arc;
use vm_memory::GuestMemoryMmap;
use vm_synic::abi::{Register, StimerConfig};
use vm_synic::state::TimerState;
use vm_synic::test_utils::{MockGuest, MockVm};
use vm_synic::{
    Config, Message, MessageCounters, MessageType, Posted, Provider, SintAddr, SintIndex,
    TimerIndex, VpIndex,
};

pub const VP: VpIndex = VpIndex::new(0);
pub const SINT: SintIndex = SintIndex::VMBUS;
pub const DEPTH: u16 = 3;
pub const PERIOD: u64 = 10_000;

pub type Guest = MockGuest<Arc<GuestMemoryMmap<()>>>;

pub fn config_with_timers() -> Config {
    Config {
        timers: Some(Provider::Manager),
        queue_depth: DEPTH,
        ..Config::new(2)
    }
}

/// One VP with everything on and SINT2 unmasked, at time 0, and no call of the host pending.
pub fn up() -> (MockVm, Guest) {
    up_with(config_with_timers())
}

pub fn up_with(config: Config) -> (MockVm, Guest) {
    let vm = MockVm::new(config, 1);
    let mut guest = vm.guest(VP);
    guest.enable_all();
    guest.unmask(SINT, 0xF3);
    vm.host.take_calls();
    (vm, guest)
}

pub fn config_of(index: u8) -> Register {
    Register::TimerConfig(TimerIndex::new(index).unwrap())
}

pub fn count_of(index: u8) -> Register {
    Register::TimerCount(TimerIndex::new(index).unwrap())
}

/// One shot, with messages to `SINT`.
pub fn to_sint() -> StimerConfig {
    StimerConfig::to_sint(SINT)
}

/// Programs a timer as Linux does: COUNT, then CONFIG.
pub fn start(guest: &Guest, index: u8, config: StimerConfig, count: u64) {
    guest.set(count_of(index), count).unwrap();
    guest.set(config_of(index), config.into()).unwrap();
}

/// Programs a timer to 1, and it is 10.
pub fn expire(vm: &MockVm, guest: &Guest, index: u8, config: StimerConfig) {
    vm.host.set_time(10);
    start(guest, index, config, 1);
}

pub fn config(guest: &Guest, index: u8) -> StimerConfig {
    guest.get(config_of(index)).into()
}

/// The VMM's timer runs out at this time.
pub fn due_at(vm: &MockVm, now: u64) {
    vm.host.set_time(now);
    vm.manager.timer_due(VP);
}

pub fn timer(vm: &MockVm, index: u8) -> TimerState {
    let vps = vm.manager.snapshot().vps;
    let timers = vps[0].plain.timers.iter();
    *timers.clone().find(|t| t.index.get() == index).unwrap()
}

pub fn counters(vm: &MockVm) -> MessageCounters {
    vm.manager.snapshot().vps[0].plain.counters(SINT).messages
}

pub fn message(body: u8) -> Message {
    Message::new(MessageType::VMBUS, &[body]).unwrap()
}

pub fn post(vm: &MockVm, body: u8) -> Option<Posted> {
    let addr = SintAddr::new(VP, SINT);
    vm.manager.post_message(addr, &message(body)).ok()
}

/// The message of a timer.
pub fn expired(index: u64, expiration: u64, delivery: u64) -> Message {
    let words = [index, expiration, delivery].map(u64::to_le_bytes);
    Message::new(MessageType::TIMER_EXPIRED, words.as_flattened()).unwrap()
}
