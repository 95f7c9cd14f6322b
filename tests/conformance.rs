// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! The suite of all backends, on those that need no hypervisor. The one for KVM's own SynIC runs in
//! a virtual machine: see `vmm-integration`.

use std::panic::{AssertUnwindSafe, catch_unwind};

use vm_synic::Config;
use vm_synic::test_utils::conformance::{Emulated, Machine, cases};

/// Plays each case on a machine of its own, and names those that fail.
fn play_all<M: Machine>(make: impl Fn(Config) -> M) {
    let cases = cases::<M>();
    assert!(cases.len() >= 24, "{} cases", cases.len());
    let failed = cases.iter().filter(|case| {
        let play = || (case.play)(&mut make(case.config()));
        catch_unwind(AssertUnwindSafe(play)).is_err()
    });
    let failed: Vec<_> = failed.map(|case| case.name).collect();
    assert!(
        failed.is_empty(),
        "{} of {}: {failed:?}",
        failed.len(),
        cases.len()
    );
}

#[test]
fn suite_on_the_emulated_synic_passes() {
    play_all(Emulated::new);
}

#[cfg(feature = "mshv")]
#[test]
fn suite_on_mshv_passes() {
    play_all(vm_synic::test_utils::conformance::Mshv::new);
}
