// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! The suite of all backends on real vCPUs, with the emulated SynIC; on KVM's own it runs in the rig.

use std::io::{self, Write};
use std::process::Command;

#[test]
fn suite_on_real_vcpus_passes() {
    if let Err(e) = vmm_integration::vm::open_kvm() {
        // Not eprintln!, which the test harness captures.
        let _ = writeln!(io::stderr(), "skipped: no /dev/kvm: {e:#}");
        return;
    }
    let played = Command::new(env!("CARGO_BIN_EXE_synic-vmm"))
        .arg("conformance")
        .output()
        .unwrap();
    let said = [played.stdout, played.stderr];
    let said = said.map(|text| String::from_utf8_lossy(&text).into_owned());
    assert!(played.status.success(), "{}", said.concat());
}
