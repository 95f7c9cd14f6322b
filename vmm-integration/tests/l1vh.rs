// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! Boots Linux as an L1VH partition in the rig, with 1, 2 and 4 vCPUs: its MSHV driver shares the
//! SynIC with VMBus, and a program of the guest's has 1,000,000 doorbells rung. A bare-metal guest
//! replays teardowns, the good and the forbidden ones.

#![cfg(feature = "rig")]

use std::io::{self, Write};

use clap::Parser;
use vmm_integration::rig::{Cli, Unavailable};

#[test]
fn l1vh_guests_and_teardowns_pass_with_1_2_and_4_vcpus() {
    let cli = [
        "synic-rig",
        "l1vh",
        "--vcpus",
        "all",
        "--scenario",
        SCENARIOS,
    ];
    let cli = Cli::parse_from(cli);
    match cli.try_run() {
        Ok(passed) => assert!(passed, "not all jobs passed; see the report"),
        Err(e) if e.is::<Unavailable>() => say(&format!("skipped: {e}")),
        Err(e) => panic!("{e:#}"),
    }
}

/// All but echo, whose traffic is in most of the others, too.
const SCENARIOS: &str = "basic,reload,hotplug,reboot,kexec,crash,mshv";

/// Past the test harness, which holds back what a passing test prints.
fn say(line: &str) {
    let _ = writeln!(io::stderr(), "{line}");
}
