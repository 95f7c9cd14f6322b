// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! Ends the guest if its work does not come to an end.

use std::fs;
use std::sync::Mutex;
use std::time::Duration;

use crate::failure::{Failure, OrFail, Result};
use crate::finish;
use crate::report::say;

/// Powers off, as a failure, when the kernel has run for `timeout`.
pub fn start(timeout: Duration) -> Result<()> {
    let rest = timeout.saturating_sub(uptime()?);
    let watch = move || {
        std::thread::sleep(rest);
        say_where_the_kernel_is();
        finish(Err(Failure::new(
            "timeout",
            format_args!("while {}", step()),
        )));
    };
    let thread = std::thread::Builder::new().name("watchdog".into());
    thread.spawn(watch).or_fail("watchdog", "no thread")?;
    Ok(())
}

/// Notes what is being done now, for the watchdog's report.
pub fn doing(step: impl Into<String>) {
    *STEP.lock().unwrap_or_else(|e| e.into_inner()) = step.into();
}

/// Waits for something that only the kernel or the host can do; the watchdog ends the wait.
pub fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    wait_for(what, || condition().then_some(()));
}

/// Waits for what only the kernel or the host can bring about; the watchdog ends the wait.
pub fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    doing(format!("waiting for {what}"));
    loop {
        match look() {
            Some(found) => return found,
            None => std::thread::sleep(LOOK_AGAIN),
        }
    }
}

fn uptime() -> Result<Duration> {
    let uptime = fs::read_to_string(UPTIME).or_fail("procfs", UPTIME)?;
    let seconds = uptime.split_whitespace().next().unwrap_or_default();
    let seconds: f64 = seconds.parse().or_fail("procfs", UPTIME)?;
    Ok(Duration::from_secs_f64(seconds))
}

/// A driver that waits for a message of the host waits in the kernel, on the main thread.
fn say_where_the_kernel_is() {
    let stack = fs::read_to_string("/proc/1/task/1/stack").unwrap_or_default();
    for line in stack.lines() {
        say(&format!("stack -- {line}"));
    }
}

fn step() -> String {
    STEP.lock().unwrap_or_else(|e| e.into_inner()).clone()
}

static STEP: Mutex<String> = Mutex::new(String::new());
const UPTIME: &str = "/proc/uptime";
const LOOK_AGAIN: Duration = Duration::from_millis(20);
