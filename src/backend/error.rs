// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! What can go wrong between the manager and KVM.

use crate::ConnectionId;
use kvm_ioctls::Error as KvmError;
use thiserror::Error;

/// An ioctl that KVM refused, or a VP the injector was not built for.
///
/// All of these are faults of the host or of the VMM; nothing a guest does leads to one.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Error {
    /// KVM is older than 5.10 or was built without MSR filtering.
    #[error("KVM lacks {0}, which this backend needs")]
    MissingCapability(&'static str),
    /// `KVM_ENABLE_CAP(KVM_CAP_X86_USER_SPACE_MSR)` failed.
    #[error("Cannot route denied MSR accesses to user space")]
    EnableUserSpaceMsr(#[source] KvmError),
    /// `KVM_X86_SET_MSR_FILTER` failed.
    #[error("Cannot install the MSR filter")]
    SetMsrFilter(#[source] KvmError),
    /// The vCPU's registers could not be read for a hypercall.
    #[error("Cannot read the registers of VP {vp}")]
    GetRegisters {
        /// The VP that made the hypercall.
        vp: u32,
        /// Why KVM refused.
        #[source]
        source: KvmError,
    },
    /// The hypercall's result could not be written to the vCPU.
    #[error("Cannot write the registers of VP {vp}")]
    SetRegisters {
        /// The VP that made the hypercall.
        vp: u32,
        /// Why KVM refused.
        #[source]
        source: KvmError,
    },
    /// The vCPU's LAPIC could not be made to accept an external interrupt.
    #[error("Cannot open LINT0 of VP {vp} for external interrupts")]
    Lapic {
        /// The VP whose LAPIC was accessed.
        vp: u32,
        /// Why KVM refused.
        #[source]
        source: KvmError,
    },
    /// `KVM_INTERRUPT` failed for another reason than a vector already waiting.
    #[error("Cannot inject vector {vector:#x} into VP {vp}")]
    Interrupt {
        /// The VP to interrupt.
        vp: u32,
        /// The vector of the SINT.
        vector: u8,
        /// Why KVM refused.
        #[source]
        source: KvmError,
    },
    /// The injector was built for fewer VPs.
    #[error("VP {0} is unknown to the injector")]
    UnknownVp(u32),
    /// `KVM_ENABLE_CAP` refused the SynIC of a vCPU.
    #[error("Cannot enable KVM's SynIC on VP {vp}; it needs an irqchip in the kernel")]
    EnableSynic {
        /// The VP of the vCPU.
        vp: u32,
        /// Why KVM refused.
        #[source]
        source: KvmError,
    },
    /// KVM did not take a register that the manager holds.
    #[error("Cannot write MSR {msr:#x} of VP {vp}")]
    SetMsr {
        /// The VP of the vCPU.
        vp: u32,
        /// The MSR.
        msr: u32,
        /// Why KVM refused; none if it took fewer MSRs than it was given.
        #[source]
        source: Option<KvmError>,
    },
    /// KVM did not tell a register.
    #[error("Cannot read MSR {msr:#x} of VP {vp}")]
    GetMsr {
        /// The VP of the vCPU.
        vp: u32,
        /// The MSR.
        msr: u32,
        /// Why KVM refused; none if it told fewer MSRs than it was asked for.
        #[source]
        source: Option<KvmError>,
    },
    /// The exit that was to be served is another one.
    #[error("Exit reason {0} is not one of KVM's SynIC")]
    WrongExit(u32),
    /// `KVM_HYPERV_EVENTFD` failed.
    #[error("Cannot bind {connection} to an eventfd")]
    BindSignal {
        /// The connection of the guest's HvSignalEvent.
        connection: ConnectionId,
        /// Why KVM refused.
        #[source]
        source: KvmError,
    },
}
