// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! What only the VMM can do for the manager.

use crate::abi::{SintAddr, VpIndex};
use std::io;

/// A request to interrupt a VP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SintInterrupt {
    /// The SINT that is raised.
    pub addr: SintAddr,
    /// Its vector, 16 to 255: fixed, edge-triggered.
    pub vector: u8,
    /// The interrupt must end by itself when the VP takes it.
    pub auto_eoi: bool,
}

/// The VMM, as the manager sees it. Called from any thread, with no lock of the manager held.
///
/// ```
/// use std::io;
/// use vm_synic::{Host, SintInterrupt};
///
/// struct Quiet;
/// impl Host for Quiet {
///     fn assert_sint(&self, _interrupt: SintInterrupt) -> io::Result<()> {
///         Ok(())
///     }
/// }
/// ```
pub trait Host: Send + Sync {
    /// Interrupts a VP.
    ///
    /// # Errors
    /// Are counted against the SINT ([`InterruptCounters::failed`]), the first of each SINT is
    /// reported by `log` as an error, and what was written to the guest's page stays there.
    ///
    /// [`InterruptCounters::failed`]: crate::InterruptCounters::failed
    fn assert_sint(&self, interrupt: SintInterrupt) -> io::Result<()>;

    /// The guest has programmed a SINT: `vector` if it is unmasked, else `None`. A VMM that keeps
    /// an interrupt route per SINT (an irqfd, say) brings it up to date here; one that injects by
    /// vector has nothing to do.
    ///
    /// # Errors
    /// As for [`assert_sint`](Self::assert_sint).
    fn route(&self, _addr: SintAddr, _vector: Option<u8>) -> io::Result<()> {
        Ok(())
    }

    /// The VP must leave the guest soon, because [`pre_run`](crate::SynicManager::pre_run) has
    /// something to do for it.
    fn kick(&self, _vp: VpIndex) {}

    /// Interrupts a VP by a vector of its own, 16 to 255: fixed, edge-triggered. A synthetic timer
    /// in direct mode has expired (see [`Config::timers`](crate::Config::timers)).
    ///
    /// # Errors
    /// As for [`assert_sint`](Self::assert_sint), counted against the timer. A VMM that does not
    /// announce direct mode (CPUID 40000003.EDX bit 19) need not implement it.
    fn assert_vector(&self, _vp: VpIndex, _vector: u8) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// The partition's reference time in units of 100 ns, as the guest reads it at this moment
    /// (`HV_X64_MSR_TIME_REF_COUNT`, the reference TSC page). Called only with
    /// [`Config::timers`](crate::Config::timers).
    fn reference_time(&self) -> u64 {
        0
    }

    /// Once the reference time reaches `deadline`, [`timer_due`](crate::SynicManager::timer_due) is
    /// to be called for the VP; the deadline before no longer counts. `None`: there is none. For
    /// one VP, it is called by one thread at a time. Not to be answered by `timer_due` itself, which
    /// asks for the same deadline again as long as it has not come.
    fn set_timer(&self, _vp: VpIndex, _deadline: Option<u64>) {}

    /// A SINT that refused a message by [`PostError::WouldBlock`](crate::PostError::WouldBlock)
    /// has room again.
    fn writable(&self, _addr: SintAddr) {}
}
