// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! Runs a part of the matrix of `docs/TESTING.md` in the rig: the demo, the attack and Linux
//! guests, and test images where the environment names a folder of them.

#![cfg(feature = "rig")]

use std::io::{self, Write};

use clap::Parser;
use vmm_integration::rig::{Cli, Unavailable};

#[test]
fn guests_of_the_quick_matrix_pass() {
    let cli = Cli::parse_from(["synic-rig", "matrix", "--quick"]);
    match cli.try_run() {
        Ok(passed) => assert!(passed, "not all jobs passed; see the report"),
        Err(e) if e.is::<Unavailable>() => say(&format!("skipped: {e}")),
        Err(e) => panic!("{e:#}"),
    }
}

/// Past the test harness, which holds back what a passing test prints.
fn say(line: &str) {
    let _ = writeln!(io::stderr(), "{line}");
}
