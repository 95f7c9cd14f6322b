// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! Hypercalls of the SynIC: from the control word to the port.

mod input;
mod page;
mod ports;
mod post;
mod registers;

pub use input::{Control, HypercallInput};
pub(crate) use page::HypercallPage;

use crate::abi::{HvStatus, SintIndex, VpIndex};
use crate::manager::SynicManager;
use crate::page::GuestSpace;

/// Answers a call, or gives `None` if it is not one of the SynIC's.
pub(crate) fn dispatch<AS: GuestSpace>(
    manager: &SynicManager<AS>,
    vp: VpIndex,
    input: HypercallInput,
) -> Option<u64> {
    let control = input.control();
    let simple = |status: Result<(), HvStatus>| status.err().unwrap_or(HvStatus::Success).into();
    Some(match control.code() {
        POST_MESSAGE => simple(post::post_message(manager, vp, control, input)),
        SIGNAL_EVENT => simple(post::signal_event(manager, control, input)),
        NOTIFY_PORT_RING_EMPTY => simple(ring_empty(manager, vp, control, input)),
        GET_VP_REGISTERS if manager.has_registers() => registers::get(manager, vp, control, input),
        SET_VP_REGISTERS if manager.has_registers() => registers::set(manager, vp, control, input),
        code if ports::is_one(code) && manager.config().guest_ports != 0 => {
            simple(ports::call(manager, code, input))
        }
        _ => return None,
    })
}

/// `HvNotifyPortRingEmpty`, fast: {u32 sint, u32 0}.
fn ring_empty<AS: GuestSpace>(
    manager: &SynicManager<AS>,
    vp: VpIndex,
    control: Control,
    input: HypercallInput,
) -> Result<(), HvStatus> {
    control.check_simple(manager.config().nested)?;
    let [value] = input.qwords::<1>(&*manager.guest_memory())?;
    let sint = u32::try_from(value).map_err(|_| HvStatus::InvalidParameter)?;
    let sint = SintIndex::try_from(sint).map_err(|_| HvStatus::InvalidParameter)?;
    manager.ring_empty(vp, sint);
    Ok(())
}

const GET_VP_REGISTERS: u16 = 0x0050;
const SET_VP_REGISTERS: u16 = 0x0051;
const POST_MESSAGE: u16 = 0x005C;
const SIGNAL_EVENT: u16 = 0x005D;
const NOTIFY_PORT_RING_EMPTY: u16 = 0x008B;

#[cfg(test)]
mod tests;
