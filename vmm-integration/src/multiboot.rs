// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! Loads a multiboot 1 ELF image and describes the machine to it.
//!
//! Multiboot's "a.out kludge" and its requests for a memory map or a video mode are not supported:
//! an image must be ELF and its header's flags 0.

use std::ops::Range;

use thiserror::Error;
use vm_memory::{Bytes, GuestAddress, GuestMemory, GuestMemoryError};

use crate::elf::{self, Elf, Segment};
use crate::entry::Entry;

/// An image and what is handed to it.
#[derive(Clone, Copy, Debug)]
pub struct Boot<'a> {
    /// The ELF file.
    pub image: &'a [u8],
    /// The command line without a terminating NUL; its first word is the image's name.
    pub cmdline: &'a str,
    /// The one module, if there is any.
    pub module: Option<&'a [u8]>,
}

/// Why an image cannot be booted.
#[derive(Debug, Error)]
pub enum Error {
    /// Not an ELF file for x86, or a damaged one.
    #[error("The kernel is not a usable ELF image")]
    Elf(#[from] elf::Error),
    /// No header with the right magic number and checksum.
    #[error("No multiboot header in the first {HEADER_SEARCH} bytes of the kernel")]
    NoHeader,
    /// The header asks for something.
    #[error("The multiboot header has flags {0:#x}; only 0 is supported")]
    UnsupportedFlags(u32),
    /// The image covers what the loader itself writes.
    #[error("The kernel covers a part of GPA {INFO_AREA:#x?}, where the boot information goes")]
    OverlapsInfo,
    /// The entry point cannot be reached in 32-bit mode.
    #[error("The kernel's entry point {0:#x} is above 4 GiB")]
    EntryTooHigh(u64),
    /// No room before the end of the boot information area.
    #[error("The command line is longer than {MAX_CMDLINE} bytes")]
    CmdlineTooLong,
    /// The image or the module reaches beyond the end of RAM.
    #[error("The kernel or its module does not fit into guest memory: GPA {0:#x}")]
    TooLarge(u64, #[source] GuestMemoryError),
}

/// Copies image, module, command line and boot information into guest memory.
///
/// `memory_size` is the number of bytes of RAM from GPA 0, at least 1 MiB.
pub fn load(memory: &impl GuestMemory, memory_size: u64, boot: Boot<'_>) -> Result<Entry, Error> {
    check_header(boot.image)?;
    let elf = Elf::parse(boot.image)?;
    let rip = u32::try_from(elf.entry).map_err(|_| Error::EntryTooHigh(elf.entry))?;
    let mut end = INFO_AREA.end;
    for segment in &elf.segments {
        load_segment(memory, boot.image, segment)?;
        end = end.max(segment.gpa.end);
    }
    let module = load_module(memory, boot.module, end)?;
    write_info(memory, memory_size, boot.cmdline, module)?;
    let info = INFO_AREA.start as u32;
    Ok(Entry::Multiboot { rip, info })
}

/// Whether an image says that it is for this loader.
pub fn has_header(image: &[u8]) -> bool {
    !matches!(check_header(image), Err(Error::NoHeader))
}

fn check_header(image: &[u8]) -> Result<(), Error> {
    let searched = image.get(..HEADER_SEARCH).unwrap_or(image);
    let words: Vec<u32> = searched
        .chunks_exact(4)
        .filter_map(|bytes| bytes.try_into().ok().map(u32::from_le_bytes))
        .collect();
    let header = |w: &&[u32]| w.iter().fold(0, |sum: u32, v| sum.wrapping_add(*v)) == 0;
    words
        .windows(3)
        .filter(|w| w.first() == Some(&HEADER_MAGIC))
        .find(header)
        .and_then(|w| w.get(1))
        .ok_or(Error::NoHeader)
        .and_then(|flags| match flags {
            0 => Ok(()),
            flags => Err(Error::UnsupportedFlags(*flags)),
        })
}

fn load_segment(memory: &impl GuestMemory, image: &[u8], segment: &Segment) -> Result<(), Error> {
    if segment.gpa.start < INFO_AREA.end && INFO_AREA.start < segment.gpa.end {
        return Err(Error::OverlapsInfo);
    }
    // Parsing the ELF file has checked the range.
    let contents = image.get(segment.file.clone()).unwrap_or(&[]);
    write(memory, segment.gpa.start, contents)?;
    let zeroes_start = segment.gpa.start.saturating_add(contents.len() as u64);
    zero(memory, zeroes_start..segment.gpa.end)
}

/// After a reset RAM still has what the last guest has left there.
fn zero(memory: &impl GuestMemory, gpas: Range<u64>) -> Result<(), Error> {
    for start in gpas.clone().step_by(ZEROES.len()) {
        let length = (gpas.end - start).min(PAGE) as usize;
        write(memory, start, ZEROES.get(..length).unwrap_or(&ZEROES))?;
    }
    Ok(())
}

/// Puts the module on the page after the image, where boot loaders put it.
fn load_module(
    memory: &impl GuestMemory,
    module: Option<&[u8]>,
    image_end: u64,
) -> Result<Option<Range<u64>>, Error> {
    let Some(module) = module else {
        return Ok(None);
    };
    let start = image_end.next_multiple_of(PAGE);
    write(memory, start, module)?;
    Ok(Some(start..start.saturating_add(module.len() as u64)))
}

/// Writes the information structure, the module's entry and the command line.
fn write_info(
    memory: &impl GuestMemory,
    memory_size: u64,
    cmdline: &str,
    module: Option<Range<u64>>,
) -> Result<(), Error> {
    if cmdline.len() > MAX_CMDLINE || cmdline.contains('\0') {
        return Err(Error::CmdlineTooLong);
    }
    let modules = u64::from(module.is_some());
    let mem_upper = memory_size.saturating_sub(1 << 20) / 1024;
    let fields = [
        (0, INFO_MEMORY | INFO_CMDLINE | (modules * INFO_MODULES)),
        (4, 640),
        (8, mem_upper),
        (16, CMDLINE),
        (20, modules),
        (24, MODULE_ENTRY),
    ];
    for (offset, value) in fields {
        write_u32(memory, INFO_AREA.start + offset, value)?;
    }
    if let Some(module) = module {
        write_u32(memory, MODULE_ENTRY, module.start)?;
        write_u32(memory, MODULE_ENTRY + 4, module.end)?;
    }
    write(memory, CMDLINE, cmdline.as_bytes())
}

fn write_u32(memory: &impl GuestMemory, gpa: u64, value: u64) -> Result<(), Error> {
    // All values are addresses and sizes of RAM, which ends below 4 GiB.
    write(memory, gpa, &(value as u32).to_le_bytes())
}

fn write(memory: &impl GuestMemory, gpa: u64, bytes: &[u8]) -> Result<(), Error> {
    memory
        .write_slice(bytes, GuestAddress(gpa))
        .map_err(|e| Error::TooLarge(gpa, e))
}

/// Clear of GPA 0, where test images put the code that starts their APs, and below any image.
const INFO_AREA: Range<u64> = 0x1000..0x3000;
const MODULE_ENTRY: u64 = INFO_AREA.start + 0x100;
const CMDLINE: u64 = INFO_AREA.start + 0x200;
const MAX_CMDLINE: usize = (INFO_AREA.end - CMDLINE) as usize - 1;
const PAGE: u64 = 4096;
const ZEROES: [u8; PAGE as usize] = [0; PAGE as usize];

/// Multiboot Specification 0.6.96, 3.1.
const HEADER_MAGIC: u32 = 0x1bad_b002;
const HEADER_SEARCH: usize = 8192;
const INFO_MEMORY: u64 = 1 << 0;
const INFO_CMDLINE: u64 = 1 << 2;
const INFO_MODULES: u64 = 1 << 3;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::elf::tests::elf;
    use vm_memory::GuestMemoryMmap;

    const SIZE: u64 = 8 << 20;

    fn memory() -> GuestMemoryMmap {
        GuestMemoryMmap::from_ranges(&[(GuestAddress(0), SIZE as usize)]).unwrap()
    }

    fn image(gpa: u64, flags: u32) -> Vec<u8> {
        let checksum = 0u32.wrapping_sub(HEADER_MAGIC).wrapping_sub(flags);
        let words = [HEADER_MAGIC, flags, checksum];
        let contents: Vec<u8> = words.iter().flat_map(|w| w.to_le_bytes()).collect();
        elf(1, gpa, gpa, &contents, 0x2000)
    }

    fn boot(image: &[u8]) -> Boot<'_> {
        Boot {
            image,
            cmdline: "image.flat direct",
            module: Some(b"NR_CPUS=2\n"),
        }
    }

