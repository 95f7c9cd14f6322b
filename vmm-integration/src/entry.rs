// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! The state in which a multiboot image is entered.

use anyhow::{Context, Result};
use kvm_bindings::{kvm_regs, kvm_segment, kvm_sregs};
use kvm_ioctls::VcpuFd;

/// Where a loaded image begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Guest-physical address of the first instruction, below 4 GiB.
    pub rip: u32,
    /// Guest-physical address of the multiboot information structure.
    pub info: u32,
}

impl Entry {
    /// Sets the vCPU to 32-bit protected mode without paging, with flat segments and interrupts off
    /// (Multiboot Specification 0.6.96, 3.2).
    pub fn apply(self, vcpu: &VcpuFd) -> Result<()> {
        let mut sregs = vcpu.get_sregs().context("Cannot read the boot vCPU")?;
        protected_mode(&mut sregs);
        let regs = kvm_regs {
            rax: BOOT_MAGIC,
            rbx: u64::from(self.info),
            rip: u64::from(self.rip),
            rflags: RFLAGS_RESERVED,
            ..Default::default()
        };
        vcpu.set_sregs(&sregs)
            .and_then(|()| vcpu.set_regs(&regs))
            .context("Cannot set up the boot vCPU")
    }
}

fn protected_mode(sregs: &mut kvm_sregs) {
    let data = kvm_segment {
        limit: 0xffff_ffff,
        selector: 0x10,
        type_: 0x3,
        present: 1,
        db: 1,
        s: 1,
        g: 1,
        ..Default::default()
    };
    let code = kvm_segment {
        selector: 0x8,
        type_: 0xb,
        ..data
    };
    (sregs.cs, sregs.ds, sregs.es) = (code, data, data);
    (sregs.fs, sregs.gs, sregs.ss) = (data, data, data);
    sregs.cr0 = CR0_PE | CR0_ET;
}

const BOOT_MAGIC: u64 = 0x2bad_b002;
const RFLAGS_RESERVED: u64 = 1 << 1;
const CR0_PE: u64 = 1 << 0;
const CR0_ET: u64 = 1 << 4;
