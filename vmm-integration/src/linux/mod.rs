// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! Boots unmodified Linux kernels, by the 64-bit boot protocol and with ACPI tables that describe
//! this machine: no firmware, no PCI, no legacy devices but COM1, and VMBus.

mod acpi;
mod boot_params;
mod long_mode;

use std::io::Cursor;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use linux_loader::loader::bootparam::setup_header;
use linux_loader::loader::{BzImage, Elf, KernelLoader};
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};

use crate::devices::{Cmos, Console, Power, SerialPort, cmos, power};
use crate::entry::Entry;
use crate::multiboot::{self, Boot};
use crate::vm::Vm;

pub use acpi::IOAPIC;
use acpi::{COM1, COM1_IRQ};
pub(crate) use long_mode::{GDT, GDT_LIMIT, PML4, segments};

/// What every Linux guest is told before what its user adds: later options win.
pub const CMDLINE: &str = "console=ttyS0 panic=-1";

/// The kinds of image that can be booted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kernel {
    /// A bare-metal image with a multiboot header.
    Multiboot,
    /// A compressed Linux kernel, as distributions ship it.
    BzImage,
    /// An uncompressed Linux kernel: the 64-bit ELF file that a kernel build makes.
    Vmlinux,
}

impl Kernel {
    /// Looks at the file's headers. What is nothing else is taken for a multiboot image, so that it
    /// is the multiboot loader that says what is wrong with it.
    pub fn of(image: &[u8]) -> Self {
        if image.get(HEADER_MAGIC_AT..HEADER_MAGIC_AT + 4) == Some(b"HdrS") {
            return Self::BzImage;
        }
        match image.get(..5) {
            Some(b"\x7fELF\x02") if !multiboot::has_header(image) => Self::Vmlinux,
            _ => Self::Multiboot,
        }
    }

    /// Whether it is Linux.
    pub fn is_linux(self) -> bool {
        self != Self::Multiboot
    }
}

/// Adds what the ACPI tables describe: COM1, which writes to `console`, and the ports for power and
/// reset; and the clock, which they do not.
pub fn add_devices(vm: &mut Vm, console: Console) -> Arc<SerialPort> {
    let com1 = Arc::new(SerialPort::new(console, Some(vm.interrupt_line(COM1_IRQ))));
    vm.add_device(COM1..=COM1 + 7, com1.clone());
    vm.add_device(cmos::INDEX..=cmos::DATA, Arc::new(Cmos::new()));
    for port in power::PORTS {
        vm.add_device(port..=port, Arc::new(Power));
    }
    com1
}

/// Copies kernel, initrd, command line and all that describes the machine into guest memory.
///
/// `memory_size` is the number of bytes of RAM from GPA 0.
pub fn load(
    memory: &GuestMemoryMmap,
    memory_size: u64,
    vcpus: u32,
    boot: Boot<'_>,
) -> Result<Entry> {
    let kernel = load_kernel(memory, boot.image)?;
    let initrd = boot.module.unwrap_or_default();
    let initrd = load_initrd(memory, memory_size, &kernel, initrd)?;
    load_cmdline(memory, &kernel, boot.cmdline)?;
    let params = boot_params::boot_params(&kernel.header, memory_size, initrd)?;
    memory
        .write_obj(params, GuestAddress(BOOT_PARAMS))
        .context("Guest memory has no room for the boot parameters")?;
    let tables = acpi::tables(u8::try_from(vcpus)?);
    write(memory, acpi::TABLES, &tables)?;
    write(memory, RESET_VECTOR, RESET_CODE)?;
    long_mode::write(memory)?;
    Ok(Entry::Linux {
        rip: kernel.entry,
        boot_params: BOOT_PARAMS,
    })
}

/// A kernel in guest memory.
struct Loaded {
    header: setup_header,
    entry: u64,
    /// The end of what the kernel uses before it knows what RAM is taken.
    end: u64,
}

