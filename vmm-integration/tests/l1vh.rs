// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! Boots Linux as an L1VH partition in the rig, with 1, 2 and 4 vCPUs, in all scenarios: its MSHV
//! driver shares the SynIC with VMBus, and a program of the guest's rings 1,000,000 doorbells.

#![cfg(feature = "rig")]

use std::io::{self, Write};

use clap::Parser;
use vmm_integration::rig::{Cli, Unavailable};

#[test]
fn l1vh_guests_pass_in_all_scenarios_with_1_2_and_4_vcpus() {
    let cli = Cli::parse_from(["synic-rig", "l1vh", "--vcpus", "all"]);
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
