// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! One 4 KiB page of guest memory that guest and hypervisor share: the only file of the engine
//! that touches guest memory.
//!
//! The guest reads and writes the page while we do, so every access is an atomic one, through a
//! cell that is always inside the page: the offsets are built from a [`SintIndex`] and a small
//! index in such a way that none can leave it. Looking an address up in the memory map costs more
//! than a whole event signal; hence the page is looked up once, when the guest enables it, and the
//! map it was found in is kept alive beside the pointer.

use crate::abi::{SINT_AREA_SIZE, SYNIC_PAGE_SIZE, SintIndex};
use std::fmt;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering};
use vm_memory::bitmap::{BS, Bitmap};
use vm_memory::{GuestAddress, GuestAddressSpace, GuestMemory, GuestMemoryBackend};

/// Guest memory as a VMM shares it with the manager: `Arc<GuestMemoryMmap>`,
/// `GuestMemoryAtomic<GuestMemoryMmap>`, or the VMM's own.
pub trait GuestSpace: GuestAddressSpace<T: Send + Sync> + Send + Sync + 'static {}

impl<AS: GuestAddressSpace<T: Send + Sync> + Send + Sync + 'static> GuestSpace for AS {}

/// Why a guest physical address cannot hold a SynIC page. The guest named it: its fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PageError {
    /// There is no RAM, or not 4 KiB of it in one region.
    #[error("No 4 KiB of guest RAM at {0:#x}")]
    NotRam(u64),
    /// The memory is behind an IOMMU, whose translations may change under a cached pointer.
    #[error("Guest memory at {0:#x} is not physical memory")]
    NotPhysical(u64),
    /// The host mapping is not aligned for 64-bit atomic access.
    #[error("Guest RAM at {0:#x} is not aligned in the host")]
    NotAligned(u64),
}

/// A page of guest RAM, pinned together with the memory map that it was found in.
pub(crate) struct GuestPage<AS: GuestSpace> {
    /// Keeps the mapping behind `base` alive.
    memory: AS::T,
    gpa: u64,
    base: NonNull<u8>,
}

// SAFETY: `base` points into guest RAM that `memory` keeps mapped on whatever thread it lives, and
// every access through it is atomic; so the page may go and be used where `memory` may.
unsafe impl<AS: GuestSpace> Send for GuestPage<AS> {}
// SAFETY: as above; `&GuestPage` gives out nothing but atomic cells.
unsafe impl<AS: GuestSpace> Sync for GuestPage<AS> {}

impl<AS: GuestSpace> GuestPage<AS> {
    /// Whether the memory type records dirty pages; `()` bitmaps are empty and cost nothing.
    const TRACKS_DIRTY: bool = size_of::<BS<'static, <AS::M as GuestMemory>::Bitmap>>() != 0;

    /// Looks the page at `gpa` (4 KiB-aligned) up in the memory map of this moment.
    pub fn map(space: &AS, gpa: u64) -> Result<Self, PageError> {
        let memory = space.memory();
        let base = {
            let physical = memory
                .physical_memory()
                .ok_or(PageError::NotPhysical(gpa))?;
            let slice = physical
                .get_slice(GuestAddress(gpa), SYNIC_PAGE_SIZE)
                .map_err(|_| PageError::NotRam(gpa))?;
            let base = slice.ptr_guard_mut().as_ptr();
            NonNull::new(base).ok_or(PageError::NotRam(gpa))?
        };
        if base.as_ptr().align_offset(align_of::<AtomicU64>()) != 0 {
            return Err(PageError::NotAligned(gpa));
        }
        Ok(Self { memory, gpa, base })
    }

    /// Byte `index` of a SINT's area.
    pub fn u8(&self, sint: SintIndex, index: u8) -> &AtomicU8 {
        let offset = area(sint) + usize::from(index);
        // SAFETY: `offset` <= 15 * 256 + 255, inside the 4 KiB that `map` found behind `base`;
        // `memory` keeps them mapped as long as `self` lives; guest and VMM use atomic or volatile
        // access only.
        unsafe { AtomicU8::from_ptr(self.base.as_ptr().add(offset)) }
    }

    /// 32-bit word `index` of a SINT's area, modulo its 64 words.
    pub fn u32(&self, sint: SintIndex, index: u8) -> &AtomicU32 {
        let offset = area(sint) + usize::from(index % 64) * 4;
        // SAFETY: `offset` <= 15 * 256 + 63 * 4 is inside the page and a multiple of 4, and `map`
        // checked the alignment of `base`; the rest as in `u8`.
        unsafe { AtomicU32::from_ptr(self.base.as_ptr().add(offset).cast()) }
    }

    /// 64-bit word `index` of a SINT's area, modulo its 32 words.
    pub fn u64(&self, sint: SintIndex, index: u8) -> &AtomicU64 {
        let offset = area(sint) + usize::from(index % 32) * 8;
        // SAFETY: `offset` <= 15 * 256 + 31 * 8 is inside the page and a multiple of 8, and `map`
        // checked the alignment of `base`; the rest as in `u8`.
        unsafe { AtomicU64::from_ptr(self.base.as_ptr().add(offset).cast()) }
    }

    /// Tells live migration that a SINT's area was written. The cells above do not.
    pub fn mark_dirty(&self, sint: SintIndex) {
        self.mark_range_dirty(area(sint), SINT_AREA_SIZE);
    }

