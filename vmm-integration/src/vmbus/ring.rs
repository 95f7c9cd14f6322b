// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! Ring buffers in guest memory (Linux `struct hv_ring_buffer`, `ring_buffer.c`).
//!
//! A ring is a header page {u32 write_index, u32 read_index, u32 interrupt_mask, u32
//! pending_send_sz, ..., at 64 u32 features} and pages of data. Indices are byte offsets into the
//! data; equal ones mean empty, so a ring is never filled completely. A packet is {u16 type, u16
//! offset of the payload, u16 length, both in units of 8 bytes, u16 flags, u64 transaction}, the
//! payload padded to 8 bytes, and a trailer of 8 bytes that nobody needs.
//!
//! Each side keeps the index that it writes in memory of its own, so the guest can spoil only the
//! other one, which is checked whenever it is read.
//!
//! Two races are decided by full fences, each side storing one word and then loading the other's:
//!
//! - packet versus sleep: the writer stores the write index and then loads mask and read index;
//!   the reader stores read index and mask and then loads the write index;
//! - room versus sleep: the writer stores `pending_send_sz` and then loads the read index; the
//!   reader stores the read index and then loads `pending_send_sz`.

use std::sync::atomic::{Ordering, fence};

use vm_memory::GuestAddress;

use super::report::Mistake;
use crate::memory::Memory;

mod pages;

use pages::Ring;

/// The ring that the guest writes.
#[derive(Debug)]
pub struct Incoming {
    ring: Ring,
    /// Where the next packet begins.
    read: u32,
    /// What the guest knows of it.
    released: u32,
}

/// What follows from giving room back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Released {
    /// The guest waits for the room: signal it.
    pub signal: bool,
    /// More packets are there.
    pub more: bool,
}

impl Incoming {
    /// A ring over these pages, header first.
    pub fn open(memory: Memory, pages: &[GuestAddress]) -> Result<Self, Mistake> {
        let ring = Ring::new(memory, pages)?;
        let read = ring.load_index(READ_INDEX)?;
        Ok(Self {
            ring,
            read,
            released: read,
        })
    }

    /// Where the next packet begins, for a saved state.
    pub fn position(&self) -> u32 {
        self.read
    }

    /// Goes on there.
    pub fn set_position(&mut self, read: u32) -> Result<(), Mistake> {
        self.read = self.ring.index(read)?;
        self.released = self.read;
        Ok(())
    }

    /// Begins to read: the guest need not signal for now.
    pub fn mask(&self) -> Result<(), Mistake> {
        // Relaxed: a signal too many does no harm.
        self.ring.store(INTERRUPT_MASK, 1, Ordering::Relaxed)
    }

    /// Copies the payload of the next packet, which must be of type [`DATA_INBAND`], to `buffer`,
    /// and gives its transaction. Its room is the guest's again after [`release`](Self::release).
    pub fn next(&mut self, buffer: &mut Vec<u8>) -> Result<Option<u64>, Mistake> {
        // Acquire: pairs with the guest's barrier between packet and index.
        let write = self.ring.load_index(WRITE_INDEX)?;
        let available = self.ring.distance(self.read, write);
        if available == 0 {
            return Ok(None);
        }
        let mut descriptor = [0; DESCRIPTOR as usize];
        self.ring.read(self.read, &mut descriptor)?;
        let [packet_type, offset, length, _flags] = halves(&descriptor);
        let (offset, length) = (u32::from(offset) * 8, u32::from(length) * 8);
        let is_sane = DESCRIPTOR <= offset && offset <= length && length + TRAILER <= available;
        if !is_sane {
            return Err(Mistake::CorruptRing);
        }
        buffer.resize((length - offset) as usize, 0);
        self.ring
            .read(self.ring.advance(self.read, offset), buffer)?;
        self.read = self.ring.advance(self.read, length + TRAILER);
        if packet_type != DATA_INBAND {
            return Err(Mistake::BadPacket);
        }
        Ok(descriptor.last_chunk().copied().map(u64::from_le_bytes))
    }

    /// Gives the room of what was read back, and has the guest signal again.
    pub fn release(&mut self) -> Result<Released, Mistake> {
        let freed = self.ring.distance(self.released, self.read);
        // Release: the guest must not write over what is still read.
        self.ring.store(READ_INDEX, self.read, Ordering::Release)?;
        self.released = self.read;
        // Relaxed: the fence below orders it.
        self.ring.store(INTERRUPT_MASK, 0, Ordering::Relaxed)?;
        // Pairs with the guest's barriers, after its store of the write index and of
        // `pending_send_sz`: one of us sees the other's word.
        fence(Ordering::SeqCst);
        Ok(Released {
            signal: self.guest_waits(freed)?,
            more: self.ring.load_index(WRITE_INDEX)? != self.read,
        })
    }

    /// Whether the guest asked for a signal once there is so much room, and now there is, and was
    /// not before (Linux `hv_pkt_iter_close`, the same rule for the other ring).
    fn guest_waits(&self, freed: u32) -> Result<bool, Mistake> {
        let wanted = self.ring.load(PENDING_SEND_SIZE)?;
        if wanted == 0 || self.ring.load(FEATURES)? & FEATURE_PENDING_SEND_SIZE == 0 {
            return Ok(false);
        }
        let room = self
            .ring
            .room(self.read, self.ring.load_index(WRITE_INDEX)?);
        Ok(room > wanted && room.saturating_sub(freed) <= wanted)
    }
}

