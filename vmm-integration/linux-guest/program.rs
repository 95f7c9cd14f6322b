// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! A program in the guest: `/bin/program`, by default `synic-mshv`.
//!
//! Its standard input is the serial port, by which the host answers it. Its lines go into the
//! kernel's log: a request to the host, `ring ...`, as it is, all others as what it says.

use std::fs::OpenOptions;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use crate::failure::{Failure, OrFail, Result};
use crate::options::Options;
use crate::report::say;
use crate::{sys, watchdog};

/// Runs it until it ends; fails if its exit status is not 0.
pub fn run(options: &Options) -> Result<()> {
    let input = OpenOptions::new().read(true).write(true).open(INPUT);
    let input = input.or_fail("program", INPUT)?;
    sys::silence(&input).or_fail("program", INPUT)?;
    let mut command = Command::new(PROGRAM);
    command.arg("--bell");
    for key in ["count", "ports", "threads"] {
        if let Some(value) = options.get(key) {
            command.arg(format!("--{key}={value}"));
        }
    }
    command.stdin(input).stdout(Stdio::piped());
    let mut child = command.spawn().or_fail("program", PROGRAM)?;
    watchdog::doing("running the program");
    for line in child
        .stdout
        .take()
        .map(BufReader::new)
        .into_iter()
        .flat_map(BufRead::lines)
    {
        let line = line.or_fail("program", "its output")?;
        let is_request = line.starts_with("ring ");
        let prefix = if is_request { "" } else { "program -- " };
        watchdog::doing(format!("running the program, which has said: {line}"));
        say(&format!("{prefix}{line}"));
    }
    let status = child.wait().or_fail("program", PROGRAM)?;
    say(&format!(
        "program-end status={}",
        status.code().unwrap_or(-1)
    ));
    if !status.success() {
        return Err(Failure::new(
            "program",
            format_args!("it ended with {status}"),
        ));
    }
    Ok(())
}

const PROGRAM: &str = "/bin/program";
const INPUT: &str = "/dev/ttyS0";
