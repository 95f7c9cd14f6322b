// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! A double of /dev/mshv: a hypervisor that has the SynICs of a partition, made of this crate's own
//! engine, behind the calls that the backend makes.
//!
//! It answers as Linux's driver and the hypervisor are known to: passes on the hypercalls of the
//! driver's list and no other, tells once of a slot that has become free, and compares a doorbell that
//! is removed with what was registered. What nobody has written down it answers in the way that is
//! hardest on the backend, or in one that the test chooses.

mod blocks;
mod calls;
mod exits;
mod vp;

use super::{MockGuest, MockVm};
use crate::abi::{Register, RegisterId, SintIndex, VpIndex};
use crate::backend::mshv::{CallError, MshvPartition};
use crate::config::Config;
use crate::sync::lock;
use mshv_bindings::{mshv_user_ioeventfd, mshv_user_irq_entry, mshv_user_irqfd};
use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::{Arc, Mutex};
use vm_memory::GuestMemoryMmap;

pub use exits::hv_message_of;
pub use vp::VpDouble;

/// The hypervisor's half of a partition.
pub struct MshvDouble {
    /// The SynICs of the hypervisor; messages do not queue there.
    pub vm: MockVm,
    state: Mutex<State>,
}

/// What was asked of it.
#[derive(Debug, Default)]
pub(super) struct State {
    /// By VP: the SINTs that it tells of, as a set of bits.
    awaited: BTreeMap<VpIndex, u16>,
    /// By VP: hypercalls that have exited, in order.
    hypercalls: BTreeMap<VpIndex, VecDeque<crate::HypercallInput>>,
    intercepts: Vec<u32>,
    doorbells: Vec<mshv_user_ioeventfd>,
    irqfds: Vec<mshv_user_irqfd>,
    routes: Vec<mshv_user_irq_entry>,
    /// By call code: with what the next calls fail, if they do.
    failures: BTreeMap<u16, VecDeque<Option<CallError>>>,
    /// The codes of the hypercalls that were made, in order.
    made: Vec<u16>,
}

impl MshvDouble {
    /// A partition with VPs 0 to `vps - 1`.
    ///
    /// # Panics
    /// If there is no memory for it.
    pub fn new(vps: u32) -> Arc<Self> {
        let config = Config {
            // The slot is all there is.
            queue_depth: 0,
            scontrol_at_reset: true,
            ..Config::new(vps)
        };
        Arc::new(Self {
            vm: MockVm::new(config, vps),
            state: Mutex::default(),
        })
    }

    /// As the backend has it.
    pub fn partition(self: &Arc<Self>) -> MshvPartition {
        MshvPartition::new(self.clone())
    }

    /// The guest kernel on one VP; its hypercalls are answered here, and none exits.
    pub fn guest(&self, vp: VpIndex) -> MockGuest<Arc<GuestMemoryMmap>> {
        self.vm.guest(vp)
    }

    /// The next hypercalls with this code fail like this, one after the other.
    pub fn fail(&self, code: u16, errors: impl IntoIterator<Item = CallError>) {
        let mut state = lock(&self.state);
        let failures = state.failures.entry(code).or_default();
        failures.extend(errors.into_iter().map(Some));
    }

    /// So many hypercalls with this code pass before the ones that [`fail`](Self::fail) says next.
    pub fn pass(&self, code: u16, calls: usize) {
        let mut state = lock(&self.state);
        let failures = state.failures.entry(code).or_default();
        failures.extend(std::iter::repeat_n(None, calls));
    }

    /// From now on no hypercall fails, whatever was said before.
    pub fn heal(&self) {
        lock(&self.state).failures.clear();
    }

    /// The codes of the hypercalls that were made since this was asked last.
    pub fn take_made(&self) -> Vec<u16> {
        std::mem::take(&mut lock(&self.state).made)
    }

    /// The SINTs that a VP is to tell of, as a set of bits.
    pub fn awaited(&self, vp: VpIndex) -> u16 {
        lock(&self.state)
            .awaited
            .get(&vp)
            .copied()
            .unwrap_or_default()
    }

    /// The table of MSI routes.
    pub fn routes(&self) -> Vec<mshv_user_irq_entry> {
        lock(&self.state).routes.clone()
    }

    /// The doorbells that are registered.
    pub fn doorbells(&self) -> Vec<mshv_user_ioeventfd> {
        lock(&self.state).doorbells.clone()
    }

    /// The irqfds that are registered.
    pub fn irqfds(&self) -> Vec<mshv_user_irqfd> {
        lock(&self.state).irqfds.clone()
    }

    /// Whether a message for a SINT could be delivered now.
    fn is_deliverable(&self, vp: VpIndex, sint: SintIndex) -> bool {
        let manager = &self.vm.manager;
        let on = |register: Register| {
            let value = manager.read_register(vp, RegisterId::plain(register));
            value.is_ok_and(|value| register.is_on(value))
        };
        let ready = [Register::Scontrol, Register::Simp, Register::Sint(sint)];
        ready.into_iter().all(on) && self.guest(vp).peek_message(sint).is_none()
    }
}

impl fmt::Debug for MshvDouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MshvDouble")
            .field("state", &self.state)
            .finish_non_exhaustive()
    }
}
