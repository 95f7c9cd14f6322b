// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

use super::*;
use crate::elf::tests::elf;
use linux_loader::loader::bootparam::boot_params;
use vm_memory::ByteValued;

const SIZE: u64 = 64 << 20;
const CONTENTS: &[u8] = b"startup_32";

fn memory() -> GuestMemoryMmap {
    GuestMemoryMmap::from_ranges(&[(GuestAddress(0), SIZE as usize)]).unwrap()
}

/// Of a relocatable 64-bit kernel of 3.8 or later that unpacks to 16 MiB and needs 8 there.
fn header() -> setup_header {
    setup_header {
        setup_sects: 1,
        boot_flag: 0xaa55,
        header: u32::from_le_bytes(*b"HdrS"),
        version: 0x020f,
        loadflags: 1,
        code32_start: 0x10_0000,
        initrd_addr_max: 0x7fff_ffff,
        xloadflags: XLF_KERNEL_64,
        cmdline_size: 255,
        pref_address: 16 << 20,
        init_size: 8 << 20,
        ..Default::default()
    }
}

fn bzimage(header: &setup_header) -> Vec<u8> {
    let mut image = vec![0; 1024];
    let bytes = header.as_slice();
    image[0x1f1..0x1f1 + bytes.len()].copy_from_slice(bytes);
    image.extend_from_slice(CONTENTS);
    image
}

fn boot<'a>(image: &'a [u8], initrd: Option<&'a [u8]>) -> Boot<'a> {
    Boot {
        image,
        cmdline: "console=ttyS0",
        module: initrd,
    }
}

fn params(memory: &GuestMemoryMmap) -> boot_params {
    memory.read_obj(GuestAddress(BOOT_PARAMS)).unwrap()
}

fn bytes(memory: &GuestMemoryMmap, gpa: u64, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    memory.read_slice(&mut bytes, GuestAddress(gpa)).unwrap();
    bytes
}

fn refusal(memory_size: u64, boot: Boot<'_>) -> String {
    format!("{:#}", load(&memory(), memory_size, 1, boot).unwrap_err())
}

#[test]
fn of_each_kind_of_image_tells_them_apart() {
    assert_eq!(Kernel::of(&bzimage(&header())), Kernel::BzImage);
    let vmlinux = elf(2, 0x100_0000, 0x100_0000, CONTENTS, 0);
    assert_eq!(Kernel::of(&vmlinux), Kernel::Vmlinux);
    assert_eq!(Kernel::of(&elf(1, 0, 0, CONTENTS, 0)), Kernel::Multiboot);
    assert_eq!(Kernel::of(b"#!/bin/sh"), Kernel::Multiboot);
    let mut demo: Vec<u8> = 0x1bad_b002u32.to_le_bytes().into();
    demo.extend([0; 4]);
    demo.extend(0u32.wrapping_sub(0x1bad_b002).to_le_bytes());
    assert_eq!(Kernel::of(&elf(2, 0, 0, &demo, 0)), Kernel::Multiboot);
}

#[test]
fn load_of_a_bzimage_enters_its_64_bit_entry_point() {
    let memory = memory();
    let image = bzimage(&header());
    let entry = load(&memory, SIZE, 2, boot(&image, None)).unwrap();
    let expected = Entry::Linux {
        rip: 0x10_0200,
        boot_params: BOOT_PARAMS,
    };
    assert_eq!(entry, expected);
    assert_eq!(bytes(&memory, 0x10_0000, CONTENTS.len()), CONTENTS);
}

