// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! A manager with everything that a VMM gives it.

use super::{MockGuest, RecordingHost};
use crate::abi::VpIndex;
use crate::config::Config;
use crate::manager::SynicManager;
use crate::page::GuestSpace;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use vm_memory::bitmap::{Bitmap, NewBitmap};
use vm_memory::{GuestAddress, GuestMemoryMmap};

/// A manager, its guest's memory, and its host.
///
/// Guest physical memory begins at 0. The first [`FREE`](MockVm::FREE) bytes are the test's own;
/// each VP's kernel has [`HEAP`](MockVm::HEAP) bytes of what follows.
#[derive(Clone)]
pub struct MockVm<B: Bitmap + Send + Sync + 'static = ()> {
    /// What is tested.
    pub manager: Arc<SynicManager<Arc<GuestMemoryMmap<B>>>>,
    /// The guest's memory.
    pub memory: Arc<GuestMemoryMmap<B>>,
    /// What the manager asks for.
    pub host: Arc<RecordingHost>,
}

impl MockVm {
    /// A VM with VPs 0 to `vps - 1` plugged in, whose memory does not track dirty pages.
    ///
    /// # Panics
    /// If `config` does not allow so many VPs.
    pub fn new(config: Config, vps: u32) -> Self {
        Self::with_bitmap(config, vps)
    }
}

impl MockVm<()> {
    /// Bytes at the start of guest memory that no [`MockGuest`] uses.
    pub const FREE: u64 = 0x1_0000;
    /// Bytes that the kernel of each VP allocates pages from.
    pub const HEAP: u64 = 0x1_0000;
}

impl<B: Bitmap + NewBitmap + Send + Sync + 'static> MockVm<B>
where
    Arc<GuestMemoryMmap<B>>: GuestSpace,
{
    /// As [`new`](MockVm::new), with memory that tracks dirty pages by `B`.
    ///
    /// # Panics
    /// If `config` does not allow so many VPs.
    pub fn with_bitmap(config: Config, vps: u32) -> Self {
        let size = heap_of(VpIndex::new(vps)).start;
        let size = usize::try_from(size).expect("guest memory fits the host");
        let memory = GuestMemoryMmap::from_ranges(&[(GuestAddress(0), size)]);
        let memory = Arc::new(memory.expect("the host has memory"));
        let host = Arc::new(RecordingHost::default());
        let manager = SynicManager::new(config, memory.clone(), host.clone());
        for vp in 0..vps {
            let added = manager.add_vp(VpIndex::new(vp));
            added.expect("the configuration allows so many VPs");
        }
        Self {
            manager,
            memory,
            host,
        }
    }

    /// The same memory and host under a manager of its own, which has no VPs yet: what a saved
    /// state is restored into.
    #[must_use]
    pub fn successor(&self, config: Config) -> Self {
        let (memory, host) = (self.memory.clone(), self.host.clone());
        Self {
            manager: SynicManager::new(config, memory.clone(), host.clone()),
            memory,
            host,
        }
    }

    /// The guest kernel on one VP, which has touched nothing yet.
    pub fn guest(&self, vp: VpIndex) -> MockGuest<Arc<GuestMemoryMmap<B>>> {
        MockGuest::new(self.manager.clone(), self.memory.clone(), vp, heap_of(vp))
    }
}

impl<B: Bitmap + Send + Sync + 'static> fmt::Debug for MockVm<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MockVm")
            .field("host", &self.host)
            .finish_non_exhaustive()
    }
}

fn heap_of(vp: VpIndex) -> Range<u64> {
    let start = MockVm::FREE + MockVm::HEAP * u64::from(vp.get());
    start..start + MockVm::HEAP
}
