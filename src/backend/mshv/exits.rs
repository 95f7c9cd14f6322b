// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! The exits of a VP that are the SynIC's.

use std::io;

use mshv_bindings::hv_message;

use super::decode::{Request, request};
use crate::{GuestSpace, HypercallInput, SynicManager, VpIndex};

/// How a VP is given the result of a hypercall: by its register page, or by registers.
pub trait HypercallAnswer {
    /// Sets RIP and RAX, before the VP runs again.
    ///
    /// # Errors
    /// What the VMM was refused.
    fn complete(&mut self, rip: u64, rax: u64) -> io::Result<()>;
}

/// What has become of an exit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Served {
    /// Run the VP again.
    Done,
    /// It is not of the SynIC: serve it yourself.
    NotMine,
    /// Inject #GP, and leave RIP where it is.
    Fault,
}

/// A hypercall that was made, and whose result could not be given to the guest.
#[derive(Debug, thiserror::Error)]
#[error("Cannot complete a hypercall of {vp}")]
pub struct ExitError {
    /// The VP that made it.
    pub vp: VpIndex,
    /// What the VMM was refused.
    pub source: io::Error,
}

/// Serves what `VcpuFd::run` has returned, if it is the SynIC's, on the VP's thread.
///
/// `other` answers a hypercall that is not the SynIC's with the value of RAX; `|_| 2` is
/// HV_STATUS_INVALID_HYPERCALL_CODE. A message of the SynIC's that means nothing here, or makes no
/// sense, is taken for done: it never stops the guest.
///
/// # Errors
/// [`ExitError`], if `answer` fails.
pub fn handle_exit<AS: GuestSpace>(
    manager: &SynicManager<AS>,
    vp: VpIndex,
    message: &hv_message,
    answer: &mut dyn HypercallAnswer,
    other: impl FnOnce(HypercallInput) -> u64,
) -> Result<Served, ExitError> {
    match request(&bytes(message)) {
        Request::Deliverable(sints) => {
            manager.sints_deliverable(vp, sints);
            Ok(Served::Done)
        }
        Request::Hypercall { input, rip } => {
            let result = manager.hypercall(vp, input).unwrap_or_else(|| other(input));
            let completed = answer.complete(rip, result);
            completed.map_err(|source| ExitError { vp, source })?;
            Ok(Served::Done)
        }
        Request::Msr => Ok(Served::Fault),
        Request::Nothing => Ok(Served::Done),
        Request::NotMine => Ok(Served::NotMine),
    }
}

/// The message as it stands in a slot.
fn bytes(message: &hv_message) -> [u8; 256] {
    const _: () = assert!(size_of::<hv_message>() == 256);
    // SAFETY: the source is 256 bytes of plain integers without padding, all initialized, and valid
    // for reads; bytes have no alignment and no invalid values.
    unsafe { std::ptr::from_ref(message).cast::<[u8; 256]>().read() }
}
