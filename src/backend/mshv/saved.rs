// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! What the hypervisor has of a VP, brought to the manager for a saved state, and back.
//!
//! In a saved state, on every backend, the message page and the event flags page are guest memory. Here
//! they lie over it, so that their contents are copied into the memory below, and from there.

use std::ops::Deref;

use vm_memory::{Bytes, GuestAddress};

use super::state::{self, StatePage};
use super::{CallError, MshvPartition, VpCalls};
use crate::abi::{PageRegister, StimerConfig, TimerIndex};
use crate::ownership::{SynicPage, SynicView};
use crate::state::HeldTimer;
use crate::{GuestSpace, Provider, SynicManager, VpIndex};

/// What has failed of a [`capture`] or a [`restore`].
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SaveError {
    /// The hypervisor, or its driver, has refused.
    #[error("Cannot exchange {what} of {vp}")]
    Call {
        /// The VP.
        vp: VpIndex,
        /// What was to be read or written.
        what: &'static str,
        /// Why not.
        source: CallError,
    },
    /// The guest has put a page where there is no memory, so that its contents have no place in a state.
    #[error("The {page:?} page of {vp} is at {gpa:#x}, where there is no guest memory")]
    NoMemory {
        /// The VP.
        vp: VpIndex,
        /// The page.
        page: SynicPage,
        /// Guest physical address.
        gpa: u64,
    },
}

/// Brings a VP's registers, pages and timers to the manager, before its
/// [`save`](SynicManager::save). The VP is stopped; guest memory must be saved afterwards.
///
/// The timers are those of [`Config::timers`](crate::Config::timers). A periodic one's phase is not told: its
/// state expires one period after `now`, the reference time of the partition. GUEST_OS_ID and HYPERCALL
/// are the VMM's to bring ([`hold_hypercall_page`](SynicManager::hold_hypercall_page)).
///
/// # Errors
/// [`SaveError`]; the manager has then a part of it.
pub fn capture<AS: GuestSpace>(
    manager: &SynicManager<AS>,
    partition: &MshvPartition,
    vp: VpIndex,
    calls: &dyn VpCalls,
    now: u64,
) -> Result<(), SaveError> {
    let failed = |what| move |source| SaveError::Call { vp, what, source };
    let view = partition.registers(vp).map_err(failed("the registers"))?;
    manager.hold_registers(vp, &view);
    let memory = manager.guest_memory();
    for (page, gpa) in pages(&view) {
        let contents = state::page(calls, page).map_err(failed("a page"))?;
        let written = memory.deref().write_slice(&contents.0, GuestAddress(gpa));
        written.map_err(|_| SaveError::NoMemory { vp, page, gpa })?;
    }
    if manager.config().timers == Some(Provider::Hypervisor) {
        let timers = state::timers(calls).map_err(failed("the timers"))?;
        for (timer, held) in held_timers(&timers, now) {
            manager.hold_timer(vp, timer, held);
        }
    }
    Ok(())
}

/// After the manager's [`restore`](SynicManager::restore), and with guest memory there: gives it back. The VP
/// must not run yet.
///
/// # Errors
/// [`SaveError`]; the VP has then a part of it.
pub fn restore<AS: GuestSpace>(
    manager: &SynicManager<AS>,
    partition: &MshvPartition,
    vp: VpIndex,
    calls: &dyn VpCalls,
) -> Result<(), SaveError> {
    let failed = |what| move |source| SaveError::Call { vp, what, source };
    let view = manager.held_registers(vp);
    let written = partition.set_registers(vp, &view);
    written.map_err(failed("the registers"))?;
    let memory = manager.guest_memory();
    for (page, gpa) in pages(&view) {
        let mut contents = StatePage::default();
        let read = memory
            .deref()
            .read_slice(&mut contents.0, GuestAddress(gpa));
        read.map_err(|_| SaveError::NoMemory { vp, page, gpa })?;
        state::set_page(calls, page, &contents).map_err(failed("a page"))?;
    }
    if manager.config().timers == Some(Provider::Hypervisor) {
        let timers = timers_state(&manager.held_timers(vp));
        state::set_timers(calls, &timers).map_err(failed("the timers"))?;
    }
    Ok(())
}

/// Those that lie over guest memory, and where. An event ring page is guest memory itself.
fn pages(view: &SynicView) -> impl Iterator<Item = (SynicPage, u64)> {
    let pages = [
        (SynicPage::Message, view.simp),
        (SynicPage::EventFlags, view.siefp),
    ];
    let pages = pages.map(|(page, value)| (page, PageRegister::from(value)));
    let on = pages.into_iter().filter(|(_, value)| value.enabled());
    on.map(|(page, value)| (page, value.gpa()))
}

/// From `hv_synthetic_timers_state`, four of `hv_stimer_state`: {u32 flags, u32, u64 config, u64 count,
/// u64 adjustment, u64 undelivered expiration time}.
fn held_timers(page: &StatePage, now: u64) -> impl Iterator<Item = (TimerIndex, HeldTimer)> {
    let timers = page.0.chunks_exact(TIMER_SIZE);
    TimerIndex::all().zip(timers).map(move |(index, timer)| {
        let [flags, config, count, _, undelivered] = words(timer);
        let mut config = StimerConfig::from(config);
        let is_undelivered = flags & UNDELIVERED != 0;
        if is_undelivered {
            // It is late, and sends its message anew wherever it goes.
            config.set_enable(true);
        }
        let expiration = match (is_undelivered, config.periodic()) {
            (true, _) => undelivered,
            (false, true) => now.saturating_add(count),
            (false, false) => count,
        };
        let held = HeldTimer {
            config: config.into(),
            count,
            expiration,
        };
        (index, held)
    })
}

fn timers_state(timers: &[(TimerIndex, HeldTimer)]) -> StatePage {
    let mut page = StatePage::default();
    for (place, (_, timer)) in page.0.chunks_exact_mut(TIMER_SIZE).zip(timers) {
        let words = [0, timer.config, timer.count].map(u64::to_le_bytes);
        let bytes = words.as_flattened().iter();
        place
            .iter_mut()
            .zip(bytes)
            .for_each(|(to, from)| *to = *from);
    }
    page
}

fn words(bytes: &[u8]) -> [u64; 5] {
    let mut words = [0; 5];
    for (word, bytes) in words.iter_mut().zip(bytes.chunks_exact(8)) {
        *word = bytes.try_into().map_or(0, u64::from_le_bytes);
    }
    words
}

/// `sizeof(struct hv_stimer_state)`.
const TIMER_SIZE: usize = 40;
/// `undelivered_msg_pending`.
const UNDELIVERED: u64 = 1;