    fn u32_at(memory: &GuestMemoryMmap, gpa: u64) -> u32 {
        memory.read_obj(GuestAddress(gpa)).unwrap()
    }

    fn bytes_at<const N: usize>(memory: &GuestMemoryMmap, gpa: u32) -> [u8; N] {
        let mut bytes = [0; N];
        memory
            .read_slice(&mut bytes, GuestAddress(gpa.into()))
            .unwrap();
        bytes
    }

    #[test]
    fn load_when_all_is_given_describes_memory_cmdline_and_module() {
        let memory = memory();
        let entry = load(&memory, SIZE, boot(&image(0x40_0000, 0))).unwrap();
        let Entry::Multiboot { rip, info } = entry else {
            panic!("{entry:?}");
        };
        assert_eq!(rip, 0x40_0000);
        let info = u64::from(info);
        assert_eq!(u32_at(&memory, info), 0b1101);
        assert_eq!(u32_at(&memory, info + 8), 7 * 1024);
        assert_eq!(
            &bytes_at::<18>(&memory, u32_at(&memory, info + 16)),
            b"image.flat direct\0"
        );
        assert_eq!(u32_at(&memory, info + 20), 1);
        let module = u64::from(u32_at(&memory, info + 24));
        assert_eq!(
            &bytes_at::<10>(&memory, u32_at(&memory, module)),
            b"NR_CPUS=2\n"
        );
        assert_eq!(u32_at(&memory, module + 4) - u32_at(&memory, module), 10);
        assert_eq!(u32_at(&memory, 0x40_0000), HEADER_MAGIC);
    }

