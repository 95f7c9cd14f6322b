// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! Whether anything moves, and a line on the terminal that shows it.

use std::io::{IsTerminal, Write, stderr};
use std::time::{Duration, Instant};

use super::guest::Account;
use super::plan::Plan;

/// Watches the guest's accounts grow.
pub struct Progress {
    steps: u64,
    done: u64,
    since: Instant,
    on_terminal: bool,
}

impl Progress {
    /// Of a run of `plan` that has not begun.
    pub fn new(plan: &Plan) -> Self {
        Self {
            steps: plan.steps(),
            done: 0,
            since: Instant::now(),
            on_terminal: stderr().is_terminal(),
        }
    }

    /// How long nothing has moved.
    pub fn update(&mut self, accounts: impl Iterator<Item = Account>) -> Duration {
        let done = accounts.fold(0, |done: u64, account| {
            done.saturating_add(account.progress())
        });
        if done != self.done {
            (self.done, self.since) = (done, Instant::now());
            self.show();
        }
        self.since.elapsed()
    }

    fn show(&self) {
        if self.on_terminal {
            let percent = self.done.saturating_mul(100) / self.steps.max(1);
            // A terminal that cannot be written to is no reason to stop.
            let _ = write!(stderr(), "\r{percent:3} % of the traffic");
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.on_terminal {
            let _ = write!(stderr(), "\r\x1b[K");
        }
    }
}