fn load_kernel(memory: &GuestMemoryMmap, image: &[u8]) -> Result<Loaded> {
    let mut file = Cursor::new(image);
    if Kernel::of(image) == Kernel::Vmlinux {
        let loaded = Elf::load(memory, None, &mut file, Some(GuestAddress(HIGH_MEMORY)));
        let loaded = loaded.context("Cannot load the ELF kernel into guest memory")?;
        return Ok(Loaded {
            header: boot_params::vmlinux_header(),
            entry: loaded.kernel_load.0,
            end: loaded.kernel_end,
        });
    }
    let loaded = BzImage::load(memory, None, &mut file, Some(GuestAddress(HIGH_MEMORY)));
    let loaded = loaded.context("Cannot load the bzImage into guest memory")?;
    let header = loaded.setup_header.context("The bzImage has no header")?;
    ensure!(
        header.version >= PROTOCOL_2_12 && header.xloadflags & XLF_KERNEL_64 != 0,
        "The bzImage has no 64-bit entry point: it is a 32-bit kernel, or one older than 3.8"
    );
    // The decompressor unpacks to its preferred address and works in `init_size` bytes there.
    let unpacked = header.pref_address.saturating_add(header.init_size.into());
    Ok(Loaded {
        header,
        entry: loaded.kernel_load.0.saturating_add(ENTRY_64),
        end: loaded.kernel_end.max(unpacked),
    })
}

/// Puts the initrd as high as the kernel takes it, out of the way of whatever it unpacks; returns
/// where it is and its size.
fn load_initrd(
    memory: &GuestMemoryMmap,
    memory_size: u64,
    kernel: &Loaded,
    initrd: &[u8],
) -> Result<(u32, u32)> {
    ensure!(
        kernel.end <= memory_size,
        "The kernel needs at least {} MiB of guest memory",
        kernel.end.div_ceil(1 << 20)
    );
    if initrd.is_empty() {
        return Ok((0, 0));
    }
    let highest = u64::from(kernel.header.initrd_addr_max).saturating_add(1);
    let size = initrd.len() as u64;
    let start = memory_size.min(highest).checked_sub(size);
    let start = start.map(|start| start & !(PAGE - 1));
    let start = start
        .filter(|start| *start >= kernel.end)
        .with_context(|| {
            let mib = kernel.end.saturating_add(size).div_ceil(1 << 20);
            format!("Kernel and initrd need at least {mib} MiB of guest memory")
        })?;
    write(memory, start, initrd)?;
    Ok((u32::try_from(start)?, u32::try_from(size)?))
}

fn load_cmdline(memory: &GuestMemoryMmap, kernel: &Loaded, cmdline: &str) -> Result<()> {
    let most = u32::min(kernel.header.cmdline_size, CMDLINE_MAX);
    ensure!(
        cmdline.len() <= most as usize,
        "The command line is longer than the {most} bytes that the kernel takes"
    );
    write(memory, CMDLINE_GPA, &[cmdline.as_bytes(), &[0]].concat())
}

fn write(memory: &GuestMemoryMmap, gpa: u64, bytes: &[u8]) -> Result<()> {
    memory
        .write_slice(bytes, GuestAddress(gpa))
        .with_context(|| {
            format!(
                "Guest memory has no room for {} bytes at {gpa:#x}",
                bytes.len()
            )
        })
}

/// Below 1 MiB, in RAM that Linux reserves or has no more use for when it hands it out; clear of
/// GPA 0, and of what `long_mode` puts there.
const BOOT_PARAMS: u64 = 0x7000;
const CMDLINE_GPA: u64 = 0x2_0000;
const CMDLINE_MAX: u32 = 0xffff;
/// FFFF:0000, where a PC's firmware begins. Linux jumps there to restart a hardware-reduced machine
/// without EFI: it takes all of those for EFI's (`efi_reboot_required`), and then tries the BIOS.
const RESET_VECTOR: u64 = 0xf_fff0;
/// MOV DX, 0xCF9; MOV AL, 6; OUT DX, AL; HLT; JMP back to it: [`power::RESET`].
const RESET_CODE: &[u8] = &[0xba, 0xf9, 0x0c, 0xb0, 0x06, 0xee, 0xf4, 0xeb, 0xfd];
const HIGH_MEMORY: u64 = 1 << 20;
const PAGE: u64 = 4096;

/// Linux: Documentation/arch/x86/boot.rst.
const HEADER_MAGIC_AT: usize = 0x202;
const PROTOCOL_2_12: u16 = 0x020c;
const XLF_KERNEL_64: u16 = 1 << 0;
/// Where `startup_64` is in what a bzImage's setup code is followed by.
const ENTRY_64: u64 = 0x200;

#[cfg(test)]
mod tests;
