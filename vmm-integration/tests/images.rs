// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! Runs existing bare-metal test images, as they are, where the environment names a folder of them.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// Statuses of QEMU's isa-debug-exit for "all passed" and "all skipped".
const PASSED: i32 = 1;
const SKIPPED: i32 = 77;

#[test]
fn images_of_the_named_folder_report_no_failure() {
    let Some(folder) = std::env::var_os("SYNIC_TEST_IMAGES") else {
        return say("skipped: SYNIC_TEST_IMAGES not set");
    };
    if let Err(e) = vmm_integration::vm::open_kvm() {
        return say(&format!("skipped: no /dev/kvm: {e:#}"));
    }
    let images = images(Path::new(&folder));
    assert!(!images.is_empty(), "no *.flat file in {folder:?}");
    let failed: Vec<_> = images.iter().filter(|image| !passes(image)).collect();
    assert!(failed.is_empty(), "failed: {failed:?}");
}

fn images(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).expect("SYNIC_TEST_IMAGES names a readable folder");
    let mut images: Vec<_> = entries
        .map(|entry| entry.expect("a readable folder").path())
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "flat")
        })
        .collect();
    images.sort();
    images
}

fn passes(image: &Path) -> bool {
    let output = run(image);
    let status = output.status.code();
    say(&format!("{}: status {status:?}", image.display()));
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        if ["PASS", "FAIL", "SKIP", "SUMMARY"]
            .iter()
            .any(|word| line.starts_with(word))
        {
            say(&format!("    {line}"));
        }
    }
    let errors = String::from_utf8_lossy(&output.stderr);
    errors.lines().for_each(|line| say(&format!("    {line}")));
    matches!(status, Some(PASSED | SKIPPED))
}

fn run(image: &Path) -> Output {
    // One image counts to ten million seven times, which takes minutes where KVM emulates the
    // guest.
    let slow = image.ends_with("hyperv_connections.flat");
    Command::new(env!("CARGO_BIN_EXE_synic-vmm"))
        .args(["boot", "--test-devices", "--vcpus", "2", "--kernel"])
        .arg(image)
        .args(["--timeout", if slow { "1800" } else { "120" }])
        .output()
        .expect("synic-vmm can be started")
}

/// Past the test harness, which holds back what a passing test prints.
fn say(line: &str) {
    let _ = writeln!(io::stderr(), "{line}");
}
