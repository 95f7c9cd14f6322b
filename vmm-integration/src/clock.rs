// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! A guest's time in a saved state: its TSC and its reference time of one moment, whoever keeps them.
//! While it is saved, the guest's time stands still.

use anyhow::{Context, Result, bail, ensure};
use kvm_bindings::{Msrs, kvm_clock_data};
use kvm_ioctls::{VcpuFd, VmFd};
use serde::{Deserialize, Serialize};

use crate::msr::{entry, set};

/// The time of one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Clock {
    /// Of all vCPUs.
    pub tsc: u64,
    /// Its frequency.
    pub khz: u32,
    /// In units of 100 ns.
    pub reference_time: u64,
    /// HV_X64_MSR_REFERENCE_TSC.
    pub reference_tsc: u64,
}

impl Clock {
    /// Where KVM keeps the reference time.
    pub fn of_kvm(vcpu: &VcpuFd, khz: u32) -> Result<Self> {
        let indices = [MSR_IA32_TSC, MSR_TIME_REF_COUNT, MSR_REFERENCE_TSC];
        let mut msrs = Msrs::from_entries(&indices.map(|index| entry(index, 0)))?;
        let read = vcpu.get_msrs(&mut msrs).context("Cannot read the time")?;
        let values = msrs.as_slice();
        let (3, [tsc, time, page]) = (read, values) else {
            bail!("KVM has no reference time");
        };
        Ok(Self {
            tsc: tsc.data,
            khz,
            reference_time: time.data,
            reference_tsc: page.data,
        })
    }

    /// Sets the TSC of all vCPUs, where it has this frequency. Before their LAPICs, whose timers may go
    /// by it.
    pub fn set_tsc(&self, vcpus: &[VcpuFd], khz: u32) -> Result<()> {
        let saved = self.khz;
        ensure!(
            saved == khz,
            "khz: the TSC had {saved} kHz, and has {khz} here"
        );
        for vcpu in vcpus {
            // To KVM, values so near to each other are meant to be the same (`kvm_synchronize_tsc`).
            set(vcpu, MSR_IA32_TSC, self.tsc).context("tsc")?;
        }
        Ok(())
    }

    /// Sets KVM's reference time, after the TSC.
    pub fn set_kvm(&self, vm: &VmFd, vcpu: &VcpuFd) -> Result<()> {
        let clock = kvm_clock_data {
            clock: self.reference_time.saturating_mul(NANOS_PER_UNIT),
            ..Default::default()
        };
        vm.set_clock(&clock).context("reference_time")?;
        set(vcpu, MSR_REFERENCE_TSC, self.reference_tsc).context("reference_tsc")
    }
}

const NANOS_PER_UNIT: u64 = 100;
const MSR_IA32_TSC: u32 = 0x10;
const MSR_TIME_REF_COUNT: u32 = 0x4000_0020;
const MSR_REFERENCE_TSC: u32 = 0x4000_0021;
