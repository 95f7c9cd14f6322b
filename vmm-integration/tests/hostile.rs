// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! Short attacks on the SynIC, each in a process of its own, whose memory is judged too. The long
//! one is `synic-vmm hostile`.

use std::io::{self, Write};
use std::process::Command;

#[test]
fn attack_when_the_guest_fuzzes_is_survived() {
    if let Err(e) = vmm_integration::vm::open_kvm() {
        // Not eprintln!, which the test harness captures.
        let _ = writeln!(io::stderr(), "skipped: no /dev/kvm: {e:#}");
        return;
    }
    for (vcpus, seed) in [("2", "0"), ("3", "4"), ("2", "5")] {
        let attack = Command::new(env!("CARGO_BIN_EXE_synic-vmm"))
            .args(["hostile", "--seconds", "2", "--backend", "emulated"])
            .args(["--vcpus", vcpus, "--seed", seed])
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&attack.stdout);
        assert!(
            attack.status.success(),
            "{vcpus} vCPUs, seed {seed}: {said}"
        );
    }
}
