// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! Rows that are measured beside their floors, and the table of them.

use crate::rig::{Bell, VMBUS};
use criterion::Criterion;
use std::hint::black_box;
use std::time::{Duration, Instant};
use vm_synic::{Host, SintInterrupt};

/// Runs rows, and prints them all in the end.
pub struct Table {
    criterion: Criterion,
    rows: Vec<Row>,
    /// The interrupt callback, which the floors do without.
    callback: Samples,
}

struct Row {
    what: What,
    ours: Samples,
    floor: Samples,
}

/// One operation.
#[derive(Clone, Copy)]
pub struct What {
    name: &'static str,
    callbacks: u32,
    openvmm: &'static str,
}

impl What {
    /// An operation that interrupts the guest a number of times.
    pub const fn new(name: &'static str, callbacks: u32) -> Self {
        Self {
            name,
            callbacks,
            openvmm: "",
        }
    }

    /// With OpenVMM's figure for the same operation.
    pub const fn openvmm(self, openvmm: &'static str) -> Self {
        Self { openvmm, ..self }
    }
}

/// Nanoseconds per operation.
#[derive(Default)]
struct Samples(Vec<f64>);

impl Table {
    pub fn new(criterion: Criterion) -> Self {
        let mut table = Self {
            criterion,
            rows: Vec::new(),
            callback: Samples::default(),
        };
        table.measure_callback();
        table
    }

    /// Measures one operation through the manager and as its floor.
    pub fn row(&mut self, what: What, mut ours: impl FnMut(), mut floor: impl FnMut()) {
        self.timed_row(
            what,
            |iterations| time(iterations, &mut ours),
            |iterations| time(iterations, &mut floor),
        );
    }

    /// As [`row`](Self::row), where both sides run a number of operations and say how long it took.
    pub fn timed_row(
        &mut self,
        what: What,
        ours: impl FnMut(u64) -> Duration,
        floor: impl FnMut(u64) -> Duration,
    ) {
        let row = Row {
            what,
            floor: self.measure(what.name, "floor", floor),
            ours: self.measure(what.name, "vm-synic", ours),
        };
        self.rows.push(row);
    }

    fn measure_callback(&mut self) {
        let bell: &dyn Host = &Bell::new(1);
        let interrupt = SintInterrupt {
            addr: VMBUS,
            vector: 0xF3,
            auto_eoi: false,
        };
        let mut ring = || {
            let raised = black_box(bell).assert_sint(black_box(interrupt));
            assert!(raised.is_ok());
        };
        let run = |iterations| time(iterations, &mut ring);
        self.callback = self.measure("interrupt callback", "host", run);
    }

    fn measure(&mut self, name: &str, side: &str, mut run: impl FnMut(u64) -> Duration) -> Samples {
        let mut samples = Samples::default();
        let mut group = self.criterion.benchmark_group(name);
        group.bench_function(side, |bencher| {
            bencher.iter_custom(|iterations| {
                let took = run(iterations);
                samples.add(took, iterations);
                took
            });
        });
        group.finish();
        samples
    }

    /// Prints the rows that ran long enough to say something.
    pub fn finish(mut self) {
        self.criterion.final_summary();
        self.rows
            .retain(|row| !row.ours.0.is_empty() && !row.floor.0.is_empty());
        if self.rows.is_empty() {
            return;
        }
        let callback = self.callback.best();
        println!(
            "\n{:<42} {:>8} {:>8} {:>8} {:>6} {:>6} {:>11}",
            "ns per operation", "vm-synic", "(median)", "floor", "ratio", "and cb", "OpenVMM*"
        );
        for row in &self.rows {
            row.print(callback);
        }
        println!(
            "ratio: of the fastest samples. and cb: with the VMM's interrupt callbacks, {callback:.1} \
             ns each, added to the floor."
        );
        println!(
            "* OpenVMM 1488a37b7, its own code, fastest of 800 samples on an idle Zen 5 VM; not this \
             run.\n  In brackets: on the VP's own thread alone, without the queue that other threads use."
        );
    }
}

impl Row {
    fn print(&self, callback: f64) {
        let What {
            name,
            callbacks,
            openvmm,
        } = self.what;
        let (best, median) = (self.ours.best(), self.ours.median());
        let floor = self.floor.best();
        let (ratio, fair) = (
            best / floor,
            best / (floor + callback * f64::from(callbacks)),
        );
        println!(
            "{name:<42} {best:>8.1} {median:>8.1} {floor:>8.1} {ratio:>6.2} {fair:>6.2} {openvmm:>11}"
        );
    }
}

impl Samples {
    /// Too short a sample measures the clock.
    const SHORTEST: Duration = Duration::from_micros(50);

    fn add(&mut self, took: Duration, iterations: u64) {
        if took >= Self::SHORTEST {
            self.0.push(took.as_nanos() as f64 / iterations as f64);
        }
    }

    fn best(&self) -> f64 {
        self.sorted().first().copied().unwrap_or(0.0)
    }

    fn median(&self) -> f64 {
        let sorted = self.sorted();
        sorted.get(sorted.len() / 2).copied().unwrap_or(0.0)
    }

    fn sorted(&self) -> Vec<f64> {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        sorted
    }
}

fn time(iterations: u64, operation: &mut impl FnMut()) -> Duration {
    let start = Instant::now();
    for _ in 0..iterations {
        operation();
    }
    start.elapsed()
}
