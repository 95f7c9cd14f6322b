// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! A vCPU's SynIC in KVM: switched on, and brought in step with the manager.

use kvm_bindings::{
    KVM_CAP_HYPERV_SYNIC, KVM_CAP_HYPERV_SYNIC2, Msrs, kvm_enable_cap, kvm_msr_entry,
};
use kvm_ioctls::VcpuFd;

use super::Error;
use crate::{GuestSpace, SynicManager, VpIndex};

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

/// Gives KVM the registers that the manager holds for a VP, and the VP's index. The vCPU must not
/// run.
///
/// # Errors
/// [`Error::SetMsr`]: the vCPU's SynIC is not enabled, as a rule.
pub fn load<AS: GuestSpace>(
    manager: &SynicManager<AS>,
    vp: VpIndex,
    vcpu: &VcpuFd,
) -> Result<(), Error> {
    set(vcpu, vp, MSR_VP_INDEX, vp.get().into())?;
    let sints = (0..16).map(|sint| MSR_SINT0 + sint);
    for msr in [MSR_SIEFP, MSR_SIMP]
        .into_iter()
        .chain(sints)
        .chain([MSR_SCONTROL])
    {
        // A VP that the manager does not know has nothing to give.
        if let Ok(value) = manager.read_msr(vp, msr) {
            set(vcpu, vp, msr, value)?;
        }
    }
    Ok(())
}

/// After the manager was reset: KVM's part of the vCPU's Hyper-V state, which a reset of the vCPU
/// leaves alone (`kvm: kvm_vcpu_reset`), likewise.
///
/// # Errors
/// As for [`load`].
pub fn reset<AS: GuestSpace>(
    manager: &SynicManager<AS>,
    vp: VpIndex,
    vcpu: &VcpuFd,
) -> Result<(), Error> {
    for msr in MSRS_OF_KVM {
        set(vcpu, vp, msr, 0)?;
    }
    load(manager, vp, vcpu)
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

const MSR_VP_INDEX: u32 = 0x4000_0002;
const MSR_SCONTROL: u32 = 0x4000_0080;
const MSR_SIEFP: u32 = 0x4000_0082;
const MSR_SIMP: u32 = 0x4000_0083;
const MSR_SINT0: u32 = 0x4000_0090;
/// STIMERn_CONFIG and _COUNT, VP_ASSIST_PAGE, REFERENCE_TSC, and GUEST_OS_ID, which takes HYPERCALL
/// with it.
const MSRS_OF_KVM: [u32; 11] = [
    0x4000_00B0,
    0x4000_00B1,
    0x4000_00B2,
    0x4000_00B3,
    0x4000_00B4,
    0x4000_00B5,
    0x4000_00B6,
    0x4000_00B7,
    0x4000_0073,
    0x4000_0021,
    0x4000_0000,
];
