// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! What guest and hypervisor agree on: names, numbers and layouts, and nothing that acts.
//!
//! Each guest value is parsed here once, into a type that can only hold valid values; the rest of
//! the crate never looks at raw numbers again.

mod ids;
mod message;
mod per_sint;
mod register;
mod status;
mod stimer;

pub use ids::{
    Bank, ConnectionId, EventFlag, InvalidId, PartitionId, PortId, SINT_COUNT, SintAddr, SintIndex,
    TimerIndex, VpIndex,
};
pub use message::{
    HEADER_SIZE, MESSAGE_PAYLOAD_MAX, MESSAGE_SIZE, Message, MessageError, MessageType,
};
pub use per_sint::PerSint;
pub use register::{PageRegister, Register, RegisterId, Scontrol, Sint};
pub use status::HvStatus;
pub use stimer::{StimerConfig, TIMER_COUNT};

/// Size of the message, event-flags and event-ring pages, in bytes.
pub const SYNIC_PAGE_SIZE: usize = 4096;
/// Size of the part of such a page that belongs to one SINT, in bytes.
pub const SINT_AREA_SIZE: usize = 256;
