// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! RAM in a file, whose pages of zeros take no room.

use std::fs::File;
use std::io::{self, Seek, SeekFrom, Write};
use std::ops::Range;
use std::os::fd::AsRawFd;

use anyhow::Result;
use vm_memory::{Bytes, GuestAddress, GuestMemoryBackend, GuestMemoryRegion};

use crate::memory::Memory;

/// Bytes of RAM.
pub fn size(memory: &Memory) -> u64 {
    memory.iter().map(GuestMemoryRegion::len).sum()
}

/// Writes all of it from the file's position, where the file ends so far.
pub fn write(file: &mut File, memory: &Memory) -> Result<()> {
    let start = file.stream_position()?;
    let mut buffer = vec![0; CHUNK];
    for at in (0..size(memory)).step_by(CHUNK) {
        let chunk = chunk(&mut buffer, at, memory);
        memory.read_slice(chunk, GuestAddress(at))?;
        for pages in runs(chunk) {
            file.seek(SeekFrom::Start(start + at + pages.start as u64))?;
            file.write_all(chunk.get(pages).unwrap_or_default())?;
        }
    }
    Ok(file.set_len(start + size(memory))?)
}

/// Reads it back, from the file's position to its end, into RAM that is all zeros.
pub fn read(file: &mut File, memory: &Memory) -> Result<()> {
    let start = file.stream_position()?;
    let mut at = start;
    while let Some(data) = next_data(file, at)? {
        file.seek(SeekFrom::Start(data.start))?;
        let (to, length) = (GuestAddress(data.start - start), data.end - data.start);
        memory.read_exact_volatile_from(to, file, usize::try_from(length)?)?;
        at = data.end;
    }
    Ok(())
}

/// What the file has from a place on that is no hole.
fn next_data(file: &File, from: u64) -> io::Result<Option<Range<u64>>> {
    let Some(start) = seek(file, from, libc::SEEK_DATA)? else {
        return Ok(None);
    };
    // There is one at the end at the latest.
    let end = seek(file, start, libc::SEEK_HOLE)?;
    Ok(end.map(|end| start..end))
}

/// `None`: there is nothing of that kind up to the end.
fn seek(file: &File, from: u64, whence: i32) -> io::Result<Option<u64>> {
    let from = i64::try_from(from).map_err(io::Error::other)?;
    // SAFETY: the call has no memory argument, and the descriptor is open.
    let found = unsafe { libc::lseek(file.as_raw_fd(), from, whence) };
    match u64::try_from(found) {
        Ok(found) => Ok(Some(found)),
        Err(_) => match io::Error::last_os_error() {
            e if e.raw_os_error() == Some(libc::ENXIO) => Ok(None),
            e => Err(e),
        },
    }
}

/// As much of the buffer as there is RAM from `at`.
fn chunk<'a>(buffer: &'a mut [u8], at: u64, memory: &Memory) -> &'a mut [u8] {
    let rest = usize::try_from(size(memory) - at).unwrap_or(CHUNK);
    let length = rest.min(buffer.len());
    &mut buffer[..length]
}

/// Ranges of whole pages that are not all zeros.
fn runs(bytes: &[u8]) -> Vec<Range<usize>> {
    let mut runs: Vec<Range<usize>> = Vec::new();
    for (number, page) in bytes.chunks(PAGE).enumerate() {
        let start = number * PAGE;
        if is_zero(page) {
            continue;
        }
        match runs.last_mut().filter(|run| run.end == start) {
            Some(run) => run.end = start + page.len(),
            None => runs.push(start..start + page.len()),
        }
    }
    runs
}

/// By words, and only as far as there are zeros.
fn is_zero(page: &[u8]) -> bool {
    let words = page.chunks_exact(8);
    let rest_is_zero = words.remainder().iter().all(|byte| *byte == 0);
    rest_is_zero && words.into_iter().all(|word| word == [0; 8])
}

/// Of x86.
pub const PAGE: usize = 4096;
const CHUNK: usize = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_of_pages_that_are_not_zero_are_joined() {
        let mut bytes = vec![0; 6 * PAGE];
        for page in [1, 2, 5] {
            bytes[page * PAGE + 7] = 1;
        }
        assert_eq!(runs(&bytes), [PAGE..3 * PAGE, 5 * PAGE..6 * PAGE]);
        assert!(runs(&bytes[..PAGE]).is_empty());
    }
}
