// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! The bodies of the fuzz targets, as plain functions from bytes to a panic or none.
//!
//! | target | who is hostile | input |
//! |---|---|---|
//! | [`message_parse`] | the hypervisor, to a driver | one message slot |
//! | [`msr`] | the guest by its registers, and a saved state | steps |
//! | [`hypercall`] | the guest by its hypercalls | steps |
//! | [`guest_pages`] | the guest by what it writes into the shared pages | steps |
//! | [`mshv_exit`] | the guest by what a VP exits with, and a hypervisor that refuses | steps |
//! | [`state_json`] | whoever wrote a saved state | JSON |
//!
//! `msr`, `hypercall` and `guest_pages` run a list of steps ([`op`]) on a [`World`](world::World): a
//! real manager on real guest memory. They differ in the actions that a step can be. `mshv_exit` runs
//! its own on a [`Partition`](partition::Partition).

pub mod action;
pub mod check;
pub mod guest;
pub mod guest_pages;
pub mod hostile;
pub mod hypercall;
pub mod message_parse;
pub mod mshv_exit;
pub mod msr;
pub mod op;
pub mod partition;
pub mod seeds;
pub mod state_json;
pub mod world;

use std::path::Path;
use std::{env, fs, io};

/// A target: an input either passes or panics.
pub type Target = fn(&[u8]);

/// The targets, by name.
pub const TARGETS: [(&str, Target); 6] = [
    ("message_parse", message_parse::run),
    ("msr", msr::run),
    ("hypercall", hypercall::run),
    ("guest_pages", guest_pages::run),
    ("mshv_exit", mshv_exit::run),
    ("state_json", state_json::run),
];

/// Runs a target on the files and directories of the command line.
pub fn replay(run: Target) -> io::Result<()> {
    for argument in env::args_os().skip(1) {
        let count = replay_path(Path::new(&argument), run)?;
        println!("{}: {count} inputs", argument.display());
    }
    Ok(())
}

/// Runs a target on a file, or on all files of a directory; says how many they were.
pub fn replay_path(path: &Path, run: Target) -> io::Result<usize> {
    if !path.is_dir() {
        run(&fs::read(path)?);
        return Ok(1);
    }
    let mut count = 0;
    for entry in fs::read_dir(path)? {
        count += replay_path(&entry?.path(), run)?;
    }
    Ok(count)
}
