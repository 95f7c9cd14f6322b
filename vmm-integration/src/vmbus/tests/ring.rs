// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! A ring from the guest's side (Linux `ring_buffer.c`), and the rings of the bus against it.

use super::driver::{Bench, Kernel};
use crate::vmbus::report::Mistake;
use crate::vmbus::ring::{Incoming, Outgoing, Released, Written};
use vm_memory::GuestAddress;

/// A ring in the guest's memory.
pub struct GuestRing {
    header: u64,
    data: Vec<u64>,
}

impl GuestRing {
    /// In these page frames, header first.
    pub fn new(frames: &[u32]) -> Self {
        let mut pages = frames.iter().map(|frame| u64::from(*frame) << 12);
        Self {
            header: pages.next().unwrap(),
            data: pages.collect(),
        }
    }

    pub fn size(&self) -> u32 {
        self.data.len() as u32 * 4096
    }

    pub fn field(&self, guest: &Kernel, offset: u64) -> u32 {
        let bytes = guest.read_ram(self.header + offset, 4);
        u32::from_le_bytes(bytes.try_into().unwrap())
    }

    pub fn set_field(&self, guest: &Kernel, offset: u64, value: u32) {
        guest.write_ram(self.header + offset, &value.to_le_bytes());
    }

    /// Writes a packet; says whether the reader must be signalled. `None`: no room.
    pub fn write(&self, guest: &Kernel, transaction: u64, payload: &[u8]) -> Option<bool> {
        let mut packet = Vec::new();
        let units = 2 + payload.len().div_ceil(8) as u16;
        packet.extend([6, 2, units, 0].map(u16::to_le_bytes).as_flattened());
        packet.extend(transaction.to_le_bytes());
        packet.extend(payload);
        packet.resize(usize::from(units) * 8 + 8, 0);
        if self.room(guest) <= packet.len() as u32 {
            return None;
        }
        self.put(guest, &packet)
    }

    /// Writes bytes as they are, and moves the write index behind them.
    pub fn put(&self, guest: &Kernel, packet: &[u8]) -> Option<bool> {
        let before = self.field(guest, WRITE);
        let mut at = before;
        let mut rest = packet;
        while !rest.is_empty() {
            let (address, room) = self.place(at);
            let (part, later) = rest.split_at(room.min(rest.len()));
            guest.write_ram(address, part);
            at = at.wrapping_add(part.len() as u32) % self.size();
            rest = later;
        }
        self.set_field(guest, WRITE, at);
        Some(self.field(guest, MASK) == 0 && self.field(guest, READ) == before)
    }

    /// Takes a packet: its transaction, its payload, and whether the writer must be signalled.
    pub fn read(&self, guest: &Kernel) -> Option<(u64, Vec<u8>, bool)> {
        let (read, write) = (self.field(guest, READ), self.field(guest, WRITE));
        if read == write {
            return None;
        }
        let descriptor = self.bytes(guest, read, 16);
        let half = |at: usize| u32::from(descriptor[at]) | u32::from(descriptor[at + 1]) << 8;
        let (offset, length) = (half(2) * 8, half(4) * 8);
        let transaction = u64::from_le_bytes(descriptor[8..].try_into().unwrap());
        let payload = self.bytes(guest, read + offset, length - offset);
        let before = self.room(guest);
        self.set_field(guest, READ, (read + length + 8) % self.size());
        let (wanted, after) = (self.field(guest, PENDING), self.room(guest));
        let signal = wanted != 0 && before <= wanted && after > wanted;
        Some((transaction, payload, signal))
    }

    pub fn room(&self, guest: &Kernel) -> u32 {
        let (read, write) = (self.field(guest, READ), self.field(guest, WRITE));
        let used = write.wrapping_sub(read).wrapping_add(self.size()) % self.size();
        self.size() - used
    }

