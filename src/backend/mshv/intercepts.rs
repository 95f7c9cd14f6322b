// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! Which of the guest's hypercalls exit.

use super::calls::Hvcall;
use super::{CallError, MshvPartition};

impl MshvPartition {
    /// Has the guest's hypercalls of the SynIC exit: such as name a connection that the hypervisor
    /// does not know, which are all, as a VMM can make none there. Before a VP runs.
    ///
    /// # Errors
    /// [`CallError`].
    pub fn install_intercepts(&self) -> Result<(), CallError> {
        [HYPERCALL, UNKNOWN_SYNIC_CONNECTION]
            .into_iter()
            .try_for_each(|kind| self.install_intercept(kind))
    }

    fn install_intercept(&self, kind: u32) -> Result<(), CallError> {
        // {u64 partition, u32 access, u32 type, u64 parameter}
        let mut input = [0; 24];
        let words = [EXECUTE.to_le_bytes(), kind.to_le_bytes()];
        let words = words.as_flattened().iter();
        input
            .iter_mut()
            .skip(8)
            .zip(words)
            .for_each(|(to, from)| *to = *from);
        self.calls().hvcall(Hvcall {
            code: HVCALL_INSTALL_INTERCEPT,
            reps: 0,
            input: &input,
            output: &mut [],
        })
    }
}

const HVCALL_INSTALL_INTERCEPT: u16 = 0x4D;
const EXECUTE: u32 = 4;
const HYPERCALL: u32 = 8;
/// Not in mshv-bindings.
const UNKNOWN_SYNIC_CONNECTION: u32 = 0xD;
