// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! MSRs of a vCPU, one by one.

use anyhow::{Context, Result, ensure};
use kvm_bindings::{Msrs, kvm_msr_entry};
use kvm_ioctls::VcpuFd;

/// Writes an MSR as the host.
pub fn set(vcpu: &VcpuFd, msr: u32, value: u64) -> Result<()> {
    let written = vcpu.set_msrs(&Msrs::from_entries(&[entry(msr, value)])?)?;
    ensure!(written == 1, "KVM refuses {value:#x} for MSR {msr:#x}");
    Ok(())
}

/// Reads an MSR as the host.
pub fn get(vcpu: &VcpuFd, msr: u32) -> Result<u64> {
    let mut msrs = Msrs::from_entries(&[entry(msr, 0)])?;
    let read = vcpu.get_msrs(&mut msrs)?;
    let value = msrs.as_slice().first().filter(|_| read == 1);
    Ok(value
        .with_context(|| format!("KVM has no MSR {msr:#x}"))?
        .data)
}

/// As KVM takes it.
pub fn entry(index: u32, data: u64) -> kvm_msr_entry {
    kvm_msr_entry {
        index,
        data,
        ..Default::default()
    }
}
