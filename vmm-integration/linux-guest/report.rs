// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! Reports to the host, as lines of the kernel's log.

use std::fs::OpenOptions;
use std::io::Write;

/// Says one thing: an event's name and its `key=value`s, then ` -- ` and any text.
pub fn say(event: &str) {
    let line = format!("{ALERT}synic-guest: {event}\n");
    let written = OpenOptions::new()
        .write(true)
        .open(KMSG)
        .and_then(|mut log| log.write_all(line.as_bytes()));
    if let Err(e) = written {
        // The host still sees that nothing more comes.
        eprintln!("synic-guest: cannot report {event}: {e}");
    }
}

pub const KMSG: &str = "/dev/kmsg";
/// A level that reaches the console even with `quiet`.
const ALERT: &str = "<1>";
