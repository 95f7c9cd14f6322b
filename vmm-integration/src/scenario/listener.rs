// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! The guest's console as it is written: reports are taken down, with the exits so far.

use std::io::{self, Write};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Instant;

use super::event::Event;
use super::guest::GuestReport;

/// Counts the exits of all vCPUs.
pub type Exits = Arc<dyn Fn() -> u64 + Send + Sync>;

/// Told of each report.
pub type Hook = Arc<dyn Fn(&Event) + Send + Sync>;

/// What has been heard so far, and a writer that hears more.
#[derive(Clone)]
pub struct Listener(Arc<Mutex<Heard>>);

struct Heard {
    report: GuestReport,
    latest: Option<String>,
    exits: Option<Exits>,
    hook: Option<Hook>,
    start: Instant,
}

impl Listener {
    /// Has heard nothing yet.
    pub fn new() -> Self {
        Self(Arc::new(Mutex::new(Heard {
            report: GuestReport::default(),
            latest: None,
            exits: None,
            hook: None,
            start: Instant::now(),
        })))
    }

    /// Takes down the exits, too, from now on.
    pub fn count_exits(&self, exits: Exits) {
        self.lock().exits = Some(exits);
    }

    /// Has `hook` told of each report from now on, on the vCPU that makes it.
    pub fn tell(&self, hook: Hook) {
        self.lock().hook = Some(hook);
    }

    /// What the guest has reported.
    pub fn report(&self) -> GuestReport {
        self.lock().report.clone()
    }

    /// What is waited for, in words.
    pub fn waits_for(&self) -> String {
        match &self.lock().latest {
            Some(report) => format!("what follows the guest's report \"{report}\""),
            None => "the guest's init to report".into(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Heard> {
        self.0.lock().unwrap_or_else(|e| e.into_inner())
    }
}

impl Write for Listener {
    /// The console writes whole lines.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(line);
        if let Some(event) = Event::parse(&text) {
            let mut heard = self.lock();
            heard.hear(&event, &text);
            let hook = heard.hook.clone();
            drop(heard);
            hook.inspect(|hook| hook(&event));
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Heard {
    fn hear(&mut self, event: &Event, line: &str) {
        let exits = self.exits.as_ref().map_or(0, |exits| exits());
        self.report.add(event, exits);
        let report = line
            .split_once("synic-guest: ")
            .map_or(line, |(_, report)| report)
            .trim();
        // Progress: nothing else is seen of a guest until it ends.
        eprintln!("[{:6.1}] {report}", self.start.elapsed().as_secs_f64());
        self.latest = Some(report.to_owned());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn write_when_a_line_is_a_report_takes_it_down_with_the_exits() {
        let mut listener = Listener::new();
        listener.count_exits(Arc::new(|| 7));
        listener.write_all(b"Linux version 6.1\n").unwrap();
        assert_eq!(listener.waits_for(), "the guest's init to report");
        listener
            .write_all(b"[1.0] synic-guest: boot n=1 cpus=2\r\n")
            .unwrap();
        assert_eq!(listener.report().boots.len(), 1);
        let waits_for = listener.waits_for();
        assert_eq!(
            waits_for,
            "what follows the guest's report \"boot n=1 cpus=2\""
        );
    }
}
