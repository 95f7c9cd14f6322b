// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! Event flags.

use crate::rig::{Page, Rig, VMBUS};
use crate::table::{Table, What};
use std::hint::black_box;
use std::sync::atomic::{AtomicU64, Ordering};
use vm_memory::VolatileMemory;
use vm_memory::bitmap::{AtomicBitmap, NewBitmap};
use vm_synic::EventFlag;

pub fn rows(table: &mut Table) {
    let plain = What::new("signal a clear flag, guest clears it", 1);
    fresh::<()>(table, plain.openvmm("25.3"));
    fresh::<AtomicBitmap>(table, What::new("the same with dirty tracking", 1));
    coalesced(table);
}

fn fresh<B>(table: &mut Table, what: What)
where
    B: NewBitmap + Send + Sync + 'static,
{
    let rig = Rig::<B>::new(1);
    let area = rig.area(VMBUS, Page::Events);
    let flags: &AtomicU64 = area.get_atomic_ref(0).unwrap();
    let flag = EventFlag::new(5).unwrap();
    let clear = || flags.swap(0, Ordering::AcqRel);
    let ours = || {
        let fresh = rig.manager.signal_event(black_box(VMBUS), black_box(flag));
        assert_eq!(fresh, Ok(true));
        clear();
    };
    let floor = || {
        assert_eq!(flags.fetch_or(black_box(1 << 5), Ordering::SeqCst), 0);
        clear();
    };
    table.row(what, ours, floor);
}

fn coalesced(table: &mut Table) {
    let rig: Rig = Rig::new(1);
    let area = rig.area(VMBUS, Page::Events);
    let flags: &AtomicU64 = area.get_atomic_ref(0).unwrap();
    let flag = EventFlag::new(5).unwrap();
    rig.manager.signal_event(VMBUS, flag).unwrap();
    let ours = || {
        let fresh = rig.manager.signal_event(black_box(VMBUS), black_box(flag));
        assert_eq!(fresh, Ok(false));
    };
    let floor = || {
        let before = flags.fetch_or(black_box(1 << 5), Ordering::SeqCst);
        assert_eq!(before, 1 << 5);
    };
    let what = What::new("signal a flag that is set", 0).openvmm("15.9");
    table.row(what, ours, floor);
}
