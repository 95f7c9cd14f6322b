// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! QEMU's isa-debug-exit: a guest ends the VM and says how it went.

use vm_synic::VpIndex;

use super::{PortDevice, PortWrite};

/// Any OUT ends the VM with the value written, truncated to what the access carries.
#[derive(Clone, Copy, Debug)]
pub struct DebugExit;

impl PortDevice for DebugExit {
    fn write(&self, _: VpIndex, _: u16, data: &[u8]) -> PortWrite {
        let value = data.iter().take(4).rev();
        PortWrite::Exit(value.fold(0, |value, byte| value << 8 | u32::from(*byte)))
    }
}

/// The exit status that QEMU ends with: never 0, so that a guest's success is 1.
pub fn exit_status(value: u32) -> u8 {
    (value << 1 | 1) as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_status_of_known_results_is_that_of_qemu() {
        assert_eq!([0, 1, 38, 63].map(exit_status), [1, 3, 77, 127]);
    }
}
