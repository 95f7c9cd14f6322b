// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! Hypercalls that the driver passes on for a VMM (`MSHV_ROOT_HVCALL`), and those that it does not.

use anyhow::{Result, ensure};
use mshv_bindings::{HVCALL_GET_VP_REGISTERS, mshv_root_hvcall};
use mshv_ioctls::{MshvError, VmFd};

use crate::device::{expect_errno, initialized};
use crate::report::Outcome;

pub fn refusals() -> Result<Outcome> {
    let partition = initialized()?;
    for code in PRIVATE {
        // These are the driver's own: it must not let a VMM speak for it.
        let what = format!("hypercall {code:#x} through the driver");
        expect_errno(&what, libc::EINVAL, call(&partition, code))?;
    }
    // No VP is there. The hypervisor says so in its own words.
    let absent = call(&partition, HVCALL_GET_VP_REGISTERS);
    let Err(MshvError::Hypercall { status_raw, .. }) = absent else {
        anyhow::bail!("The registers of a VP that is not there: {absent:?}");
    };
    ensure!(status_raw != 0, "The registers of a VP that is not there");
    let message = partition.post_message_direct(0, 2, &[0; 256]);
    ensure!(message.is_err(), "A message to a VP that is not there");
    let event = partition.signal_event_direct(0, 2, 1);
    ensure!(event.is_err(), "An event for a VP that is not there");
    Ok(Outcome::Passed(format!(
        "registers of no VP: status {status_raw:#x}"
    )))
}

/// A call with an input of zeroes; the driver puts the partition's id into its first 8 bytes.
fn call(partition: &VmFd, code: u32) -> Result<(), MshvError> {
    let (input, mut output) = ([0_u64; 32], [0_u64; 2]);
    let mut arguments = mshv_root_hvcall {
        code: code as u16,
        reps: u16::from(code == HVCALL_GET_VP_REGISTERS),
        in_sz: size_of_val(&input) as u16,
        out_sz: size_of_val(&output) as u16,
        in_ptr: (&raw const input) as u64,
        out_ptr: (&raw mut output) as u64,
        ..Default::default()
    };
    partition.hvcall(&mut arguments)
}

/// Of ports and connections, and of messages and events through them: DELETE_PORT, DISCONNECT_PORT,
/// POST_MESSAGE, SIGNAL_EVENT, NOTIFY_PORT_RING_EMPTY, CREATE_PORT, CONNECT_PORT.
const PRIVATE: [u32; 7] = [0x58, 0x5b, 0x5c, 0x5d, 0x8b, 0x95, 0x96];
