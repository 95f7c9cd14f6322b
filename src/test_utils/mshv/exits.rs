// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! What a VP exits with.

use super::MshvDouble;
use crate::HypercallInput;
use crate::abi::{SintIndex, VpIndex};
use crate::sync::lock;
use mshv_bindings::{hv_message, hv_message__bindgen_ty_1};

impl MshvDouble {
    /// The guest makes a hypercall on a VP. `Some`: the hypervisor has answered it; `None`: the VP
    /// exits with it.
    pub fn hypercall(&self, vp: VpIndex, input: HypercallInput) -> Option<u64> {
        let code = input.control().code();
        let mut state = lock(&self.state);
        // There is no connection that the hypervisor knows.
        if matches!(code, 0x5C | 0x5D) && state.exits(UNKNOWN_SYNIC_CONNECTION) {
            state.hypercalls.entry(vp).or_default().push_back(input);
            return None;
        }
        drop(state);
        match code {
            0x5C | 0x5D => Some(INVALID_CONNECTION_ID),
            _ => (self.vm.manager.hypercall(vp, input)).or(Some(INVALID_HYPERCALL_CODE)),
        }
    }

    /// Runs a VP until its next exit: what `VcpuFd::run` would return. `None`: it runs on.
    pub fn run(&self, vp: VpIndex) -> Option<hv_message> {
        let mut state = lock(&self.state);
        if let Some(input) = (state.hypercalls.get_mut(&vp)).and_then(|calls| calls.pop_front()) {
            return Some(hypercall_message(vp, input));
        }
        let awaited = state.awaited.get_mut(&vp)?;
        let due = SintIndex::of_set(*awaited).filter(|sint| self.is_deliverable(vp, *sint));
        let due = due.fold(0, |set, sint| set | sint.bit());
        *awaited &= !due;
        (due != 0).then(|| deliverable_message(vp, due))
    }
}

/// A message of the hypervisor's: type, size, and fields of the payload by their offsets.
///
/// # Panics
/// Beyond the end of the payload.
pub fn hv_message_of(message_type: u32, size: u8, fields: &[(usize, u64)]) -> hv_message {
    let mut payload = [0; 30];
    for (offset, value) in fields {
        payload[offset / 8] |= value << (offset % 8 * 8);
    }
    let mut message = hv_message {
        u: hv_message__bindgen_ty_1 { payload },
        ..Default::default()
    };
    message.header.message_type = message_type;
    message.header.payload_size = size;
    message
}

fn hypercall_message(vp: VpIndex, input: HypercallInput) -> hv_message {
    let fields = [
        (0, vp.get().into()),
        // Length of VMCALL, and EFER.LMA.
        (4, 3),
        (6, 1 << 4),
        (24, RIP),
        (56, input.control),
        (64, input.input),
        (72, input.output),
    ];
    hv_message_of(0x8000_0050, 200, &fields)
}

fn deliverable_message(vp: VpIndex, sints: u16) -> hv_message {
    hv_message_of(0x8000_0062, 48, &[(0, vp.get().into()), (40, sints.into())])
}

/// Where guests make hypercalls.
const RIP: u64 = 0xFFFF_8000_0000_1000;
const UNKNOWN_SYNIC_CONNECTION: u32 = 0xD;
const INVALID_HYPERCALL_CODE: u64 = 0x02;
const INVALID_CONNECTION_ID: u64 = 0x12;