    fn bytes(&self, guest: &Kernel, at: u32, len: u32) -> Vec<u8> {
        let mut bytes = Vec::new();
        while bytes.len() < len as usize {
            let (address, room) = self.place(at + bytes.len() as u32);
            let part = room.min(len as usize - bytes.len());
            bytes.extend(guest.read_ram(address, part));
        }
        bytes
    }

    /// Where an index points to, and how many bytes of its page follow.
    fn place(&self, at: u32) -> (u64, usize) {
        let at = at as usize % self.size() as usize;
        (self.data[at / 4096] + at as u64 % 4096, 4096 - at % 4096)
    }
}

/// The same ring on both sides, one page of data.
fn pages() -> ([GuestAddress; 2], GuestRing) {
    let frames = [9, 4];
    (
        frames.map(|frame| GuestAddress(u64::from(frame) << 12)),
        GuestRing::new(&frames),
    )
}

#[test]
fn incoming_packets_when_written_around_the_end_arrive_whole() {
    let bench = Bench::new();
    let (pages, guest_side) = pages();
    let mut incoming = Incoming::open(bench.vm.memory.clone(), &pages).unwrap();
    let mut buffer = Vec::new();
    for round in 0..100u64 {
        let payload: Vec<u8> = (0..round * 8).map(|i| (i ^ round) as u8).collect();
        assert!(guest_side.write(&bench.guest, round, &payload).is_some());
        assert_eq!(incoming.next(&mut buffer), Ok(Some(round)));
        assert_eq!(buffer, payload);
        assert_eq!(incoming.next(&mut buffer), Ok(None));
        incoming.release().unwrap();
    }
}

#[test]
fn outgoing_packets_when_written_around_the_end_arrive_whole() {
    let bench = Bench::new();
    let (pages, guest_side) = pages();
    let mut outgoing = Outgoing::open(bench.vm.memory.clone(), &pages).unwrap();
    for round in 0..100u64 {
        let payload: Vec<u8> = (0..round * 8).map(|i| (i ^ round) as u8).collect();
        let written = outgoing.write(round, &payload);
        assert_eq!(written, Ok(Written::Done { signal: true }));
        let read = guest_side.read(&bench.guest);
        assert_eq!(read, Some((round, payload, false)));
    }
}

#[test]
fn outgoing_packet_when_the_ring_is_not_empty_or_masked_needs_no_signal() {
    let bench = Bench::new();
    let (pages, guest_side) = pages();
    let mut outgoing = Outgoing::open(bench.vm.memory.clone(), &pages).unwrap();
    guest_side.set_field(&bench.guest, MASK, 1);
    let quiet = Ok(Written::Done { signal: false });
    assert_eq!(outgoing.write(0, b"masked"), quiet);
    guest_side.set_field(&bench.guest, MASK, 0);
    assert_eq!(outgoing.write(0, b"behind another"), quiet);
}

#[test]
fn outgoing_packet_when_there_is_no_room_asks_for_a_signal_until_there_is() {
    let bench = Bench::new();
    let (pages, guest_side) = pages();
    let mut outgoing = Outgoing::open(bench.vm.memory.clone(), &pages).unwrap();
    // 2048 bytes with descriptor and trailer; a second one would fill the ring completely.
    let payload = [7; 2024];
    assert!(matches!(
        outgoing.write(0, &payload),
        Ok(Written::Done { .. })
    ));
    assert_eq!(outgoing.write(0, &payload), Ok(Written::Full));
    assert_eq!(guest_side.field(&bench.guest, PENDING), 2048);
    assert_eq!(guest_side.field(&bench.guest, FEATURES), 1);
    let (_, _, signal) = guest_side.read(&bench.guest).unwrap();
    assert!(signal);
    assert!(matches!(
        outgoing.write(0, &payload),
        Ok(Written::Done { .. })
    ));
    assert_eq!(guest_side.field(&bench.guest, PENDING), 0);
}

