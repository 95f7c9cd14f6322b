// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! The process's logger: `env_logger`, and a count of what a guest must not be able to flood.

use std::sync::atomic::{AtomicU64, Ordering};

use env_logger::Logger;
use log::{Level, LevelFilter, Log, Metadata, Record};

/// Installs the logger; `RUST_LOG` says what is printed, errors alone if it is not set.
pub fn init() {
    let counting = Counting(Logger::from_default_env());
    // Informational lines are counted even if nobody wants to see them.
    let level = counting.0.filter().max(LevelFilter::Info);
    if log::set_boxed_logger(Box::new(counting)).is_ok() {
        log::set_max_level(level);
    }
}

/// Lines logged so far at level info or above, printed or not.
pub fn lines() -> u64 {
    LINES.load(Ordering::Relaxed)
}

struct Counting(Logger);

impl Log for Counting {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= Level::Info || self.0.enabled(metadata)
    }

    fn log(&self, record: &Record<'_>) {
        if record.level() <= Level::Info {
            // Relaxed: a statistic.
            LINES.fetch_add(1, Ordering::Relaxed);
        }
        if self.0.matches(record) {
            self.0.log(record);
        }
    }

    fn flush(&self) {
        self.0.flush();
    }
}

static LINES: AtomicU64 = AtomicU64::new(0);
