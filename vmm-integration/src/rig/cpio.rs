// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! Writes initramfs archives: cpio in the "newc" format (Linux
//! `Documentation/driver-api/early-userspace/buffer-format.rst`).
//!
//! The same content gives the same bytes: inode numbers count up, times are zero, and the order is
//! the caller's. Archives may be joined end to end.

use std::collections::BTreeSet;

use anyhow::{Context, Result};

/// An archive in the making.
#[derive(Debug, Default)]
pub struct Archive {
    bytes: Vec<u8>,
    inodes: u32,
    directories: BTreeSet<String>,
}

impl Archive {
    /// Adds a directory and those above it, unless they are there.
    pub fn directory(&mut self, path: &str) -> Result<()> {
        let mut ends: Vec<_> = path.match_indices('/').map(|(at, _)| at).collect();
        ends.push(path.len());
        for directory in ends.into_iter().filter_map(|end| path.get(..end)) {
            if self.directories.insert(directory.to_owned()) {
                self.entry(directory, DIRECTORY | 0o755, &[], [0, 0])?;
            }
        }
        Ok(())
    }

    /// Adds a file, and the directories that it needs.
    pub fn file(&mut self, path: &str, mode: Mode, contents: &[u8]) -> Result<()> {
        self.parents(path)?;
        self.entry(path, FILE | mode.bits(), contents, [0, 0])
    }

    /// Adds a character device, and the directories that it needs.
    pub fn character_device(&mut self, path: &str, major: u32, minor: u32) -> Result<()> {
        self.parents(path)?;
        self.entry(path, CHARACTER_DEVICE | 0o600, &[], [major, minor])
    }

    /// The finished archive.
    pub fn finish(mut self) -> Result<Vec<u8>> {
        self.inodes = 0;
        self.entry(TRAILER, 0, &[], [0, 0])?;
        Ok(self.bytes)
    }

    fn parents(&mut self, path: &str) -> Result<()> {
        match path.rsplit_once('/') {
            Some((parent, _)) => self.directory(parent),
            None => Ok(()),
        }
    }

    fn entry(&mut self, path: &str, mode: u32, contents: &[u8], device: [u32; 2]) -> Result<()> {
        let size = u32::try_from(contents.len())
            .with_context(|| format!("{path} is too large for an initramfs"))?;
        let name_size = u32::try_from(path.len() + 1).context("A path is too long")?;
        self.inodes += 1;
        let [major, minor] = device;
        let links = 1;
        let fields = [
            self.inodes,
            mode,
            0,
            0,
            links,
            0,
            size,
            0,
            0,
            major,
            minor,
            name_size,
            0,
        ];
        self.bytes.extend_from_slice(MAGIC);
        for field in fields {
            self.bytes
                .extend_from_slice(format!("{field:08x}").as_bytes());
        }
        self.bytes.extend_from_slice(path.as_bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend_from_slice(contents);
        self.pad();
        Ok(())
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

/// Who may do what with a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// To be read.
    Data,
    /// To be run.
    Program,
}

impl Mode {
    fn bits(self) -> u32 {
        match self {
            Self::Data => 0o644,
            Self::Program => 0o755,
        }
    }
}

const MAGIC: &[u8] = b"070701";
const TRAILER: &str = "TRAILER!!!";
const DIRECTORY: u32 = 0o040_000;
const FILE: u32 = 0o100_000;
const CHARACTER_DEVICE: u32 = 0o020_000;

#[cfg(test)]
mod tests {
    use super::*;

    struct Entry {
        path: String,
        mode: u32,
        device: (u32, u32),
        contents: Vec<u8>,
    }

    /// What a kernel would unpack.
    fn read(mut archive: &[u8]) -> Vec<Entry> {
        let mut entries = Vec::new();
        while !archive.is_empty() {
            assert_eq!(&archive[..6], MAGIC);
            let field = |n: usize| {
                let text = std::str::from_utf8(&archive[6 + 8 * n..14 + 8 * n]).unwrap();
                u32::from_str_radix(text, 16).unwrap()
            };
            let (size, name_size) = (field(6) as usize, field(11) as usize);
            let contents = (110 + name_size).next_multiple_of(4);
            assert_eq!(archive[110 + name_size - 1], 0);
            entries.push(Entry {
                path: String::from_utf8(archive[110..110 + name_size - 1].to_vec()).unwrap(),
                mode: field(1),
                device: (field(9), field(10)),
                contents: archive[contents..contents + size].to_vec(),
            });
            archive = &archive[(contents + size).next_multiple_of(4)..];
        }
        entries
    }

    fn sample() -> Vec<u8> {
        let mut archive = Archive::default();
        archive.file("init", Mode::Program, b"#!/bin/sh\n").unwrap();
        archive.file("a/b/c", Mode::Data, b"12345").unwrap();
        archive.directory("a/b").unwrap();
        archive.character_device("dev/console", 5, 1).unwrap();
        archive.finish().unwrap()
    }

    #[test]
    fn archive_when_read_back_has_each_directory_once_and_before_its_contents() {
        let paths: Vec<_> = read(&sample()).into_iter().map(|e| e.path).collect();
        let expected = ["init", "a", "a/b", "a/b/c", "dev", "dev/console", TRAILER];
        assert_eq!(paths, expected);
    }

    #[test]
    fn archive_when_read_back_keeps_contents_modes_and_devices() {
        let entries = read(&sample());
        assert_eq!(entries[0].mode, 0o100_755);
        assert_eq!(entries[1].mode, 0o040_755);
        assert_eq!(
            (entries[3].mode, &entries[3].contents[..]),
            (0o100_644, &b"12345"[..])
        );
        assert_eq!((entries[5].mode, entries[5].device), (0o020_600, (5, 1)));
    }

    #[test]
    fn archives_when_joined_are_read_one_after_the_other() {
        let joined = [sample(), sample()].concat();
        assert_eq!(joined.len() % 4, 0);
        assert_eq!(read(&joined).len(), 14);
    }

    #[test]
    fn archive_when_made_twice_has_the_same_bytes() {
        assert_eq!(sample(), sample());
    }
}