#[test]
fn release_when_the_guest_waits_for_that_room_tells_to_signal_once() {
    let bench = Bench::new();
    let (pages, guest_side) = pages();
    let mut incoming = Incoming::open(bench.vm.memory.clone(), &pages).unwrap();
    let mut buffer = Vec::new();
    while guest_side.write(&bench.guest, 0, &[1; 1000]).is_some() {}
    guest_side.set_field(&bench.guest, FEATURES, 1);
    guest_side.set_field(&bench.guest, PENDING, 2048);
    let mut signals = Vec::new();
    while incoming.next(&mut buffer).unwrap().is_some() {
        signals.push(incoming.release().unwrap().signal);
    }
    assert_eq!(signals, [false, true, false]);
}

#[test]
fn release_when_a_packet_came_meanwhile_tells_of_more() {
    let bench = Bench::new();
    let (pages, guest_side) = pages();
    let mut incoming = Incoming::open(bench.vm.memory.clone(), &pages).unwrap();
    incoming.mask().unwrap();
    assert_eq!(guest_side.write(&bench.guest, 0, b"late"), Some(false));
    let more = Released {
        signal: false,
        more: true,
    };
    assert_eq!(incoming.release(), Ok(more));
    assert_eq!(guest_side.field(&bench.guest, MASK), 0);
}

#[test]
fn incoming_ring_when_the_guest_corrupts_it_is_an_error() {
    let corrupt = Err(Mistake::CorruptRing);
    for index in [4096, 4097, u32::MAX, 4] {
        assert_eq!(read_with_index(index), corrupt, "write index {index}");
    }
    // {type, offset, length, flags} of packets that the 32 bytes there cannot hold.
    for descriptor in [
        [6, 1, 3, 0],
        [6, 4, 3, 0],
        [6, 2, 4, 0],
        [6, 2, 0xFFFF, 0],
        [6, 0, 0, 0],
    ] {
        assert_eq!(read_descriptor(descriptor), corrupt, "{descriptor:?}");
    }
    assert_eq!(read_descriptor([9, 2, 3, 0]), Err(Mistake::BadPacket));
    assert_eq!(read_descriptor([6, 2, 3, 0]), Ok(Some(0)));
}

#[test]
fn outgoing_ring_when_the_guest_corrupts_it_is_an_error() {
    let bench = Bench::new();
    let (pages, guest_side) = pages();
    let mut outgoing = Outgoing::open(bench.vm.memory.clone(), &pages).unwrap();
    guest_side.set_field(&bench.guest, READ, 4096);
    assert_eq!(outgoing.write(0, b"x"), Err(Mistake::CorruptRing));
}

#[test]
fn rings_without_a_page_of_data_are_refused() {
    let bench = Bench::new();
    let (pages, _) = pages();
    for pages in [&pages[..0], &pages[..1]] {
        let opened = Outgoing::open(bench.vm.memory.clone(), pages);
        assert_eq!(opened.map(drop), Err(Mistake::BadRings));
    }
}

fn read_with_index(index: u32) -> Result<Option<u64>, Mistake> {
    let bench = Bench::new();
    let (pages, guest_side) = pages();
    let mut incoming = Incoming::open(bench.vm.memory.clone(), &pages).unwrap();
    guest_side.set_field(&bench.guest, WRITE, index);
    incoming.next(&mut Vec::new())
}

fn read_descriptor(descriptor: [u16; 4]) -> Result<Option<u64>, Mistake> {
    let bench = Bench::new();
    let (pages, guest_side) = pages();
    let mut incoming = Incoming::open(bench.vm.memory.clone(), &pages).unwrap();
    let mut packet = descriptor.map(u16::to_le_bytes).as_flattened().to_vec();
    packet.resize(32, 0);
    guest_side.put(&bench.guest, &packet);
    incoming.next(&mut Vec::new())
}

pub const WRITE: u64 = 0;
pub const READ: u64 = 4;
pub const MASK: u64 = 8;
pub const PENDING: u64 = 12;
pub const FEATURES: u64 = 64;
