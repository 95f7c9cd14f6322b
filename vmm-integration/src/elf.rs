// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! Reads the loadable segments of an x86 ELF file, of 32 or 64 bits.
//!
//! A test image is ELF32 and a guest of our own is ELF64, which no single loader of `linux-loader`
//! takes; what a multiboot loader needs of either is little.

use std::ops::Range;

use thiserror::Error;

/// Why a file is not an image that can be loaded.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum Error {
    /// The magic number, the byte order, or the machine is another.
    #[error("Not an x86 ELF file")]
    NotX86Elf,
    /// A header or a segment's contents lie outside of the file.
    #[error("The ELF file is cut short")]
    Truncated,
    /// Nothing to load.
    #[error("The ELF file has no loadable segment")]
    NoSegments,
    /// A segment is larger in the file than in memory, or wraps around the address space.
    #[error("A segment of the ELF file has an impossible size")]
    BadSegment,
    /// The entry point is in no segment.
    #[error("The ELF entry point {0:#x} is in no loadable segment")]
    BadEntry(u64),
}

/// What to load, and where to start.
#[derive(Debug, PartialEq, Eq)]
pub struct Elf {
    /// Guest-physical address of the first instruction.
    pub entry: u64,
    /// In the file's order; never empty.
    pub segments: Vec<Segment>,
}

/// One part of the file.
#[derive(Debug, PartialEq, Eq)]
pub struct Segment {
    /// Where it is in the file.
    pub file: Range<usize>,
    /// Where it goes; what exceeds the file's part is zero.
    pub gpa: Range<u64>,
    virtual_start: u64,
}

impl Elf {
    /// Parses the headers of `image`.
    pub fn parse(image: &[u8]) -> Result<Self, Error> {
        let layout = Layout::of(image)?;
        let field = |at, size| read(image, at, size);
        let table = field(layout.phoff, layout.word)?;
        let size = field(layout.phentsize, 2)?;
        let mut segments = Vec::new();
        for index in 0..field(layout.phentsize + 2, 2)? {
            let header = index.checked_mul(size).and_then(|at| at.checked_add(table));
            let header =
                usize::try_from(header.ok_or(Error::Truncated)?).map_err(|_| Error::Truncated)?;
            if read(image, header, 4)? == PT_LOAD {
                segments.push(layout.segment(image, header)?);
            }
        }
        let entry = physical(&segments, field(ENTRY, layout.word)?)?;
        Ok(Self { entry, segments })
    }
}

/// Where the two formats keep what is read from both.
struct Layout {
    /// Size of an address.
    word: usize,
    phoff: usize,
    phentsize: usize,
    /// Program header: offset, virtual and physical address, sizes in the file and in memory.
    fields: [usize; 5],
}

impl Layout {
    fn of(image: &[u8]) -> Result<Self, Error> {
        match (image.get(..6), read(image, 18, 2)?) {
            (Some(b"\x7fELF\x01\x01"), EM_386) => Ok(ELF32),
            (Some(b"\x7fELF\x02\x01"), EM_X86_64) => Ok(ELF64),
            _ => Err(Error::NotX86Elf),
        }
    }

    fn segment(&self, image: &[u8], header: usize) -> Result<Segment, Error> {
        let mut values = [0; 5];
        for (value, offset) in values.iter_mut().zip(self.fields) {
            let at = header.checked_add(offset).ok_or(Error::Truncated)?;
            *value = read(image, at, self.word)?;
        }
        let [offset, virtual_start, start, file_size, memory_size] = values;
        if file_size > memory_size {
            return Err(Error::BadSegment);
        }
        let end = start.checked_add(memory_size).ok_or(Error::BadSegment)?;
        let file_end = offset.checked_add(file_size).ok_or(Error::Truncated)?;
        Ok(Segment {
            file: in_file(image, offset)?..in_file(image, file_end)?,
            gpa: start..end,
            virtual_start,
        })
    }
}

fn in_file(image: &[u8], offset: u64) -> Result<usize, Error> {
    usize::try_from(offset)
        .ok()
        .filter(|offset| *offset <= image.len())
        .ok_or(Error::Truncated)
}

