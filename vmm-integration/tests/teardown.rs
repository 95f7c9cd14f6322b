// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! Teardowns of a SynIC that VMBus and MSHV share, replayed by a bare-metal guest: the good ones
//! break no rule, the forbidden ones break those that they should, and where they are refused VMBus
//! does not notice.

use std::io::{self, Write};
use std::process::Command;

const SEQUENCES: [&str; 4] = ["merged", "pre-patch", "vmbus-first", "root"];

#[test]
fn teardown_when_violations_are_observed_comes_out_as_expected() {
    replay_all("observe");
}

#[test]
fn teardown_when_violations_are_refused_leaves_vmbus_unharmed() {
    replay_all("refuse");
}

#[test]
fn teardown_when_violations_fault_leaves_vmbus_unharmed() {
    replay_all("fault");
}

fn replay_all(policy: &str) {
    if let Err(e) = vmm_integration::vm::open_kvm() {
        // Not eprintln!, which the test harness captures.
        let _ = writeln!(io::stderr(), "skipped: no /dev/kvm: {e:#}");
        return;
    }
    for sequence in SEQUENCES {
        for vcpus in ["1", "2", "4"] {
            let replayed = Command::new(env!("CARGO_BIN_EXE_synic-vmm"))
                .args(["teardown", "--sequence", sequence, "--policy", policy])
                .args(["--vcpus", vcpus])
                .output()
                .unwrap();
            let (said, errors) = (replayed.stdout, replayed.stderr);
            let said = [said, errors].map(|text| String::from_utf8_lossy(&text).into_owned());
            let what = format!("{sequence}, {policy}, {vcpus} vCPUs");
            assert!(replayed.status.success(), "{what}: {}", said.concat());
        }
    }
}
