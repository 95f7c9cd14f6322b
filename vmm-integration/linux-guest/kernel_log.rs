// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! The kernel's own log: what it says about VMBus, and what it complains about.

use std::fs::OpenOptions;
use std::io::{ErrorKind, Read};
use std::os::unix::fs::OpenOptionsExt;

use crate::report::{KMSG, say};

/// One record of the log.
#[derive(Debug, PartialEq, Eq)]
pub struct Record {
    pub level: u8,
    pub text: String,
}

/// All records that the kernel still has, oldest first.
pub fn records() -> Vec<Record> {
    let log = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NONBLOCK)
        .open(KMSG);
    let Ok(mut log) = log else {
        return Vec::new();
    };
    let mut buffer = vec![0; RECORD];
    let mut records = Vec::new();
    loop {
        match log.read(&mut buffer) {
            Ok(length) => records.extend(parse(&buffer[..length])),
            // Records were overwritten; the next read goes on with the oldest that is left.
            Err(e) if e.raw_os_error() == Some(libc::EPIPE) => {}
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            Err(_) => return records,
        }
    }
}

/// What follows `prefix` in the latest record that contains it, up to white space.
pub fn latest_word_after(prefix: &str) -> Option<String> {
    let word = |record: &Record| {
        let (_, rest) = record.text.split_once(prefix)?;
        rest.split_whitespace().next().map(str::to_owned)
    };
    records().iter().rev().find_map(word)
}

/// Reports each record in which the kernel complains about what this guest is there to test.
pub fn report_complaints() {
    let all = records();
    for record in all.iter().filter(|record| is_complaint(record)) {
        say(&format!(
            "complaint level={} -- {}",
            record.level, record.text
        ));
    }
}

/// A record is `level|facility<<3,sequence,time,flags;text`, then lines of properties.
fn parse(record: &[u8]) -> Option<Record> {
    let record = String::from_utf8_lossy(record);
    let (head, text) = record.split_once(';')?;
    let prefix: u32 = head.split(',').next()?.parse().ok()?;
    Some(Record {
        level: (prefix & 7) as u8,
        text: text.lines().next()?.to_owned(),
    })
}

fn is_complaint(record: &Record) -> bool {
    let text = &record.text;
    let ours = text.starts_with("synic-guest:");
    let trouble = TROUBLE.iter().any(|what| text.contains(what)) && !text.contains(XSTATE);
    let driver = DRIVERS.iter().any(|driver| text.starts_with(driver));
    !ours && (trouble || (driver && record.level <= WARNING))
}

const WARNING: u8 = 4;
const DRIVERS: [&str; 4] = ["hv_", "vmbus", "Hyper-V", "uio_hv"];
const TROUBLE: [&str; 6] = [
    "WARNING:",
    "BUG:",
    "Oops",
    "detected stall",
    "soft lockup",
    "blocked for more than",
];
/// Warns of an inconsistent CPUID, which some CPUs have and this test does not look at.
const XSTATE: &str = "fpu/xstate.c";
/// As large as a record can become (`CONSOLE_EXT_LOG_MAX`).
const RECORD: usize = 8192;

#[cfg(test)]
mod tests {
    use super::*;

    fn record(level: u8, text: &str) -> Record {
        let text = text.into();
        Record { level, text }
    }

    #[test]
    fn parse_when_properties_follow_takes_level_and_text() {
        let line = b"12,345,6789,-;hv_vmbus: Vmbus version:5.3\n SUBSYSTEM=acpi\n";
        let expected = record(4, "hv_vmbus: Vmbus version:5.3");
        assert_eq!(parse(line), Some(expected));
        assert_eq!(parse(b"no record"), None);
    }

    #[test]
    fn is_complaint_when_a_driver_informs_is_not() {
        assert!(!is_complaint(&record(6, "hv_vmbus: Vmbus version:5.3")));
        assert!(is_complaint(&record(3, "hv_vmbus: Invalid icversion")));
        assert!(!is_complaint(&record(3, "ata1: no link")));
        assert!(is_complaint(&record(
            4,
            "WARNING: CPU: 1 PID: 1 at kernel/cpu.c:1"
        )));
        assert!(!is_complaint(&record(
            4,
            "WARNING: at arch/x86/kernel/fpu/xstate.c:606"
        )));
        assert!(!is_complaint(&record(1, "synic-guest: FAILED what=BUG:")));
    }
}
