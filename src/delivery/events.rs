// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! The event half of a SynIC: 2048 flags for each SINT, set by one atomic OR.
//!
//! A flag may be set from any thread while the guest moves or disables the page, and after its MSR
//! write has finished the old page must not be touched again: it is the guest's memory. So a
//! signaller holds a lane while it sets a flag, and a page change holds every lane. Signals of
//! different flags mostly take different lanes, and the guest changes pages seldom.

use crate::abi::{EventFlag, PerSint, SintIndex};
use crate::delivery::direct::Direct;
use crate::error::NotReady;
use crate::observe::EventCounters;
use crate::page::{GuestPage, GuestSpace};
use crate::partition::PartitionError;
use crate::sync::lock;
use std::collections::BTreeSet;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard};

/// The event flags page, as each lane sees it.
#[derive(Debug)]
pub(crate) struct Events<AS: GuestSpace> {
    lanes: [Mutex<Lane<AS>>; LANES],
    /// Instead of the page, where the hypervisor has it.
    direct: Option<Box<Direct>>,
}

/// In a cache line of its own, so that signallers on two CPUs do not slow each other down.
#[derive(Debug)]
#[repr(align(64))]
struct Lane<AS: GuestSpace> {
    page: Option<Arc<GuestPage<AS>>>,
    /// Made with the first signal: most VPs of a big machine never see one.
    counters: Option<Box<PerSint<EventCounters>>>,
    paused: bool,
    /// Flags signalled while paused; at most all there are.
    held: BTreeSet<(SintIndex, EventFlag)>,
}

/// What became of a signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Signalled {
    /// The flag was clear: interrupt the guest.
    Fresh,
    /// The flag was set; the guest will see it once.
    Coalesced,
    /// The manager is paused; the flag is set when it resumes.
    Held,
}

impl<AS: GuestSpace> Events<AS> {
    pub fn new(direct: Option<Box<Direct>>) -> Self {
        Self {
            direct,
            lanes: std::array::from_fn(|_| {
                Mutex::new(Lane {
                    page: None,
                    counters: None,
                    paused: false,
                    held: BTreeSet::new(),
                })
            }),
        }
    }

    /// Sets a flag. `ready` says whether SCONTROL and the SINT let it through; it is asked with the
    /// lane held, so that a write that makes the SINT not ready can wait for us.
    pub fn signal(
        &self,
        sint: SintIndex,
        flag: EventFlag,
        ready: impl FnOnce() -> Result<(), NotReady>,
    ) -> Result<Signalled, PartitionError> {
        let mut lane = lock(self.lane(flag));
        let lane = &mut *lane;
        let counters = &mut lane.counters.get_or_insert_default()[sint];
        let flags = ready().and_then(|()| Flags::of(lane.page.as_deref(), self.direct.as_deref()));
        let flags = flags.inspect_err(|_| counters.refused += 1);
        let flags = flags.map_err(PartitionError::NotReady)?;
        if lane.paused {
            counters.coalesced += u64::from(!lane.held.insert((sint, flag)));
            return Ok(Signalled::Held);
        }
        match flags.set(sint, flag) {
            Ok(true) => {
                counters.fresh += 1;
                Ok(Signalled::Fresh)
            }
            Ok(false) => {
                counters.coalesced += 1;
                Ok(Signalled::Coalesced)
            }
            Err(error) => {
                counters.refused += 1;
                Err(error)
            }
        }
    }

    /// Takes a page in use, with the contents of the one that it replaces, if any.
    pub fn enable(&self, page: GuestPage<AS>) {
        let mut lanes = self.hold_all();
        if let Some(old) = lanes.first().and_then(|lane| lane.page.as_ref()) {
            page.copy_from(old);
        }
        let page = Arc::new(page);
        for lane in &mut lanes {
            lane.page = Some(page.clone());
        }
    }

    /// Gives the page up: it is not touched any more when this returns.
    pub fn disable(&self) {
        for mut lane in self.hold_all() {
            lane.page = None;
        }
    }

    /// Puts the same page back, after the memory map changed or from saved state.
    pub fn remap(&self, page: Option<GuestPage<AS>>) {
        let page = page.map(Arc::new);
        for mut lane in self.hold_all() {
            lane.page.clone_from(&page);
        }
    }

    /// Waits for signallers that are at work.
    pub fn settle(&self) {
        drop(self.hold_all());
    }

    /// From now on flags are held; after this returns, none is being set.
    pub fn pause(&self) {
        for mut lane in self.hold_all() {
            lane.paused = true;
        }
    }

