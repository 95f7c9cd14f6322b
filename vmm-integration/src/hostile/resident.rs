// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! How much memory this process has of its own.

use anyhow::{Context, Result};
use vm_memory::{Bytes, GuestAddress};

use crate::memory::Memory;

/// Has the guest's RAM, of `size` bytes, resident from the start.
pub fn touch(memory: &Memory, size: usize) -> Result<()> {
    for gpa in (0..size as u64).step_by(4096) {
        let touched = memory.read_obj::<u8>(GuestAddress(gpa));
        let touched = touched.and_then(|byte| memory.write_obj(byte, GuestAddress(gpa)));
        touched.context("Cannot touch guest memory")?;
    }
    Ok(())
}

/// Resident memory in bytes without pages of files: the second field of /proc/self/statm less the
/// third (proc(5)).
pub fn bytes() -> Result<u64> {
    let statm = std::fs::read_to_string("/proc/self/statm").context("Cannot read statm")?;
    let field = |n| statm.split(' ').nth(n)?.parse::<u64>().ok();
    let pages = field(1).zip(field(2));
    let pages = pages.and_then(|(resident, shared)| resident.checked_sub(shared));
    let pages = pages.with_context(|| format!("Not a statm: {statm}"))?;
    // SAFETY: sysconf has no preconditions.
    let size = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    Ok(pages.saturating_mul(u64::try_from(size)?))
}
