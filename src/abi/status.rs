// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! `HV_STATUS`: what a hypercall answers.

/// Result of a hypercall, in bits 15:0 of its result value (TLFS Hypercall Status Codes).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u16)]
#[non_exhaustive]
pub enum HvStatus {
    /// Done.
    Success = 0x00,
    /// No such hypercall.
    InvalidHypercallCode = 0x02,
    /// The control word or the form of the call is wrong.
    InvalidHypercallInput = 0x03,
    /// The input block is not 8-byte aligned, or crosses a page.
    InvalidAlignment = 0x04,
    /// A parameter has no valid value.
    InvalidParameter = 0x05,
    /// The caller has not the right.
    AccessDenied = 0x06,
    /// The partition is in a state in which that cannot be done.
    InvalidPartitionState = 0x07,
    /// Nobody may do that, or not to this partition.
    OperationDenied = 0x08,
    /// The partition has no such property.
    UnknownProperty = 0x09,
    /// The partition needs more memory: deposit some and try again.
    InsufficientMemory = 0x0B,
    /// No such partition.
    InvalidPartitionId = 0x0D,
    /// No such virtual processor.
    InvalidVpIndex = 0x0E,
    /// The port behind the connection is gone, or of another type.
    InvalidPortId = 0x11,
    /// No such connection.
    InvalidConnectionId = 0x12,
    /// The receiver's buffers are full: try again later.
    InsufficientBuffers = 0x13,
    /// The SynIC of the target is not ready to receive.
    InvalidSynicState = 0x18,
    /// Somebody else has it already.
    ObjectInUse = 0x19,
    /// There is no more of what the call needs.
    NoResources = 0x1D,
    /// The register takes no such value.
    InvalidRegisterValue = 0x50,
    /// No such register.
    UnknownRegisterName = 0x87,
}

impl From<HvStatus> for u64 {
    fn from(status: HvStatus) -> Self {
        status as Self
    }
}
