// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! The file's layout.

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use super::ram;
use crate::memory::Memory;

/// Writes a file of JSON and RAM in place of what is there. Should this fail, that stays.
pub fn write(path: &Path, json: &[u8], memory: &Memory) -> Result<()> {
    let draft = draft_of(path);
    let written = write_draft(&draft, json, memory).and_then(|()| {
        fs::rename(&draft, path)?;
        Ok(())
    });
    if written.is_err() {
        // It may not be there, and is of no use.
        let _ = fs::remove_file(&draft);
    }
    written
}

fn write_draft(draft: &Path, json: &[u8], memory: &Memory) -> Result<()> {
    let mut file = File::create(draft)?;
    file.write_all(MAGIC)?;
    file.write_all(&(json.len() as u64).to_le_bytes())?;
    file.write_all(json)?;
    file.seek(SeekFrom::Start(ram_offset(json.len() as u64)))?;
    ram::write(&mut file, memory)?;
    Ok(file.sync_all()?)
}

/// A file that was opened to be restored.
pub struct Reader {
    file: File,
    json_len: u64,
}

impl Reader {
    /// Checks what the file is.
    pub fn open(path: &Path) -> Result<Self> {
        let mut file = File::open(path)?;
        let mut header = [0; HEADER as usize];
        let read = file.read_exact(&mut header);
        let magic = header.get(..MAGIC.len()).filter(|_| read.is_ok());
        ensure!(magic == Some(MAGIC), "it is no snapshot of a VM");
        let json_len = header.last_chunk().copied().map_or(0, u64::from_le_bytes);
        ensure!(
            json_len <= MAX_JSON,
            "its JSON has {json_len} bytes, where {MAX_JSON} may be"
        );
        Ok(Self { file, json_len })
    }

    /// The JSON.
    pub fn json(&mut self) -> Result<Vec<u8>> {
        let mut json = Vec::new();
        self.file.seek(SeekFrom::Start(HEADER))?;
        let read = (&self.file).take(self.json_len).read_to_end(&mut json)?;
        let wanted = self.json_len;
        ensure!(
            read as u64 == wanted,
            "it ends after {read} of {wanted} bytes of JSON"
        );
        Ok(json)
    }

    /// Puts the RAM into that of a new VM.
    pub fn read_ram(&mut self, memory: &Memory) -> Result<()> {
        let offset = ram_offset(self.json_len);
        let (length, ram) = (self.file.metadata()?.len(), ram::size(memory));
        let found = length.saturating_sub(offset);
        ensure!(
            found == ram,
            "the file has {found} bytes of RAM, and the VM {ram}"
        );
        self.file.seek(SeekFrom::Start(offset))?;
        ram::read(&mut self.file, memory).context("Cannot read it")
    }
}

/// Beside the file, so that it can be renamed.
fn draft_of(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".draft");
    path.with_file_name(name)
}

fn ram_offset(json_len: u64) -> u64 {
    (HEADER + json_len).next_multiple_of(ram::PAGE as u64)
}

const MAGIC: &[u8; 8] = b"SYNICVMM";
const HEADER: u64 = 16;
/// A VM of 254 vCPUs has less than 32 MiB.
const MAX_JSON: u64 = 64 << 20;
