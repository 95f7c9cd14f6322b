// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! The "zero page" that a kernel is handed (Linux: Documentation/arch/x86/boot.rst and
//! zero-page.rst).

use anyhow::{Context, Result};
use linux_loader::loader::bootparam::{boot_e820_entry, boot_params, setup_header};

use super::{CMDLINE_GPA, CMDLINE_MAX, HIGH_MEMORY, acpi};

/// Describes memory, command line, initrd (its address and size) and ACPI to the kernel with this
/// header.
pub fn boot_params(
    header: &setup_header,
    memory_size: u64,
    (initrd, initrd_size): (u32, u32),
) -> Result<boot_params> {
    let mut params = boot_params {
        hdr: *header,
        acpi_rsdp_addr: acpi::TABLES,
        ..Default::default()
    };
    params.hdr.type_of_loader = LOADER_UNDEFINED;
    params.hdr.cmd_line_ptr = u32::try_from(CMDLINE_GPA)?;
    params.hdr.ramdisk_image = initrd;
    params.hdr.ramdisk_size = initrd_size;
    let high = memory_size
        .checked_sub(HIGH_MEMORY)
        .context("Linux needs more than 1 MiB of guest memory")?;
    let map = [
        (0, LOW_MEMORY_END, E820_RAM),
        (acpi::TABLES, HIGH_MEMORY - acpi::TABLES, E820_RESERVED),
        (HIGH_MEMORY, high, E820_RAM),
    ];
    let mut table = params.e820_table;
    for (entry, (addr, size, kind)) in table.iter_mut().zip(map) {
        *entry = boot_e820_entry {
            addr,
            size,
            r#type: kind,
        };
    }
    params.e820_table = table;
    params.e820_entries = u8::try_from(map.len())?;
    Ok(params)
}

/// The header of a kernel that is no bzImage and so has none.
pub fn vmlinux_header() -> setup_header {
    setup_header {
        boot_flag: BOOT_FLAG,
        header: u32::from_le_bytes(*b"HdrS"),
        kernel_alignment: ALIGNMENT,
        cmdline_size: CMDLINE_MAX,
        initrd_addr_max: u32::MAX,
        ..Default::default()
    }
}

/// The end of RAM below 1 MiB: where a PC's EBDA would begin.
const LOW_MEMORY_END: u64 = 0x9_fc00;
const E820_RAM: u32 = 1;
const E820_RESERVED: u32 = 2;
const LOADER_UNDEFINED: u8 = 0xff;
const BOOT_FLAG: u16 = 0xaa55;
/// `CONFIG_PHYSICAL_ALIGN` at most.
const ALIGNMENT: u32 = 16 << 20;
