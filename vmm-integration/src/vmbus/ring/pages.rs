// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! The pages of a ring, read and written within their bounds.

use std::sync::atomic::Ordering;

use vm_memory::{Address, Bytes, GuestAddress};

use crate::memory::Memory;
use crate::vmbus::report::Mistake;

/// A header page, and the data that its indices point into.
#[derive(Debug)]
pub struct Ring {
    memory: Memory,
    header: GuestAddress,
    data: Vec<GuestAddress>,
    /// Bytes of data.
    pub size: u32,
}

impl Ring {
    /// Pages as a GPADL lists them, header first.
    pub fn new(memory: Memory, pages: &[GuestAddress]) -> Result<Self, Mistake> {
        let (header, data) = pages.split_first().ok_or(Mistake::BadRings)?;
        let size = u32::try_from(data.len() * PAGE).map_err(|_| Mistake::BadRings)?;
        if size == 0 {
            return Err(Mistake::BadRings);
        }
        Ok(Self {
            memory,
            header: *header,
            data: data.to_vec(),
            size,
        })
    }

    /// Reads a field of the header. Acquire: what the guest wrote before it is seen.
    pub fn load(&self, field: u64) -> Result<u32, Mistake> {
        let address = self.header.unchecked_add(field);
        let value = self.memory.load(address, Ordering::Acquire);
        value.map_err(|_| Mistake::CorruptRing)
    }

    /// Reads an index, which must be one.
    pub fn load_index(&self, field: u64) -> Result<u32, Mistake> {
        self.index(self.load(field)?)
    }

    /// A number that must be an index.
    pub fn index(&self, index: u32) -> Result<u32, Mistake> {
        let is_sane = index < self.size && index % 8 == 0;
        is_sane.then_some(index).ok_or(Mistake::CorruptRing)
    }

    /// Writes a field of the header.
    pub fn store(&self, field: u64, value: u32, order: Ordering) -> Result<(), Mistake> {
        let address = self.header.unchecked_add(field);
        let stored = self.memory.store(value, address, order);
        stored.map_err(|_| Mistake::CorruptRing)
    }

    /// Bytes from one index to another.
    pub fn distance(&self, from: u32, to: u32) -> u32 {
        if to >= from {
            to - from
        } else {
            self.size - from + to
        }
    }

    /// Bytes that are free; a packet must leave one.
    pub fn room(&self, read: u32, write: u32) -> u32 {
        self.size - self.distance(read, write)
    }

    /// An index further on; `by` is at most the size.
    pub fn advance(&self, index: u32, by: u32) -> u32 {
        let end = index + by;
        if end >= self.size {
            end - self.size
        } else {
            end
        }
    }

    /// Copies from the data, around its end.
    pub fn read(&self, at: u32, bytes: &mut [u8]) -> Result<(), Mistake> {
        let mut rest = bytes;
        let mut at = at as usize;
        while !rest.is_empty() {
            let (address, room) = self.page(at)?;
            let (part, later) = rest.split_at_mut(room.min(rest.len()));
            let read = self.memory.read_slice(part, address);
            read.map_err(|_| Mistake::CorruptRing)?;
            at += part.len();
            rest = later;
        }
        Ok(())
    }

    /// Copies to the data, around its end.
    pub fn write(&self, at: u32, bytes: &[u8]) -> Result<(), Mistake> {
        let mut rest = bytes;
        let mut at = at as usize;
        while !rest.is_empty() {
            let (address, room) = self.page(at)?;
            let (part, later) = rest.split_at(room.min(rest.len()));
            let written = self.memory.write_slice(part, address);
            written.map_err(|_| Mistake::CorruptRing)?;
            at += part.len();
            rest = later;
        }
        Ok(())
    }

    /// Where an offset into the data is, and how many bytes of its page follow.
    fn page(&self, at: usize) -> Result<(GuestAddress, usize), Mistake> {
        let page = self.data.get(at / PAGE % self.data.len());
        let address = page
            .ok_or(Mistake::CorruptRing)?
            .unchecked_add((at % PAGE) as u64);
        Ok((address, PAGE - at % PAGE))
    }
}

const PAGE: usize = 4096;