    #[test]
    fn load_when_the_header_has_flags_is_refused() {
        let result = load(&memory(), SIZE, boot(&image(0x40_0000, 2)));
        assert!(
            matches!(result, Err(Error::UnsupportedFlags(2))),
            "{result:?}"
        );
    }

    #[test]
    fn load_when_there_is_no_header_is_refused() {
        let image = elf(1, 0x40_0000, 0x40_0000, &[0x90; 64], 0);
        let result = load(&memory(), SIZE, boot(&image));
        assert!(matches!(result, Err(Error::NoHeader)), "{result:?}");
    }

    #[test]
    fn load_when_the_image_covers_the_information_is_refused() {
        let result = load(&memory(), SIZE, boot(&image(0x2000, 0)));
        assert!(matches!(result, Err(Error::OverlapsInfo)), "{result:?}");
    }

    #[test]
    fn load_when_zeroes_end_beyond_memory_is_refused() {
        let result = load(&memory(), SIZE, boot(&image(SIZE - 0x1000, 0)));
        assert!(matches!(result, Err(Error::TooLarge(..))), "{result:?}");
    }

    #[test]
    fn load_when_ram_has_old_contents_zeroes_what_the_image_wants_zero() {
        let memory = memory();
        let ones = vec![0xff; 0x4000];
        memory.write_slice(&ones, GuestAddress(0x40_0000)).unwrap();
        load(&memory, SIZE, boot(&image(0x40_0000, 0))).unwrap();
        assert_eq!(bytes_at::<0x2000>(&memory, 0x40_000c), [0; 0x2000]);
        assert_eq!(bytes_at::<1>(&memory, 0x40_200c), [0xff]);
    }

    #[test]
    fn load_when_the_cmdline_is_too_long_is_refused() {
        let image = image(0x40_0000, 0);
        let cmdline = "x".repeat(MAX_CMDLINE + 1);
        let long = Boot {
            cmdline: &cmdline,
            ..boot(&image)
        };
        assert!(matches!(
            load(&memory(), SIZE, long),
            Err(Error::CmdlineTooLong)
        ));
    }
}
