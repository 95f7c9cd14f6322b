// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! The hypervisor as a parent partition sees it, beside its SynIC: what Linux's `mshv_root` asks
//! for until a partition of its own exists, and when that goes.
//!
//! ```text
//!   hypercall -> SynicManager  (ports, connections, messages, VP registers)
//!       | not the SynIC's
//!       v
//!   Hypervisor: properties   partitions -> Child (doorbells)   statistics pages
//!                                 |
//!                             deposited memory
//! ```
//!
//! A partition here has no VPs and no memory map yet. What needs them is answered by
//! `HV_STATUS_INVALID_HYPERCALL_CODE`; `Partition` is where they would go, and the doorbells that
//! they would ring can be rung by the VMM: [`Hypervisor::child`].
//!
//! The guest is not trusted. All that it can make this hold is bounded by a number of partitions,
//! and by its own RAM.

mod deposit;
mod intercepts;
mod partition;
mod properties;
mod statistics;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard};

use vm_memory::{GuestAddress, GuestMemoryBackend};
use vm_synic::{Child, HvStatus, HypercallInput, PartitionId};

use crate::memory::Memory;
use crate::vm::Manager;
use deposit::Deposits;
use partition::Partition;
use statistics::StatsPages;

/// Partitions and all else that the hypercalls of a parent are about.
pub struct Hypervisor {
    manager: Arc<Manager>,
    memory: Memory,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    partitions: BTreeMap<PartitionId, Partition>,
    /// Pages lent to the guest's own partition.
    own_pages: Deposits,
    stats: StatsPages,
    created: u64,
}

/// What a call that repeats has done, and why it stopped, if it did.
type Reps = Result<(), HvStatus>;

impl Hypervisor {
    /// Without partitions.
    pub fn new(manager: Arc<Manager>, memory: Memory) -> Self {
        Self {
            manager,
            memory,
            state: Mutex::default(),
        }
    }

    /// Answers a call that is not the SynIC's: the value of RAX.
    pub fn hypercall(&self, input: HypercallInput) -> u64 {
        let code = input.control().code();
        let answer = match code {
            DEPOSIT_MEMORY => return self.repeat(input, Self::deposit),
            WITHDRAW_MEMORY => return self.repeat(input, Self::withdraw),
            CREATE_PARTITION => self.simple(input, Self::create),
            INITIALIZE_PARTITION => self.simple(input, Self::initialize),
            FINALIZE_PARTITION => self.simple(input, Self::finalize),
            DELETE_PARTITION => self.simple(input, Self::delete),
            GET_PARTITION_PROPERTY => self.simple(input, Self::get_property),
            GET_PARTITION_PROPERTY_EX => self.simple(input, Self::get_property_ex),
            SET_PARTITION_PROPERTY => self.simple(input, Self::set_property),
            MAP_STATS_PAGE_2 => self.simple(input, Self::map_statistics),
            UNMAP_STATS_PAGE => self.simple(input, Self::unmap_statistics),
            INSTALL_INTERCEPT => self.simple(input, Self::install_intercept),
            POST_MESSAGE_DIRECT | SIGNAL_EVENT_DIRECT => self.simple(input, Self::deliver),
            _ => Err(HvStatus::InvalidHypercallCode),
        };
        let status = answer.err().unwrap_or(HvStatus::Success);
        log::debug!("Hypercall {code:#06x}: {status:?}");
        status.into()
    }

    /// The address space of a partition, by its place among those that exist, oldest first.
    pub fn child(&self, place: usize) -> Option<Arc<Child>> {
        let state = self.lock();
        let partition = state.partitions.values().nth(place)?;
        Some(partition.child().clone())
    }

    /// How many partitions exist, and how many were ever created.
    pub fn partitions(&self) -> (usize, u64) {
        let state = self.lock();
        (state.partitions.len(), state.created)
    }

    /// The VM is reset: nothing of it is left but the ids that were used.
    pub fn reset(&self) {
        let mut state = self.lock();
        *state = State {
            created: state.created,
            ..State::default()
        };
    }

    fn simple(
        &self,
        input: HypercallInput,
        call: fn(&Self, HypercallInput) -> Result<(), HvStatus>,
    ) -> Result<(), HvStatus> {
        input.control().check_simple(false)?;
        call(self, input)
    }

    /// Runs `one` for each repetition until one fails, and puts the result value together.
    fn repeat(
        &self,
        input: HypercallInput,
        one: fn(&mut State, &Memory, HypercallInput, usize) -> Reps,
    ) -> u64 {
        let control = input.control();
        if let Err(status) = control.check_rep(false) {
            return status.into();
        }
        let mut state = self.lock();
        let mut done = control.rep_start();
        let mut status = HvStatus::Success;
        while done < control.rep_count() {
            if let Err(refusal) = one(&mut state, &self.memory, input, done.into()) {
                status = refusal;
                break;
            }
            done += 1;
        }
        u64::from(status) | u64::from(done) << REPS_DONE
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|e| e.into_inner())
    }
}

impl State {
    fn partition(&mut self, id: u64) -> Result<&mut Partition, HvStatus> {
        let partition = self.partitions.get_mut(&PartitionId::new(id));
        partition.ok_or(HvStatus::InvalidPartitionId)
    }

    /// Whether `id` is the guest's own partition or one of its children.
    fn has_partition(&self, id: u64) -> bool {
        let id = PartitionId::new(id);
        id == PartitionId::SELF || self.partitions.contains_key(&id)
    }
}

impl fmt::Debug for Hypervisor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (partitions, created) = self.partitions();
        f.debug_struct("Hypervisor")
            .field("partitions", &partitions)
            .field("created", &created)
            .finish_non_exhaustive()
    }
}

/// Whether a page number names a page of RAM.
fn is_ram(memory: &Memory, page: u64) -> bool {
    let gpa = page.checked_mul(PAGE).map(GuestAddress);
    gpa.is_some_and(|gpa| memory.address_in_range(gpa))
}

fn deny_if(wrong: bool, status: HvStatus) -> Result<(), HvStatus> {
    if wrong { Err(status) } else { Ok(()) }
}

const PAGE: u64 = 4096;
const CREATE_PARTITION: u16 = 0x0040;
const INITIALIZE_PARTITION: u16 = 0x0041;
const FINALIZE_PARTITION: u16 = 0x0042;
const DELETE_PARTITION: u16 = 0x0043;
const GET_PARTITION_PROPERTY: u16 = 0x0044;
const SET_PARTITION_PROPERTY: u16 = 0x0045;
const DEPOSIT_MEMORY: u16 = 0x0048;
const WITHDRAW_MEMORY: u16 = 0x0049;
const INSTALL_INTERCEPT: u16 = 0x004D;
const UNMAP_STATS_PAGE: u16 = 0x006D;
const SIGNAL_EVENT_DIRECT: u16 = 0x00C0;
const POST_MESSAGE_DIRECT: u16 = 0x00C1;
const GET_PARTITION_PROPERTY_EX: u16 = 0x0101;
const MAP_STATS_PAGE_2: u16 = 0x0131;
/// Where the result value counts repetitions.
const REPS_DONE: u32 = 32;

#[cfg(test)]
mod tests;
