// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! What a message of the run loop asks of the SynIC.

use crate::HypercallInput;
use crate::abi::RegisterId;
use crate::sint0::{Arch, ParseError, RawSlot, SintMessage, X64Hypercall, X64Intercept};

/// One request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Request {
    /// SINTs that take a message again, as a set of bits.
    Deliverable(u16),
    /// A hypercall, and where the guest goes on.
    Hypercall {
        input: HypercallInput,
        rip: u64,
    },
    /// An MSR of the SynIC, which the guest may not touch if it exits: the hypervisor has them all.
    Msr,
    /// A message of the SynIC's that asks for nothing.
    Nothing,
    NotMine,
}

/// Understands a message.
pub(super) fn request(message: &[u8; 256]) -> Request {
    let slot = match RawSlot::read(message) {
        Ok(Some(slot)) => slot,
        Ok(None) => return Request::NotMine,
        Err(error) => return broken(message_type(message), &error),
    };
    let arch = match cfg!(target_arch = "aarch64") {
        true => Arch::Arm64,
        false => Arch::X64,
    };
    match slot.message(arch) {
        Ok(SintMessage::X64(X64Intercept::SintDeliverable(exit))) => {
            Request::Deliverable(exit.deliverable_sints)
        }
        Ok(SintMessage::Arm64(crate::sint0::Arm64Intercept::SintDeliverable(exit))) => {
            Request::Deliverable(exit.deliverable_sints)
        }
        // In 32-bit mode a hypercall has other registers, and its result two.
        Ok(SintMessage::X64(X64Intercept::Hypercall(exit))) if is_64_bit(&exit) => hypercall(&exit),
        Ok(SintMessage::X64(X64Intercept::Msr(exit))) => match RegisterId::from_msr(exit.msr) {
            Some(_) => Request::Msr,
            None => Request::NotMine,
        },
        Ok(SintMessage::SynicEventIntercept(_) | SintMessage::SintNotification(_)) => {
            Request::Nothing
        }
        Err(error) => broken(message_type(message), &error),
        Ok(_) => Request::NotMine,
    }
}

fn hypercall(exit: &X64Hypercall) -> Request {
    Request::Hypercall {
        input: HypercallInput {
            control: exit.rcx,
            input: exit.rdx,
            output: exit.r8,
        },
        rip: exit
            .header
            .rip
            .wrapping_add(exit.header.instruction.length().into()),
    }
}

fn is_64_bit(exit: &X64Hypercall) -> bool {
    exit.header.execution_state.efer_lma()
}

/// HVMSG_HYPERCALL_INTERCEPT, and those of the SynIC.
fn is_ours(message_type: u32) -> bool {
    matches!(message_type, 0x8000_0050 | 0x8000_0060..=0x8000_0062)
}

/// The hypervisor's fault. Nothing is known of a message of the SynIC's that the VMM could do better;
/// any other may still make sense to it.
fn broken(message_type: u32, error: &ParseError) -> Request {
    if !is_ours(message_type) {
        return Request::NotMine;
    }
    log::debug!("A message of the hypervisor was ignored: {error}");
    Request::Nothing
}

fn message_type(message: &[u8; 256]) -> u32 {
    (message.first_chunk()).map_or(0, |bytes| u32::from_le_bytes(*bytes))
}