/// The ring that the host writes.
#[derive(Debug)]
pub struct Outgoing {
    ring: Ring,
    /// Where the next packet will begin.
    write: u32,
    /// The guest was asked to signal when there is room.
    waits: bool,
}

/// What became of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Written {
    /// The guest has it.
    Done {
        /// It may be asleep: signal it.
        signal: bool,
    },
    /// There is no room; the guest will signal when there is.
    Full,
}

impl Outgoing {
    /// A ring over these pages, header first.
    pub fn open(memory: Memory, pages: &[GuestAddress]) -> Result<Self, Mistake> {
        let ring = Ring::new(memory, pages)?;
        let write = ring.load_index(WRITE_INDEX)?;
        ring.store(FEATURES, FEATURE_PENDING_SEND_SIZE, Ordering::Relaxed)?;
        Ok(Self {
            ring,
            write,
            waits: false,
        })
    }

    /// Where the next packet will begin, and whether the guest was asked to signal when there is room,
    /// for a saved state.
    pub fn position(&self) -> (u32, bool) {
        (self.write, self.waits)
    }

    /// Goes on there.
    pub fn set_position(&mut self, (write, waits): (u32, bool)) -> Result<(), Mistake> {
        self.write = self.ring.index(write)?;
        self.waits = waits;
        Ok(())
    }

    /// Whether a packet with so many bytes of payload fits when the ring is empty.
    pub fn can_ever_hold(&self, payload: usize) -> bool {
        packet_size(payload).is_some_and(|size| size < self.ring.size)
    }

    /// Writes a packet of type [`DATA_INBAND`], which asks for no completion.
    pub fn write(&mut self, transaction: u64, payload: &[u8]) -> Result<Written, Mistake> {
        let size = packet_size(payload.len()).ok_or(Mistake::BadPacket)?;
        if !self.has_room(size)? {
            return Ok(Written::Full);
        }
        let before = self.write;
        self.put(transaction, payload, size)?;
        // Release: pairs with the guest's reading of the index before the packet.
        self.ring
            .store(WRITE_INDEX, self.write, Ordering::Release)?;
        // Pairs with the guest's barrier between its store of read index or mask and its last
        // look at the write index.
        fence(Ordering::SeqCst);
        let may_sleep = self.ring.load(INTERRUPT_MASK)? == 0;
        let signal = may_sleep && self.ring.load_index(READ_INDEX)? == before;
        Ok(Written::Done { signal })
    }

    /// Whether there is room; if not, the guest has been asked to signal.
    fn has_room(&mut self, size: u32) -> Result<bool, Mistake> {
        if !self.fits(size)? {
            self.waits = true;
            // Relaxed: the fence orders it.
            self.ring
                .store(PENDING_SEND_SIZE, size, Ordering::Relaxed)?;
            // Pairs with the guest's barrier in `hv_pkt_iter_close`, between its store of the
            // read index and its load of this size.
            fence(Ordering::SeqCst);
            if !self.fits(size)? {
                return Ok(false);
            }
        }
        if std::mem::take(&mut self.waits) {
            self.ring.store(PENDING_SEND_SIZE, 0, Ordering::Relaxed)?;
        }
        Ok(true)
    }

    fn fits(&self, size: u32) -> Result<bool, Mistake> {
        let read = self.ring.load_index(READ_INDEX)?;
        Ok(self.ring.room(read, self.write) > size)
    }

    fn put(&mut self, transaction: u64, payload: &[u8], size: u32) -> Result<(), Mistake> {
        let units = u16::try_from((size - TRAILER) / 8).map_err(|_| Mistake::BadPacket)?;
        let mut descriptor = [0; DESCRIPTOR as usize];
        let head = [DATA_INBAND, (DESCRIPTOR / 8) as u16, units, 0].map(u16::to_le_bytes);
        let (first, second) = descriptor.split_at_mut(8);
        first.copy_from_slice(head.as_flattened());
        second.copy_from_slice(&transaction.to_le_bytes());
        let trailer = (u64::from(self.write) << 32).to_le_bytes();
        let ring = &self.ring;
        ring.write(self.write, &descriptor)?;
        ring.write(ring.advance(self.write, DESCRIPTOR), payload)?;
        ring.write(ring.advance(self.write, size - TRAILER), &trailer)?;
        self.write = ring.advance(self.write, size);
        Ok(())
    }
}

/// Descriptor, payload padded to 8 bytes, trailer.
fn packet_size(payload: usize) -> Option<u32> {
    let padded = u32::try_from(payload).ok()?.checked_next_multiple_of(8)?;
    padded.checked_add(DESCRIPTOR + TRAILER)
}

fn halves(bytes: &[u8; 16]) -> [u16; 4] {
    let [a, b, c, d, e, f, g, h, ..] = *bytes;
    [[a, b], [c, d], [e, f], [g, h]].map(u16::from_le_bytes)
}

/// `VM_PKT_DATA_INBAND`.
pub const DATA_INBAND: u16 = 6;

const WRITE_INDEX: u64 = 0;
const READ_INDEX: u64 = 4;
const INTERRUPT_MASK: u64 = 8;
const PENDING_SEND_SIZE: u64 = 12;
const FEATURES: u64 = 64;
const FEATURE_PENDING_SEND_SIZE: u32 = 1;
const DESCRIPTOR: u32 = 16;
const TRAILER: u32 = 8;