#[test]
fn load_describes_cmdline_memory_and_acpi() {
    let memory = memory();
    let image = bzimage(&header());
    load(&memory, SIZE, 2, boot(&image, None)).unwrap();
    let params = params(&memory);
    let cmdline = u64::from(params.hdr.cmd_line_ptr);
    assert_eq!(bytes(&memory, cmdline, 14), b"console=ttyS0\0");
    let rsdp = params.acpi_rsdp_addr;
    assert_eq!(bytes(&memory, rsdp, 8), b"RSD PTR ");
    let table = params.e820_table;
    let ram = table.iter().take(params.e820_entries.into());
    let ram = ram.filter(|entry| { entry.r#type } == 1);
    let ends: Vec<u64> = ram.map(|entry| entry.addr + entry.size).collect();
    assert_eq!(ends, [0x9_fc00, SIZE]);
}

#[test]
fn load_puts_the_initrd_high_but_not_above_what_the_kernel_takes() {
    for (highest, start) in [(0x7fff_ffff, SIZE - 0x2000), (0x2ff_ffff, 0x2ff_e000)] {
        let memory = memory();
        let limited = setup_header {
            initrd_addr_max: highest,
            ..header()
        };
        let image = bzimage(&limited);
        load(&memory, SIZE, 1, boot(&image, Some(&[7; 0x1001]))).unwrap();
        let hdr = params(&memory).hdr;
        let found = (u64::from(hdr.ramdisk_image), { hdr.ramdisk_size });
        assert_eq!(found, (start, 0x1001));
        assert_eq!(bytes(&memory, start, 0x1001), [7; 0x1001]);
    }
}

#[test]
fn load_of_a_vmlinux_enters_the_elf_entry_point_with_a_header() {
    let memory = memory();
    let image = elf(2, 0x100_0000, 0x100_0000, CONTENTS, 0x2000);
    let entry = load(&memory, SIZE, 1, boot(&image, None)).unwrap();
    assert!(
        matches!(
            entry,
            Entry::Linux {
                rip: 0x100_0000,
                ..
            }
        ),
        "{entry:?}"
    );
    let hdr = params(&memory).hdr;
    assert_eq!({ hdr.header }.to_le_bytes(), *b"HdrS");
}

#[test]
fn load_maps_the_entry_point_and_the_gdt_of_the_boot_protocol() {
    let memory = memory();
    let image = bzimage(&header());
    load(&memory, SIZE, 1, boot(&image, None)).unwrap();
    let at = |gpa| memory.read_obj::<u64>(GuestAddress(gpa)).unwrap();
    let pdpt = at(PML4) & !0xfff;
    let pd = at(pdpt + 3 * 8) & !0xfff;
    assert_eq!(at(pd + 511 * 8), 0xffe0_0083);
    // Code is long mode's, data is not.
    assert_eq!([2, 3].map(|i| at(GDT + 8 * i) >> 53 & 1), [1, 0]);
}

#[test]
fn load_puts_a_reset_at_the_reset_vector() {
    let memory = memory();
    let image = bzimage(&header());
    load(&memory, SIZE, 1, boot(&image, None)).unwrap();
    let code = bytes(&memory, 0xf_fff0, 9);
    let port = u16::from_le_bytes([code[1], code[2]]);
    assert_eq!((port, code[4]), (power::RESET, power::RESET_VALUE));
}

#[test]
fn load_when_kernel_and_initrd_do_not_fit_says_how_much_they_need() {
    let image = bzimage(&header());
    assert!(refusal(23 << 20, boot(&image, None)).contains("at least 24 MiB"));
    let initrd = vec![0; 2 << 20];
    let message = refusal(25 << 20, boot(&image, Some(&initrd)));
    assert!(message.contains("at least 26 MiB"), "{message}");
}

#[test]
fn load_of_a_32_bit_or_cut_kernel_is_refused() {
    let old = setup_header {
        xloadflags: 0,
        ..header()
    };
    assert!(refusal(SIZE, boot(&bzimage(&old), None)).contains("64-bit entry point"));
    let cut = &bzimage(&header())[..0x206];
    assert!(refusal(SIZE, boot(cut, None)).contains("bzImage"));
}

#[test]
fn load_when_the_cmdline_is_longer_than_the_kernel_takes_is_refused() {
    let image = bzimage(&header());
    let cmdline = "x".repeat(256);
    let long = Boot {
        cmdline: &cmdline,
        ..boot(&image, None)
    };
    assert!(refusal(SIZE, long).contains("255 bytes"));
}
