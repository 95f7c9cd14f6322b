// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! Replays the committed corpora, on any toolchain and without libFuzzer.

use std::fs;
use std::path::{Path, PathBuf};
use vm_synic_fuzz::{TARGETS, replay_path, seeds};

fn corpus(target: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("corpus")
        .join(target)
}

#[test]
fn corpus_of_each_target_runs_without_a_panic() {
    for (target, run) in TARGETS {
        let count = replay_path(&corpus(target), run).unwrap();
        assert!(count > 0, "{target} has no corpus");
    }
}

#[test]
fn seeds_are_committed_as_they_are_made() {
    for (target, seeds) in seeds::all() {
        for (name, input) in seeds {
            let committed = fs::read(corpus(target).join(name)).unwrap_or_default();
            assert_eq!(
                committed, input,
                "{target}/{name}: `cargo run --example seeds` writes it"
            );
        }
    }
}
