// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! Every call in every form, and the status of every refusal.

mod ports;
mod post;
mod registers;
mod signal;

use super::*;
use crate::config::Config;
use crate::host::{Host, SintInterrupt};
use crate::{ConnectionId, PortHandle, PortId, PortSpec, Registration, SintAddr};
use std::sync::Arc;
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};

type Ram = Arc<GuestMemoryMmap<()>>;

struct Quiet;

impl Host for Quiet {
    fn assert_sint(&self, _interrupt: SintInterrupt) -> std::io::Result<()> {
        Ok(())
    }
}

/// A guest with VP 0, whose pages are on and whose SINT2 and SINT5 are unmasked.
struct Guest {
    manager: Arc<SynicManager<Ram>>,
    ram: Ram,
}

impl Guest {
    fn new(config: Config) -> Self {
        let memory = GuestMemoryMmap::from_ranges(&[(GuestAddress(0), RAM_END as usize)]);
        let ram = Arc::new(memory.unwrap());
        let manager = SynicManager::new(config, ram.clone(), Arc::new(Quiet));
        manager.add_vp(VP).unwrap();
        for (msr, value) in [
            (0x4000_0083, SIMP | 1),
            (0x4000_0082, SIEFP | 1),
            (0x4000_0085, SIRBP | 1),
            (0x4000_0092, 0xF3),
            (0x4000_0095, 0xF5),
            (0x4000_0080, 1),
        ] {
            manager.write_msr(VP, msr, value).unwrap();
        }
        Self { manager, ram }
    }

    fn port(&self, connection: u32, spec: PortSpec) -> (PortHandle, Registration) {
        let id = PortId::new(PORT).unwrap();
        let port = self.manager.create_port(id, spec).unwrap();
        let connection = ConnectionId::new(connection).unwrap();
        let registration = self.manager.connect(connection, &port).unwrap();
        (port, registration)
    }

    fn write(&self, gpa: u64, bytes: &[u8]) {
        self.ram.write_slice(bytes, GuestAddress(gpa)).unwrap();
    }

    fn read_u32(&self, gpa: u64) -> u32 {
        self.ram.read_obj(GuestAddress(gpa)).unwrap()
    }

    fn call(&self, control: u64, input: u64) -> Option<u64> {
        let output = OUTPUT;
        let input = HypercallInput {
            control,
            input,
            output,
        };
        self.manager.hypercall(VP, input)
    }
}

fn answer(status: HvStatus) -> Option<u64> {
    Some(status.into())
}

/// What is wrong with the control word of a call that repeats nothing, as bits to set in it.
const BAD_SIMPLE_CONTROLS: [(&str, u64); 8] = [
    ("variable header", 1 << 17),
    ("reserved bit 27", 1 << 27),
    ("reserved bit 30", 1 << 30),
    ("to the hypervisor below, where there is none", 1 << 31),
    ("rep count", 1 << 32),
    ("reserved bit 44", 1 << 44),
    ("rep start", 1 << 48),
    ("reserved bit 63", 1 << 63),
];

const FAST: u64 = 1 << 16;
const NESTED: u64 = 1 << 31;
const VP: VpIndex = VpIndex::new(0);
const PORT: u32 = 0x77;
const SIMP: u64 = 0x8000;
const SIEFP: u64 = 0x9000;
const SIRBP: u64 = 0xA000;
const INPUT: u64 = 0x1000;
const OUTPUT: u64 = 0x3000;
const RAM_END: u64 = 0x1_0000;

#[test]
fn call_that_is_not_the_synics_is_left_to_the_vmm() {
    let guest = Guest::new(Config::new(1));
    for code in [0, 0x0002, 0x0058, 0x005B, 0x0094, 0xFFFF] {
        assert_eq!(guest.call(code, INPUT), None, "{code:#x}");
    }
}

/// Rings `count` ports on SINT5, one more than fit for each above 63.
fn ring_ports(guest: &Guest, count: u32) {
    for port in 1..=count {
        let target = crate::DoorbellTarget::Vp(VP);
        let port = PortId::new(port).unwrap();
        let rung = guest
            .manager
            .ring_doorbell(target, SintIndex::DOORBELL, port);
        rung.unwrap();
    }
}

/// The entries of SINT5's ring.
fn ring(guest: &Guest) -> Vec<u32> {
    let first = SIRBP + 5 * 256 + 4;
    let entries = (0..63).map(|i| guest.read_u32(first + i * 4));
    entries.collect()
}

#[test]
fn ring_empty_after_the_guest_drained_moves_held_ports_in_whatever_the_form() {
    for form in [FAST, 0] {
        let guest = Guest::new(Config::new(1));
        ring_ports(&guest, 65);
        assert_eq!(ring(&guest), Vec::from_iter(1..=63));
        guest.write(SIRBP + 5 * 256 + 4, &[0; 63 * 4]);
        guest.write(INPUT, &5u64.to_le_bytes());

        let input = if form == FAST { 5 } else { INPUT };
        let called = guest.call(u64::from(NOTIFY_PORT_RING_EMPTY) | form, input);

        assert_eq!(called, answer(HvStatus::Success));
        assert_eq!(ring(&guest)[..3], [64, 65, 0]);
    }
}

#[test]
fn ring_empty_of_no_sint_is_an_invalid_parameter() {
    let guest = Guest::new(Config::new(1));
    for value in [16, 0x1_0000_0005, u64::MAX] {
        let called = guest.call(u64::from(NOTIFY_PORT_RING_EMPTY) | FAST, value);
        assert_eq!(called, answer(HvStatus::InvalidParameter), "{value:#x}");
    }
}

#[test]
fn ring_empty_with_a_bad_control_word_or_block_is_refused() {
    let guest = Guest::new(Config::new(1));
    let code = u64::from(NOTIFY_PORT_RING_EMPTY);
    for (what, bits) in BAD_SIMPLE_CONTROLS {
        let called = guest.call(code | FAST | bits, 5);
        assert_eq!(called, answer(HvStatus::InvalidHypercallInput), "{what}");
    }
    for block in [INPUT + 4, RAM_END, u64::MAX - 7] {
        let called = guest.call(code, block);
        assert_eq!(called, answer(HvStatus::InvalidAlignment), "{block:#x}");
    }
}
