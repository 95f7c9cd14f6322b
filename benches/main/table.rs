// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! Rows that are measured beside their floors, and the table of them.

use criterion::Criterion;
use std::time::{Duration, Instant};

/// Runs rows, and prints them all in the end.
pub struct Table {
    criterion: Criterion,
    rows: Vec<Row>,
}

struct Row {
    name: &'static str,
    ours: Samples,
    floor: Samples,
    openvmm: &'static str,
}

/// Nanoseconds per operation.
#[derive(Default)]
struct Samples(Vec<f64>);

impl Table {
    pub fn new(criterion: Criterion) -> Self {
        Self {
            criterion,
            rows: Vec::new(),
        }
    }

    /// Measures one operation through the manager and as its floor. `openvmm` is that project's
    /// figure for the same operation, or empty.
    pub fn row(
        &mut self,
        name: &'static str,
        openvmm: &'static str,
        mut ours: impl FnMut(),
        mut floor: impl FnMut(),
    ) {
        self.timed_row(
            name,
            openvmm,
            |iterations| time(iterations, &mut ours),
            |iterations| time(iterations, &mut floor),
        );
    }

    /// As [`row`](Self::row), where both sides run a number of operations and say how long it took.
    pub fn timed_row(
        &mut self,
        name: &'static str,
        openvmm: &'static str,
        ours: impl FnMut(u64) -> Duration,
        floor: impl FnMut(u64) -> Duration,
    ) {
        let row = Row {
            name,
            floor: self.measure(name, "floor", floor),
            ours: self.measure(name, "vm-synic", ours),
            openvmm,
        };
        self.rows.push(row);
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
        println!(
            "\n{:<44} {:>9} {:>9} {:>9} {:>6} {:>10}",
            "ns per operation", "vm-synic", "(median)", "floor", "ratio", "OpenVMM*"
        );
        for Row {
            name,
            ours,
            floor,
            openvmm,
        } in &self.rows
        {
            let (best, median) = (ours.quantile(0.0), ours.quantile(0.5));
            let floor = floor.quantile(0.0);
            let ratio = best / floor;
            println!(
                "{name:<44} {best:>9.1} {median:>9.1} {floor:>9.1} {ratio:>6.2} {openvmm:>10}"
            );
        }
        println!("* OpenVMM 1488a37b7, best..worst of 6 runs, taken on a Zen 4 VM: not this run.");
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

    fn quantile(&self, which: f64) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        let last = sorted.len().saturating_sub(1) as f64;
        sorted.get((last * which) as usize).copied().unwrap_or(0.0)
    }
}

fn time(iterations: u64, operation: &mut impl FnMut()) -> Duration {
    let start = Instant::now();
    for _ in 0..iterations {
        operation();
    }
    start.elapsed()
}
