// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! What the x64 intercept messages have in common: the header, and small fields.

use super::Access;
use crate::abi::VpIndex;
use crate::sint0::wire::{bit_fields, layout};
use bitfield_struct::bitfield;

layout! {
    /// Header of most x64 intercepts (`hv_x64_intercept_message_header`).
    pub struct X64Header[40] {
        /// The VP that was stopped.
        0 => vp: VpIndex,
        /// Length of the instruction, and CR8.
        4 => instruction: X64Instruction,
        /// What it was doing.
        5 => access: Access,
        /// The mode it was in.
        6 => execution_state: X64ExecutionState,
        /// CS.
        8 => cs: X64Segment,
        /// RIP.
        24 => rip: u64,
        /// RFLAGS.
        32 => rflags: u64,
    }

    /// A segment register (`hv_x64_segment_register`).
    pub struct X64Segment[16] {
        /// Linear base address.
        0 => base: u64,
        /// Limit, in bytes.
        8 => limit: u32,
        /// Selector.
        12 => selector: u16,
        /// Type, DPL, P, L, D and G, as in a descriptor.
        14 => attributes: u16,
    }
}

/// Length of the intercepted instruction, and CR8.
#[bitfield(u8)]
#[derive(PartialEq, Eq)]
pub struct X64Instruction {
    /// Bytes of the instruction; 0 if unknown.
    #[bits(4)]
    pub length: u8,
    /// CR8, the task priority.
    #[bits(4)]
    pub cr8: u8,
}

/// `hv_x64_vp_execution_state`.
#[bitfield(u16)]
#[derive(PartialEq, Eq)]
pub struct X64ExecutionState {
    /// Current privilege level.
    #[bits(2)]
    pub cpl: u8,
    /// CR0.PE.
    pub cr0_pe: bool,
    /// CR0.AM.
    pub cr0_am: bool,
    /// EFER.LMA.
    pub efer_lma: bool,
    /// A breakpoint register is armed.
    pub debug_active: bool,
    /// An event is pending injection.
    pub interruption_pending: bool,
    /// Virtual trust level.
    #[bits(4)]
    pub vtl: u8,
    /// In an enclave.
    pub enclave_mode: bool,
    /// In the shadow of STI or MOV SS.
    pub interrupt_shadow: bool,
    /// A virtualization fault is being delivered.
    pub virtualization_fault_active: bool,
    #[bits(2)]
    _reserved: u8,
}

/// `hv_x64_memory_access_info`.
#[bitfield(u8)]
#[derive(PartialEq, Eq)]
pub struct X64MemoryAccess {
    /// The message has the virtual address.
    pub gva_valid: bool,
    /// The physical address is where the virtual one leads, not a page table's.
    pub gva_gpa_valid: bool,
    /// The output of a hypercall could not be written.
    pub hypercall_output_pending: bool,
    /// The TLB is locked.
    pub tlb_locked: bool,
    #[bits(4)]
    _reserved: u8,
}

/// `hv_x64_io_port_access_info`.
#[bitfield(u8)]
#[derive(PartialEq, Eq)]
pub struct X64PortAccess {
    /// Bytes of the access: 1, 2 or 4.
    #[bits(3)]
    pub size: u8,
    /// INS or OUTS.
    pub string: bool,
    /// With a REP prefix.
    pub rep: bool,
    #[bits(3)]
    _reserved: u8,
}

/// `hv_x64_exception_info`.
#[bitfield(u8)]
#[derive(PartialEq, Eq)]
pub struct X64ExceptionInfo {
    /// The exception has an error code.
    pub error_code_valid: bool,
    /// Raised by INT3, INTO or the like.
    pub software_exception: bool,
    #[bits(6)]
    _reserved: u8,
}

/// What a confidential guest wants of its pages (`hv_x64_gpa_attribute_intercept_message`).
#[bitfield(u32)]
#[derive(PartialEq, Eq)]
pub struct X64GpaAttributeRequest {
    /// Ranges that follow, at most 29.
    #[bits(5)]
    pub range_count: u8,
    /// The attributes are to change; else only the memory type is of interest.
    pub adjust: bool,
    /// Bit 0: the host may read; bit 1: it may write.
    #[bits(2)]
    pub host_visibility: u8,
    /// Memory type.
    #[bits(6)]
    pub memory_type: u8,
    #[bits(18)]
    _reserved: u32,
}

bit_fields! {
    X64GpaAttributeRequest(u32),
    X64Instruction(u8),
    X64ExecutionState(u16),
    X64MemoryAccess(u8),
    X64PortAccess(u8),
    X64ExceptionInfo(u8),
}
