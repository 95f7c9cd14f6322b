// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! The one seam to /dev/mshv: all that this backend asks of a partition's and a VP's file
//! descriptors. The real ones are mshv-ioctls'; the tests' is a double.

use mshv_bindings::{mshv_user_ioeventfd, mshv_user_irq_entry, mshv_user_irqfd};

use super::StatePage;

/// A hypercall that the driver passes through. The driver puts the partition's id into the first
/// qword of its input.
#[derive(Debug)]
pub struct Hvcall<'a> {
    /// The call code.
    pub code: u16,
    /// How many repetitions it has; 0 for a call without.
    pub reps: u16,
    /// The input block, 8 to 4096 bytes.
    pub input: &'a [u8],
    /// The output block, up to 4096 bytes; written only if the call succeeds.
    pub output: &'a mut [u8],
}

/// Why a call failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// The hypervisor answered with this `HV_STATUS`.
    #[error("status {0:#x}")]
    Status(u16),
    /// The driver refused, with this `errno`.
    #[error("{}", std::io::Error::from_raw_os_error(*.0))]
    Os(i32),
}

/// A partition's file descriptor. From any thread, while its VPs run.
pub trait PartitionCalls: Send + Sync {
    /// `MSHV_ROOT_HVCALL`.
    ///
    /// # Errors
    /// [`CallError`].
    fn hvcall(&self, call: Hvcall<'_>) -> Result<(), CallError>;

    /// `MSHV_IOEVENTFD`.
    ///
    /// # Errors
    /// The `errno`.
    fn ioeventfd(&self, request: &mshv_user_ioeventfd) -> Result<(), CallError>;

    /// `MSHV_IRQFD`.
    ///
    /// # Errors
    /// The `errno`.
    fn irqfd(&self, request: &mshv_user_irqfd) -> Result<(), CallError>;

    /// `MSHV_SET_MSI_ROUTING`: replaces the whole table.
    ///
    /// # Errors
    /// The `errno`.
    fn set_msi_routing(&self, entries: &[mshv_user_irq_entry]) -> Result<(), CallError>;
}

/// A VP's file descriptor: on the VP's thread, or while the VP is stopped, as the driver holds its
/// mutex while it runs.
pub trait VpCalls {
    /// `MSHV_GET_VP_STATE`, of a kind that fits a page.
    ///
    /// # Errors
    /// The `errno`.
    fn get_state(&self, kind: u8, page: &mut StatePage) -> Result<(), CallError>;

    /// `MSHV_SET_VP_STATE`, likewise.
    ///
    /// # Errors
    /// The `errno`.
    fn set_state(&self, kind: u8, page: &StatePage) -> Result<(), CallError>;
}
