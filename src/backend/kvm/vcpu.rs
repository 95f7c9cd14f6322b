// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! A vCPU's SynIC in KVM: switched on, and its MSRs.

use kvm_bindings::{
    KVM_CAP_HYPERV_SYNIC, KVM_CAP_HYPERV_SYNIC2, Msrs, kvm_enable_cap, kvm_msr_entry,
};
use kvm_ioctls::VcpuFd;

use super::Error;
use crate::VpIndex;

/// Switches KVM's SynIC of a vCPU on, by KVM_CAP_HYPERV_SYNIC2 or, on a KVM without it, by
/// KVM_CAP_HYPERV_SYNIC. With the former the manager alone zeroes pages, with the latter KVM does so
/// before. Once only: to repeat it would reset SCONTROL.
///
/// # Errors
/// [`Error::EnableSynic`]: KVM has neither, or the VM has no irqchip in the kernel.
pub fn enable(vcpu: &VcpuFd, vp: VpIndex) -> Result<(), Error> {
    let enable = |cap| {
        vcpu.enable_cap(&kvm_enable_cap {
            cap,
            ..Default::default()
        })
    };
    enable(KVM_CAP_HYPERV_SYNIC2)
        .or_else(|_| enable(KVM_CAP_HYPERV_SYNIC))
        .map_err(|source| Error::EnableSynic {
            vp: vp.get(),
            source,
        })
}

/// Writes one MSR as the host: not filtered, and with no exit.
pub(super) fn set(vcpu: &VcpuFd, vp: VpIndex, msr: u32, value: u64) -> Result<(), Error> {
    let failed = |source| Error::SetMsr {
        vp: vp.get(),
        msr,
        source,
    };
    let entry = kvm_msr_entry {
        index: msr,
        data: value,
        ..Default::default()
    };
    let msrs = Msrs::from_entries(&[entry]).map_err(|_| failed(None))?;
    match vcpu.set_msrs(&msrs) {
        Ok(1) => Ok(()),
        Ok(_) => Err(failed(None)),
        Err(error) => Err(failed(Some(error))),
    }
}

/// Reads one, likewise.
pub(super) fn get(vcpu: &VcpuFd, vp: VpIndex, msr: u32) -> Result<u64, Error> {
    let failed = |source| Error::GetMsr {
        vp: vp.get(),
        msr,
        source,
    };
    let entry = kvm_msr_entry {
        index: msr,
        ..Default::default()
    };
    let mut msrs = Msrs::from_entries(&[entry]).map_err(|_| failed(None))?;
    let count = vcpu.get_msrs(&mut msrs).map_err(|e| failed(Some(e)))?;
    let entry = msrs.as_slice().first().filter(|_| count == 1);
    entry.map(|entry| entry.data).ok_or(failed(None))
}
