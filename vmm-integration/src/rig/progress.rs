// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! Shows how far the jobs are: a line that changes on a terminal, lines for each job elsewhere.

use std::io::{IsTerminal, Write, stderr};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use super::finding::Finding;
use super::job::Job;
use super::order::Event;

/// The jobs' progress, on standard error.
#[derive(Debug)]
pub struct Progress {
    bar: Option<ProgressBar>,
    jobs: usize,
    done: usize,
}

impl Progress {
    /// None of so many jobs is done.
    pub fn new(jobs: usize) -> Self {
        let bar = stderr().is_terminal().then(|| bar(jobs));
        Self { bar, jobs, done: 0 }
    }

    /// A job begins.
    pub fn begin(&self, job: &Job) {
        if let Some(bar) = &self.bar {
            bar.set_prefix(job.to_string());
            bar.set_message("");
        }
    }

    /// The last thing that a job's guest or its VMM said.
    pub fn tell(&self, event: &Event) {
        if let (Some(bar), Event::Output(line) | Event::Errors(line)) = (&self.bar, event) {
            bar.set_message(line.clone());
        }
    }

    /// A job is done.
    pub fn end(&mut self, finding: &Finding) {
        self.done += 1;
        let line = format!(
            "[{}/{}] {}: {}, {:.1} s  {}",
            self.done,
            self.jobs,
            finding.job,
            finding.verdict,
            finding.outcome.ended.seconds,
            finding.note
        );
        self.say(line.trim_end());
        finding
            .results()
            .for_each(|result| self.say(&format!("    {result}")));
        if let Some(bar) = &self.bar {
            bar.inc(1);
        }
    }

    fn say(&self, line: &str) {
        match &self.bar {
            Some(bar) => bar.println(line),
            None => say(line),
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// A line on standard error; in a test, past its harness, which holds back what a passing one says.
pub fn say(line: &str) {
    // A terminal that cannot be written to is no reason to stop.
    let _ = writeln!(stderr(), "{line}");
}

fn bar(jobs: usize) -> ProgressBar {
    let bar = ProgressBar::new(u64::try_from(jobs).unwrap_or(u64::MAX));
    if let Ok(style) = ProgressStyle::with_template(TEMPLATE) {
        bar.set_style(style);
    }
    bar.enable_steady_tick(TICK);
    bar
}

const TEMPLATE: &str = "{bar:20} {pos}/{len} {elapsed} {prefix} {wide_msg:.dim}";
const TICK: Duration = Duration::from_secs(1);
