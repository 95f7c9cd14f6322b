// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! Many threads at once, on VPs of their own and on one VP: the wall time per operation of each
//! thread. Beyond the number of CPUs, threads take turns.

use crate::rig::{Page, Rig, Slot};
use crate::table::{Table, What};
use std::hint::black_box;
use std::sync::Barrier;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};
use vm_memory::VolatileMemory;
use vm_synic::{EventFlag, Message, MessageType, Posted, SintAddr, SintIndex, VpIndex};

pub fn rows(table: &mut Table) {
    signal(table, What::new("signal and clear, 1 thread", 1), 1, own_vp);
    signal(
        table,
        What::new("signal and clear, 2 threads, 2 VPs", 1),
        2,
        own_vp,
    );
    signal(
        table,
        What::new("signal and clear, 4 threads, 4 VPs", 1),
        4,
        own_vp,
    );
    signal(
        table,
        What::new("signal and clear, 2 threads, 1 VP", 1),
        2,
        same_vp,
    );
    signal(
        table,
        What::new("signal and clear, 4 threads, 1 VP", 1),
        4,
        same_vp,
    );
    post(table, What::new("post and consume, 1 thread", 1), 1, own_vp);
    post(
        table,
        What::new("post and consume, 2 threads, 2 VPs", 1),
        2,
        own_vp,
    );
    post(
        table,
        What::new("post and consume, 4 threads, 4 VPs", 1),
        4,
        own_vp,
    );
    post(
        table,
        What::new("post and consume, 2 threads, 1 VP", 1),
        2,
        same_vp,
    );
    post(
        table,
        What::new("post and consume, 4 threads, 1 VP", 1),
        4,
        same_vp,
    );
}

fn signal(table: &mut Table, what: What, threads: u32, place: fn(u32) -> SintAddr) {
    let rig: Rig = Rig::new(threads);
    // Each thread has a flag in a cache line of its own, as channels of a busy guest mostly do.
    let qword = |thread: u32| thread as usize * 64;
    let flag = |thread: u32| EventFlag::new((qword(thread) * 8) as u16 + thread as u16).unwrap();
    let ours = |thread: u32, start: Start<'_>| {
        let area = rig.area(place(thread), Page::Events);
        let flags: &AtomicU64 = area.get_atomic_ref(qword(thread)).unwrap();
        let (addr, flag) = (place(thread), flag(thread));
        start.run(|| {
            let signalled = rig.manager.signal_event(black_box(addr), black_box(flag));
            assert_eq!(signalled, Ok(true));
            flags.swap(0, Ordering::AcqRel);
        });
    };
    let floor = |thread: u32, start: Start<'_>| {
        let area = rig.area(place(thread), Page::Events);
        let flags: &AtomicU64 = area.get_atomic_ref(qword(thread)).unwrap();
        start.run(|| {
            assert_eq!(flags.fetch_or(black_box(1), Ordering::SeqCst), 0);
            flags.swap(0, Ordering::AcqRel);
        });
    };
    let ours = |iterations| time(iterations, threads, &ours);
    table.timed_row(what, ours, |iterations| time(iterations, threads, &floor));
}

fn post(table: &mut Table, what: What, threads: u32, place: fn(u32) -> SintAddr) {
    let rig: Rig = Rig::new(threads);
    let message = Message::new(MessageType::VMBUS, &[7; 240]).unwrap();
    let ours = |thread: u32, start: Start<'_>| {
        let area = rig.area(place(thread), Page::Messages);
        let slot = Slot::new(&area);
        let addr = place(thread);
        start.run(|| {
            let posted = rig
                .manager
                .post_message(black_box(addr), black_box(&message));
            assert_eq!(posted, Ok(Posted::Delivered));
            slot.consume();
        });
    };
    let floor = |thread: u32, start: Start<'_>| {
        let area = rig.area(place(thread), Page::Messages);
        let slot = Slot::new(&area);
        start.run(|| {
            slot.fill(black_box(&[7; 256]));
            slot.consume();
        });
    };
    let ours = |iterations| time(iterations, threads, &ours);
    table.timed_row(what, ours, |iterations| time(iterations, threads, &floor));
}

fn own_vp(thread: u32) -> SintAddr {
    SintAddr::new(VpIndex::new(thread), SintIndex::VMBUS)
}

/// A SINT for each thread.
fn same_vp(thread: u32) -> SintAddr {
    let sint = SintIndex::try_from(2 + thread).unwrap();
    SintAddr::new(VpIndex::new(0), sint)
}

/// The common start of several threads: all are there, and then they go.
struct Start<'a> {
    ready: &'a Barrier,
    iterations: u64,
}

impl Start<'_> {
    fn run(self, mut operation: impl FnMut()) {
        self.ready.wait();
        self.ready.wait();
        (0..self.iterations).for_each(|_| operation());
    }
}

/// Runs an operation on several threads, and takes the time from their start to the last one's end.
fn time(iterations: u64, threads: u32, operation: &(impl Fn(u32, Start<'_>) + Sync)) -> Duration {
    let ready = &Barrier::new(threads as usize + 1);
    let start = thread::scope(|scope| {
        for thread in 0..threads {
            scope.spawn(move || operation(thread, Start { ready, iterations }));
        }
        ready.wait();
        let start = Instant::now();
        ready.wait();
        start
    });
    start.elapsed()
}
