// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! A short attack on /dev/kvm. The long one is `synic-vmm hostile`.

use std::io::{Write, stderr};
use std::time::Duration;

use super::attack::{Attack, Outcome};
use super::report;
use crate::backend::{Irqchip, Wish};
use crate::vm::open_kvm;

/// Attacks for a moment; `None`, with a word about it, where there is no KVM.
fn attack(vcpus: u32, seed: u64) -> Option<Outcome> {
    if let Err(error) = open_kvm() {
        // Not eprintln!, which the test harness captures.
        let _ = writeln!(stderr(), "skipped: no /dev/kvm: {error:#}");
        return None;
    }
    let attack = Attack {
        vcpus,
        length: Duration::from_secs(2),
        seed,
        backend: Wish::Emulated,
        irqchip: Irqchip::Split,
    };
    Some(attack.run().unwrap())
}

#[test]
fn attack_when_the_guest_fuzzes_is_survived() {
    for (vcpus, seed) in [(2, 0), (3, 4), (2, 5)] {
        if let Some(outcome) = attack(vcpus, seed) {
            assert_eq!(outcome.failures, [""; 0], "{}", report::text(&outcome));
        }
    }
}
