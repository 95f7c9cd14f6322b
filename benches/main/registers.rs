// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! MSRs, and the check before a VP enters the guest.

use crate::rig::{Rig, SINT0, VMBUS};
use crate::table::{Table, What};
use std::hint::black_box;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

pub fn rows(table: &mut Table) {
    let rig: Rig = Rig::new(1);
    let (manager, vp) = (&rig.manager, VMBUS.vp);
    let register = AtomicU64::new(0xF3);
    table.row(
        What::new("write SINT2", 0).openvmm("11.2"),
        || {
            manager
                .write_msr(vp, black_box(SINT0 + 2), black_box(0xF3))
                .unwrap()
        },
        || register.store(black_box(0xF3), Ordering::Release),
    );
    table.row(
        What::new("read SINT2", 0).openvmm("1.0"),
        || assert_eq!(manager.read_msr(vp, black_box(SINT0 + 2)), Ok(0xF3)),
        || assert_eq!(register.load(Ordering::Acquire), black_box(0xF3)),
    );
    let work = AtomicBool::new(false);
    table.row(
        What::new("before a VP entry, nothing to do", 0).openvmm("3.9"),
        || manager.pre_run(black_box(vp)),
        || assert!(!black_box(&work).load(Ordering::Relaxed)),
    );
}
