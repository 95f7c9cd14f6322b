// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! The state in which an image is entered.

use anyhow::{Context, Result};
use kvm_bindings::{kvm_regs, kvm_segment, kvm_sregs};
use kvm_ioctls::VcpuFd;

use crate::linux::{GDT, GDT_LIMIT, PML4, segments};

/// Where a loaded image begins, and in which mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry {
    /// In 32-bit protected mode without paging (Multiboot Specification 0.6.96, 3.2).
    Multiboot {
        /// Guest-physical address of the first instruction, below 4 GiB.
        rip: u32,
        /// Guest-physical address of the multiboot information structure.
        info: u32,
    },
    /// In long mode, with the first 4 GiB mapped to themselves (Linux:
    /// Documentation/arch/x86/boot.rst, "64-bit Boot Protocol").
    Linux {
        /// Guest-physical address of the first instruction.
        rip: u64,
        /// Guest-physical address of `boot_params`.
        boot_params: u64,
    },
}

impl Entry {
    /// Sets the vCPU to that state, with flat segments and interrupts off.
    pub fn apply(self, vcpu: &VcpuFd) -> Result<()> {
        let mut sregs = vcpu.get_sregs().context("Cannot read the boot vCPU")?;
        let regs = match self {
            Self::Multiboot { rip, info } => {
                protected_mode(&mut sregs);
                kvm_regs {
                    rax: BOOT_MAGIC,
                    rbx: info.into(),
                    rip: rip.into(),
                    rflags: RFLAGS_RESERVED,
                    ..Default::default()
                }
            }
            Self::Linux { rip, boot_params } => {
                long_mode(&mut sregs);
                kvm_regs {
                    rsi: boot_params,
                    rip,
                    rflags: RFLAGS_RESERVED,
                    ..Default::default()
                }
            }
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
    set_segments(sregs, code, data);
    sregs.cr0 = CR0_PE | CR0_ET;
}

fn long_mode(sregs: &mut kvm_sregs) {
    let (code, data) = segments();
    set_segments(sregs, code, data);
    (sregs.gdt.base, sregs.gdt.limit) = (GDT, GDT_LIMIT);
    sregs.cr3 = PML4;
    sregs.cr4 |= CR4_PAE;
    sregs.cr0 = CR0_PE | CR0_ET | CR0_PG;
    sregs.efer |= EFER_LME | EFER_LMA;
}

fn set_segments(sregs: &mut kvm_sregs, code: kvm_segment, data: kvm_segment) {
    (sregs.cs, sregs.ds, sregs.es) = (code, data, data);
    (sregs.fs, sregs.gs, sregs.ss) = (data, data, data);
}

const BOOT_MAGIC: u64 = 0x2bad_b002;
/// Bit 1 is always 1.
const RFLAGS_RESERVED: u64 = 1 << 1;
const CR0_PE: u64 = 1 << 0;
const CR0_ET: u64 = 1 << 4;
const CR0_PG: u64 = 1 << 31;
const CR4_PAE: u64 = 1 << 5;
const EFER_LME: u64 = 1 << 8;
const EFER_LMA: u64 = 1 << 10;
