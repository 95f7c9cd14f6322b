// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! What a CPU in long mode needs in memory before it runs its first instruction: page tables that
//! map the first 4 GiB to themselves, and the GDT of the 64-bit boot protocol.

use anyhow::{Context, Result};
use kvm_bindings::kvm_segment;
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};

/// Writes both.
pub fn write(memory: &GuestMemoryMmap) -> Result<()> {
    let tables = (0..GIGABYTES).map(|i| (PDPT + 8 * i, (PD + PAGE * i) | PRESENT_WRITABLE));
    let pages = (0..GIGABYTES * 512).map(|i| (PD + 8 * i, i << 21 | PRESENT_WRITABLE | LARGE));
    let gdt = (0..).step_by(8).zip([0, 0, CODE, DATA]);
    let entries = [(PML4, PDPT | PRESENT_WRITABLE)].into_iter();
    let entries = entries.chain(tables).chain(pages);
    for (gpa, value) in entries.chain(gdt.map(|(at, value)| (GDT + at, value))) {
        memory
            .write_obj(value, GuestAddress(gpa))
            .with_context(|| format!("Guest memory has no room for a page table at {gpa:#x}"))?;
    }
    Ok(())
}

/// The code and the data segment, as a CPU has loaded them from the GDT.
pub fn segments() -> (kvm_segment, kvm_segment) {
    let data = kvm_segment {
        limit: 0xffff_ffff,
        selector: 0x18,
        type_: 0x3,
        present: 1,
        db: 1,
        s: 1,
        g: 1,
        ..Default::default()
    };
    let code = kvm_segment {
        selector: 0x10,
        type_: 0xb,
        db: 0,
        l: 1,
        ..data
    };
    (code, data)
}

/// `__BOOT_CS` and `__BOOT_DS` are its entries 2 and 3.
pub const GDT: u64 = 0x500;
/// The offset of its last byte.
pub const GDT_LIMIT: u16 = 31;
/// The top-level page table.
pub const PML4: u64 = 0x9000;

const PDPT: u64 = PML4 + PAGE;
const PD: u64 = PDPT + PAGE;
const GIGABYTES: u64 = 4;
const PAGE: u64 = 4096;
const PRESENT_WRITABLE: u64 = 1 << 0 | 1 << 1;
const LARGE: u64 = 1 << 7;
/// Flat segments, execute/read and read/write.
const CODE: u64 = 0x00af_9b00_0000_ffff;
const DATA: u64 = 0x00cf_9300_0000_ffff;