    /// Sets the flags that were held; the SINTs to interrupt, as a set of bits.
    pub fn resume(&self) -> u16 {
        let mut fresh = 0;
        for lane in &self.lanes {
            let mut lane = lock(lane);
            let lane = &mut *lane;
            lane.paused = false;
            for (sint, flag) in std::mem::take(&mut lane.held) {
                let counters = &mut lane.counters.get_or_insert_default()[sint];
                let flags = Flags::of(lane.page.as_deref(), self.direct.as_deref());
                let set = flags.map(|flags| flags.set(sint, flag));
                match set {
                    Err(_) | Ok(Err(_)) => counters.refused += 1,
                    Ok(Ok(true)) => {
                        counters.fresh += 1;
                        fresh |= sint.bit();
                    }
                    Ok(Ok(false)) => counters.coalesced += 1,
                }
            }
        }
        fresh
    }

    /// Flags that wait for a resume.
    pub fn held(&self) -> Vec<(SintIndex, EventFlag)> {
        let lanes = self.lanes.iter();
        lanes.flat_map(|lane| lock(lane).held.clone()).collect()
    }

    /// Puts back what [`held`](Self::held) gave.
    pub fn restore_held(&self, held: impl IntoIterator<Item = (SintIndex, EventFlag)>) {
        for (sint, flag) in held {
            lock(self.lane(flag)).held.insert((sint, flag));
        }
    }

    /// The counters of one SINT, of all lanes.
    pub fn counters(&self, sint: SintIndex) -> EventCounters {
        let lanes = self.lanes.iter();
        lanes.fold(EventCounters::default(), |sum, lane| {
            let lane = lock(lane);
            let own = lane.counters.as_deref().map(|counters| counters[sint]);
            let held = lane.held.iter().filter(|(of, _)| *of == sint).count();
            sum.plus(own.unwrap_or_default(), held as u64)
        })
    }

    /// Puts back the counters.
    pub fn restore_counters(&self, counters: &PerSint<EventCounters>) {
        let mut lanes = self.hold_all();
        lanes.iter_mut().for_each(|lane| lane.counters = None);
        // One lane for all of them; what is held is counted where it is.
        let counters = PerSint::from_fn(|sint| EventCounters {
            held: 0,
            ..counters[sint]
        });
        if let Some(first) = lanes.first_mut() {
            first.counters = Some(Box::new(counters));
        }
    }

    /// Forgets the page, and the flags that are held.
    pub fn reset(&self) {
        for mut lane in self.hold_all() {
            lane.page = None;
            for (sint, _) in std::mem::take(&mut lane.held) {
                lane.counters.get_or_insert_default()[sint].refused += 1;
            }
        }
    }

    fn lane(&self, flag: EventFlag) -> &Mutex<Lane<AS>> {
        &self.lanes[usize::from(flag.get()) % LANES]
    }

    /// Every lane at once, always in the same order.
    fn hold_all(&self) -> Vec<MutexGuard<'_, Lane<AS>>> {
        self.lanes.iter().map(lock).collect()
    }
}

/// Where flags are.
enum Flags<'a, AS: GuestSpace> {
    Page(&'a GuestPage<AS>),
    Direct(&'a Direct),
}

impl<'a, AS: GuestSpace> Flags<'a, AS> {
    fn of(page: Option<&'a GuestPage<AS>>, direct: Option<&'a Direct>) -> Result<Self, NotReady> {
        let page = page.map(Self::Page);
        direct.map(Self::Direct).or(page).ok_or(NotReady::PageOff)
    }

    /// Sets one; true if it was clear.
    fn set(self, sint: SintIndex, flag: EventFlag) -> Result<bool, PartitionError> {
        match self {
            Self::Page(page) => Ok(set_flag(page, sint, flag)),
            Self::Direct(direct) => direct.signal(sint, flag),
        }
    }
}

/// Sets the flag in the page; true if it was clear.
fn set_flag<AS: GuestSpace>(page: &GuestPage<AS>, sint: SintIndex, flag: EventFlag) -> bool {
    // Flag f is bit f % 8 of byte f / 8: on a little-endian machine bit f % 64 of qword f / 64.
    let [qword, bit] = [flag.get() / 64, flag.get() % 64];
    let bit = 1u64 << bit;
    // SeqCst: what was written to a channel's ring before the signal is visible to who clears it.
    let before = page.u64(sint, qword as u8).fetch_or(bit, Ordering::SeqCst);
    page.mark_dirty(sint);
    before & bit == 0
}

/// How many signallers of one VP can be at work at once.
const LANES: usize = 4;

#[cfg(target_endian = "big")]
compile_error!("Hyper-V guests are little-endian, and so must the host be");
