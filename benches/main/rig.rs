// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! A manager whose guest has switched everything on, and the guest's view of its pages.

use std::hint::black_box;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering, fence};
use vm_memory::bitmap::{BS, NewBitmap};
use vm_memory::{GuestAddress, GuestMemoryBackend, GuestMemoryMmap, VolatileMemory, VolatileSlice};
use vm_synic::{
    Config, Host, RingMemory, SintAddr, SintIndex, SintInterrupt, SynicManager, VpIndex,
};

/// The cheapest VMM there can be: it counts the interrupts of each SINT.
pub struct Bell(Vec<Count>);

/// In a cache line of its own.
#[derive(Default)]
#[repr(align(64))]
struct Count(AtomicU64);

impl Bell {
    pub fn new(vps: u32) -> Self {
        Self((0..vps * 16).map(|_| Count::default()).collect())
    }
}

impl Host for Bell {
    fn assert_sint(&self, interrupt: SintInterrupt) -> io::Result<()> {
        let SintAddr { vp, sint, .. } = interrupt.addr;
        if let Some(Count(count)) = self.0.get(vp.get() as usize * 16 + sint.index()) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    }
}

/// A manager and its guest's memory.
pub struct Rig<B: NewBitmap + Send + Sync + 'static = ()> {
    pub manager: Arc<SynicManager<Arc<GuestMemoryMmap<B>>>>,
    memory: Arc<GuestMemoryMmap<B>>,
}

/// The pages that each VP of a [`Rig`] has.
#[derive(Clone, Copy)]
pub enum Page {
    Messages,
    Events,
    Rings,
    /// Hypercall input.
    Input,
}

impl<B: NewBitmap + Send + Sync + 'static> Rig<B> {
    /// This many VPs, with all SINTs unmasked, all pages enabled and SCONTROL set.
    pub fn new(vps: u32) -> Self {
        let ram = [(GuestAddress(0), vps as usize * 0x4000)];
        let memory = Arc::new(GuestMemoryMmap::from_ranges(&ram).unwrap());
        let host = Arc::new(Bell::new(vps));
        let manager = SynicManager::new(Config::new(vps + 1), memory.clone(), host);
        for vp in (0..vps).map(VpIndex::new) {
            manager.add_vp(vp).unwrap();
            let write = |msr, value| manager.write_msr(vp, msr, value).unwrap();
            write(SIMP, gpa(vp, Page::Messages) | 1);
            write(SIEFP, gpa(vp, Page::Events) | 1);
            write(SIRBP, gpa(vp, Page::Rings) | 1);
            (0..16).for_each(|sint| write(SINT0 + sint, 0xF3));
            write(SCONTROL, 1);
        }
        Self { manager, memory }
    }

    /// The 256 bytes of a SINT in a page.
    pub fn area(&self, addr: SintAddr, page: Page) -> VolatileSlice<'_, BS<'_, B>> {
        let offset = u64::from(addr.sint.get()) * 256;
        let gpa = GuestAddress(gpa(addr.vp, page) + offset);
        self.memory.get_slice(gpa, 256).unwrap()
    }
}

/// Where a [`Rig`] puts a page.
pub fn gpa(vp: VpIndex, page: Page) -> u64 {
    u64::from(vp.get()) * 0x4000 + page as u64 * 0x1000
}

/// SINT2 of VP 0.
pub const VMBUS: SintAddr = SintAddr::new(VpIndex::new(0), SintIndex::VMBUS);

pub const SCONTROL: u32 = 0x4000_0080;
pub const SIEFP: u32 = 0x4000_0082;
pub const SIMP: u32 = 0x4000_0083;
pub const EOM: u32 = 0x4000_0084;
pub const SIRBP: u32 = 0x4000_0085;
pub const SINT0: u32 = 0x4000_0090;

/// A message slot, as the guest sees it, and as a hypervisor does that holds a pointer to it.
pub struct Slot<'a> {
    message_type: &'a AtomicU32,
    flags: &'a AtomicU8,
    bytes: &'a VolatileSlice<'a>,
}

impl<'a> Slot<'a> {
    pub fn new(area: &'a VolatileSlice<'a>) -> Self {
        Self {
            message_type: area.get_atomic_ref(0).unwrap(),
            flags: area.get_atomic_ref(5).unwrap(),
            bytes: area,
        }
    }

    /// The floor of a post: header and payload, and then the type.
    pub fn fill(&self, message: &[u8]) {
        self.bytes.copy_from(message);
        self.message_type.store(1, Ordering::Release);
    }

    /// The floor of asking for an EOM.
    pub fn request_eom(&self) {
        self.flags.fetch_or(1, Ordering::SeqCst);
    }

    /// What a guest does: reads all of it, frees the slot, and looks whether it owes an EOM.
    pub fn consume(&self) -> bool {
        assert_ne!(self.message_type.load(Ordering::Acquire), 0);
        let mut message = [0u8; 256];
        self.bytes.copy_to(&mut message);
        black_box(&message);
        self.message_type.store(0, Ordering::Release);
        fence(Ordering::SeqCst);
        self.flags.load(Ordering::Relaxed) & 1 != 0
    }
}

/// An event ring, as the guest sees it.
pub struct Ring<'a> {
    entries: [&'a AtomicU32; 63],
    signal_masked: &'a AtomicU8,
    ring_full: &'a AtomicU8,
}

impl<'a> Ring<'a> {
    pub fn new(area: &'a VolatileSlice<'a>) -> Self {
        Self {
            entries: std::array::from_fn(|index| area.get_atomic_ref(4 + 4 * index).unwrap()),
            signal_masked: area.get_atomic_ref(0).unwrap(),
            ring_full: area.get_atomic_ref(1).unwrap(),
        }
    }
}

impl RingMemory for Ring<'_> {
    fn entry(&self, index: u8) -> u32 {
        self.entries[usize::from(index)].load(Ordering::Acquire)
    }

    fn set_entry(&self, index: u8, port: u32) {
        self.entries[usize::from(index)].store(port, Ordering::Release);
    }

    fn signal_masked(&self) -> bool {
        self.signal_masked.load(Ordering::Relaxed) != 0
    }

    fn set_signal_masked(&self, masked: bool) {
        self.signal_masked.store(masked.into(), Ordering::Relaxed);
    }

    fn ring_full(&self) -> bool {
        self.ring_full.load(Ordering::Relaxed) != 0
    }

    fn set_ring_full(&self, full: bool) {
        self.ring_full.store(full.into(), Ordering::Relaxed);
    }

    fn fence(&self) {
        fence(Ordering::SeqCst);
    }
}