    /// Fills the page with zeroes.
    pub fn zero(&self) {
        for (sint, word) in words() {
            // Relaxed: whoever publishes the page to other threads releases it, by a lock.
            self.u64(sint, word).store(0, Ordering::Relaxed);
        }
        self.mark_range_dirty(0, SYNIC_PAGE_SIZE);
    }

    /// Takes over the contents of `old`.
    pub fn copy_from(&self, old: &Self) {
        for (sint, word) in words() {
            // Relaxed: as in `zero`.
            let value = old.u64(sint, word).load(Ordering::Relaxed);
            self.u64(sint, word).store(value, Ordering::Relaxed);
        }
        self.mark_range_dirty(0, SYNIC_PAGE_SIZE);
    }

    fn mark_range_dirty(&self, offset: usize, len: usize) {
        if !Self::TRACKS_DIRTY {
            return;
        }
        let slice = self.memory.physical_memory().and_then(|memory| {
            memory
                .get_slice(GuestAddress(self.gpa), SYNIC_PAGE_SIZE)
                .ok()
        });
        if let Some(slice) = slice {
            slice.bitmap().mark_dirty(offset, len);
        }
    }
}

impl<AS: GuestSpace> fmt::Debug for GuestPage<AS> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "GuestPage({:#x})", self.gpa)
    }
}

/// Offset of a SINT's area in the page: at most 15 * 256.
fn area(sint: SintIndex) -> usize {
    sint.index() * SINT_AREA_SIZE
}

/// Every 64-bit word of the page.
fn words() -> impl Iterator<Item = (SintIndex, u8)> {
    SintIndex::all().flat_map(|sint| (0..32).map(move |word| (sint, word)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use vm_memory::bitmap::AtomicBitmap;
    use vm_memory::{Bytes, GuestMemoryMmap, GuestMemoryRegion};

    type Plain = Arc<GuestMemoryMmap<()>>;
    type Tracked = Arc<GuestMemoryMmap<AtomicBitmap>>;

    fn ram(ranges: &[(u64, usize)]) -> Plain {
        let ranges: Vec<_> = ranges
            .iter()
            .map(|&(start, len)| (GuestAddress(start), len))
            .collect();
        Arc::new(GuestMemoryMmap::from_ranges(&ranges).unwrap())
    }

    #[test]
    fn map_outside_ram_is_refused() {
        let space = ram(&[(0, 0x4000)]);
        assert_eq!(
            GuestPage::map(&space, 0x4000).unwrap_err(),
            PageError::NotRam(0x4000)
        );
    }

    #[test]
    fn map_across_two_regions_is_refused() {
        let space = ram(&[(0, 0x1800), (0x1800, 0x2800)]);
        assert_eq!(
            GuestPage::map(&space, 0x1000).unwrap_err(),
            PageError::NotRam(0x1000)
        );
    }

    #[test]
    fn cells_are_at_their_offsets_of_the_page() {
        let space = ram(&[(0, 0x4000)]);
        let page = GuestPage::map(&space, 0x2000).unwrap();
        let sint15 = SintIndex::new(15).unwrap();

        page.u8(sint15, 255).store(0xAB, Ordering::SeqCst);
        page.u32(SintIndex::VMBUS, 1)
            .store(0x1234, Ordering::SeqCst);
        page.u64(SintIndex::INTERCEPT, 31)
            .store(7, Ordering::SeqCst);

        assert_eq!(space.read_obj::<u8>(GuestAddress(0x2FFF)).unwrap(), 0xAB);
        assert_eq!(space.read_obj::<u32>(GuestAddress(0x2204)).unwrap(), 0x1234);
        assert_eq!(space.read_obj::<u64>(GuestAddress(0x20F8)).unwrap(), 7);
    }

    #[test]
    fn mark_dirty_marks_the_page_of_a_tracked_memory_and_no_other() {
        let memory = GuestMemoryMmap::from_ranges(&[(GuestAddress(0), 0x4000)]).unwrap();
        let space: Tracked = Arc::new(memory);
        let page = GuestPage::map(&space, 0x2000).unwrap();

        page.mark_dirty(SintIndex::VMBUS);

        let region = space.find_region(GuestAddress(0)).unwrap();
        let dirty: Vec<_> = (0..4)
            .map(|page| region.bitmap().dirty_at(page * 0x1000))
            .collect();
        assert_eq!(dirty, [false, false, true, false]);
        const { assert!(GuestPage::<Tracked>::TRACKS_DIRTY) };
        const { assert!(!GuestPage::<Plain>::TRACKS_DIRTY) };
    }

    #[test]
    fn copy_from_moves_the_whole_page() {
        let space = ram(&[(0, 0x4000)]);
        let old = GuestPage::map(&space, 0x1000).unwrap();
        let new = GuestPage::map(&space, 0x3000).unwrap();
        let bytes: Vec<u8> = (0..4096).map(|i| (i % 251) as u8).collect();
        space.write_slice(&bytes, GuestAddress(0x1000)).unwrap();

        new.copy_from(&old);

        let mut copied = vec![0; 4096];
        space.read_slice(&mut copied, GuestAddress(0x3000)).unwrap();
        assert_eq!(copied, bytes);
    }
}