fn physical(segments: &[Segment], entry: u64) -> Result<u64, Error> {
    let address = |s: &Segment| {
        let offset = entry.checked_sub(s.virtual_start)?;
        s.gpa
            .start
            .checked_add(offset)
            .filter(|gpa| s.gpa.contains(gpa))
    };
    match segments {
        [] => Err(Error::NoSegments),
        _ => segments
            .iter()
            .find_map(address)
            .ok_or(Error::BadEntry(entry)),
    }
}

/// Reads `size` bytes, at most 8, little-endian.
fn read(image: &[u8], at: usize, size: usize) -> Result<u64, Error> {
    let bytes = at
        .checked_add(size)
        .and_then(|end| image.get(at..end))
        .ok_or(Error::Truncated)?;
    Ok(bytes
        .iter()
        .rev()
        .fold(0, |value, b| value << 8 | u64::from(*b)))
}

const ELF32: Layout = Layout {
    word: 4,
    phoff: 28,
    phentsize: 42,
    fields: [4, 8, 12, 16, 20],
};
const ELF64: Layout = Layout {
    word: 8,
    phoff: 32,
    phentsize: 54,
    fields: [8, 16, 24, 32, 40],
};
const ENTRY: usize = 24;
const EM_386: u64 = 3;
const EM_X86_64: u64 = 62;
const PT_LOAD: u64 = 1;

#[cfg(test)]
pub mod tests {
    use super::*;

    /// An ELF file of one segment: `contents` at `gpa`, followed by `bss` bytes of zeroes.
    pub fn elf(class: u8, gpa: u64, entry: u64, contents: &[u8], bss: u64) -> Vec<u8> {
        let (layout, machine, header, entry_size) = match class {
            1 => (ELF32, EM_386, 52, 32u64),
            _ => (ELF64, EM_X86_64, 64, 56),
        };
        let start = header + entry_size;
        let mut image = vec![0; start as usize];
        let mut put = |at: usize, size: usize, value: u64| {
            image[at..at + size].copy_from_slice(&value.to_le_bytes()[..size]);
        };
        put(0, 4, u64::from(u32::from_le_bytes(*b"\x7fELF")));
        put(4, 2, u64::from(class) | 1 << 8);
        put(18, 2, machine);
        put(ENTRY, layout.word, entry);
        put(layout.phoff, layout.word, header);
        put(layout.phentsize, 2, entry_size);
        put(layout.phentsize + 2, 2, 1);
        put(header as usize, 4, PT_LOAD);
        let size = contents.len() as u64;
        let values = [start, gpa, gpa, size, size + bss];
        for (offset, value) in layout.fields.into_iter().zip(values) {
            put(header as usize + offset, layout.word, value);
        }
        image.extend_from_slice(contents);
        image
    }

    #[test]
    fn parse_when_given_either_class_finds_segment_and_entry() {
        for class in [1, 2] {
            let image = elf(class, 0x40_0000, 0x40_0002, b"code", 0x1000);
            let parsed = Elf::parse(&image).unwrap();
            assert_eq!(parsed.entry, 0x40_0002);
            let [segment] = parsed.segments.as_slice() else {
                panic!("one segment expected, not {:?}", parsed.segments);
            };
            assert_eq!(&image[segment.file.clone()], b"code");
            assert_eq!(segment.gpa, 0x40_0000..0x40_1004);
        }
    }

    #[test]
    fn parse_when_the_entry_is_outside_is_refused() {
        let image = elf(1, 0x40_0000, 0x30_0000, b"code", 0);
        assert_eq!(Elf::parse(&image), Err(Error::BadEntry(0x30_0000)));
    }

    #[test]
    fn parse_when_cut_anywhere_is_an_error_and_never_a_panic() {
        for class in [1, 2] {
            let image = elf(class, 0x40_0000, 0x40_0000, b"code", 0);
            for len in 0..image.len() {
                assert!(Elf::parse(&image[..len]).is_err(), "cut to {len} bytes");
            }
        }
    }

    #[test]
    fn parse_when_a_segment_wraps_around_is_refused() {
        let image = elf(2, u64::MAX - 2, u64::MAX - 2, b"code", 0);
        assert_eq!(Elf::parse(&image), Err(Error::BadSegment));
    }

    #[test]
    fn parse_when_not_elf_is_refused() {
        assert_eq!(Elf::parse(&[0x55; 64]), Err(Error::NotX86Elf));
    }
}
