// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! GPADLs: lists of guest pages that a guest lends to the host under a handle of its choice.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use vm_memory::{Address, GuestAddress, GuestMemoryBackend};

use super::protocol::{Frames, GpadlHeader};
use super::report::Mistake;
use crate::memory::Memory;

/// Every GPADL of a connection.
#[derive(Debug)]
pub struct Gpadls {
    memory: Memory,
    by_handle: BTreeMap<u32, Gpadl>,
    /// Pages in all of them, those to come included.
    pages: usize,
}

#[derive(Debug)]
struct Gpadl {
    relid: u32,
    pages: Vec<GuestAddress>,
    /// How many there are once it is whole.
    total: usize,
}

/// How far a GPADL has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// More pages are to come.
    Partial,
    /// It is whole, and belongs to the channel of this relid.
    Whole(u32),
}

/// A message that a GPADL cannot be made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spoilt {
    /// Whom to tell; `None` if the handle names nothing.
    pub relid: Option<u32>,
    /// Why.
    pub mistake: Mistake,
}

/// One of them in a saved state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SavedGpadl {
    handle: u32,
    relid: u32,
    pages: Vec<u64>,
    total: usize,
}

impl Gpadls {
    /// None yet, of this memory.
    pub fn new(memory: Memory) -> Self {
        Self {
            memory,
            by_handle: BTreeMap::new(),
            pages: 0,
        }
    }

    /// A GPADL begins.
    pub fn begin(&mut self, header: &GpadlHeader<'_>) -> Result<Progress, Spoilt> {
        let spoilt = |mistake| Spoilt {
            relid: Some(header.relid),
            mistake,
        };
        let total = page_count(header).map_err(spoilt)?;
        // A handle that is taken stays with its owner.
        if self.by_handle.contains_key(&header.gpadl) {
            return Err(spoilt(Mistake::BadGpadl));
        }
        if self.by_handle.len() >= MAX_GPADLS || self.pages.saturating_add(total) > MAX_PAGES {
            return Err(spoilt(Mistake::TooManyGpadls));
        }
        self.pages += total;
        let gpadl = Gpadl {
            relid: header.relid,
            pages: Vec::with_capacity(total),
            total,
        };
        self.by_handle.insert(header.gpadl, gpadl);
        self.extend(header.gpadl, header.frames)
    }

    /// A GPADL goes on. If it cannot, it is gone.
    pub fn extend(&mut self, handle: u32, frames: Frames<'_>) -> Result<Progress, Spoilt> {
        let unknown = Spoilt {
            relid: None,
            mistake: Mistake::NoGpadl,
        };
        let gpadl = self.by_handle.get_mut(&handle).ok_or(unknown)?;
        let relid = gpadl.relid;
        if !gpadl.add(&self.memory, frames) {
            self.remove(handle);
            return Err(Spoilt {
                relid: Some(relid),
                mistake: Mistake::BadGpadl,
            });
        }
        Ok(match gpadl.is_whole() {
            true => Progress::Whole(relid),
            false => Progress::Partial,
        })
    }

    /// The pages of a whole GPADL of a channel.
    pub fn pages(&self, relid: u32, handle: u32) -> Option<&[GuestAddress]> {
        let gpadl = self.by_handle.get(&handle)?;
        (gpadl.relid == relid && gpadl.is_whole()).then_some(&gpadl.pages)
    }

    /// A GPADL is torn down. False: there was none.
    pub fn remove(&mut self, handle: u32) -> bool {
        let removed = self.by_handle.remove(&handle);
        self.pages -= removed.as_ref().map_or(0, |gpadl| gpadl.total);
        removed.is_some()
    }

    /// A channel is gone, with all that was for it.
    pub fn remove_all_of(&mut self, relid: u32) {
        self.by_handle.retain(|_, gpadl| gpadl.relid != relid);
        self.pages = self.by_handle.values().map(|gpadl| gpadl.total).sum();
    }

    /// All of them, for a saved state.
    pub fn save(&self) -> Vec<SavedGpadl> {
        let all = self.by_handle.iter();
        all.map(|(handle, gpadl)| SavedGpadl {
            handle: *handle,
            relid: gpadl.relid,
            pages: gpadl.pages.iter().map(|page| page.raw_value()).collect(),
            total: gpadl.total,
        })
        .collect()
    }

    /// Takes them from a saved state, in place of what there is; or which is wrong, and why.
    pub fn restore(&mut self, saved: &[SavedGpadl]) -> Result<(), (usize, Mistake)> {
        self.clear();
        for (index, saved) in saved.iter().enumerate() {
            self.add(saved).map_err(|mistake| (index, mistake))?;
        }
        Ok(())
    }

    fn add(&mut self, saved: &SavedGpadl) -> Result<(), Mistake> {
        let is_full = self.by_handle.len() >= MAX_GPADLS
            || self.pages.saturating_add(saved.total) > MAX_PAGES;
        if is_full {
            return Err(Mistake::TooManyGpadls);
        }
        let pages: Option<Vec<_>> = (saved.pages.iter())
            .map(|page| page_of(&self.memory, page / PAGE).filter(|_| page % PAGE == 0))
            .collect();
        let pages = pages.filter(|pages| pages.len() <= saved.total);
        let gpadl = Gpadl {
            relid: saved.relid,
            pages: pages.ok_or(Mistake::BadGpadl)?,
            total: saved.total,
        };
        self.pages += saved.total;
        match self.by_handle.insert(saved.handle, gpadl) {
            Some(_) => Err(Mistake::BadGpadl),
            None => Ok(()),
        }
    }

    /// The connection is gone.
    pub fn clear(&mut self) {
        self.by_handle.clear();
        self.pages = 0;
    }
}

impl Gpadl {
    /// Adds pages, if they are RAM and not more than were announced.
    fn add(&mut self, memory: &Memory, frames: Frames<'_>) -> bool {
        if frames.len() > self.total - self.pages.len() {
            return false;
        }
        let before = self.pages.len();
        let pages = frames.iter().map_while(|frame| page_of(memory, frame));
        self.pages.extend(pages);
        self.pages.len() - before == frames.len()
    }

    fn is_whole(&self) -> bool {
        self.pages.len() == self.total
    }
}

/// How many pages a GPADL has, if it is one range that says so twice.
/// The page of a frame, if it is RAM.
fn page_of(memory: &Memory, frame: u64) -> Option<GuestAddress> {
    let page = GuestAddress(frame.checked_mul(PAGE)?);
    let last = page.checked_add(PAGE - 1)?;
    (memory.address_in_range(page) && memory.address_in_range(last)).then_some(page)
}

fn page_count(header: &GpadlHeader<'_>) -> Result<usize, Mistake> {
    let bytes = u64::from(header.byte_offset) + u64::from(header.byte_count);
    let pages = bytes.div_ceil(PAGE);
    let is_sane = header.range_count == 1
        && header.byte_count != 0
        && u64::from(header.byte_offset) < PAGE
        && u64::from(header.range_bytes) == 8 + 8 * pages;
    match usize::try_from(pages) {
        Ok(pages) if is_sane => Ok(pages),
        _ => Err(Mistake::BadGpadl),
    }
}

const PAGE: u64 = 4096;
/// Two for each channel there can be, and some.
const MAX_GPADLS: usize = 256;
/// 64 MiB of guest memory, for half a MiB of ours.
const MAX_PAGES: usize = 16_384;
