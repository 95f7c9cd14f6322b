// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! `synic-vmm linux`: Linux guests that put their Hyper-V drivers to work, and a verdict on it.
//!
//! The guest's init is `synic-guest`, whose sources are in `linux-guest/` beside this package's. It
//! acts and reports by lines on its console, to which [`listener`] listens; [`judge`] holds them
//! against what VMBus's host side has counted, and against the SynIC's counters.

mod args;
mod bell;
mod event;
mod guest;
mod judge;
mod kind;
mod listener;
mod ownership;
mod play;
mod played;
mod relay;
mod report;
mod runner;

use std::process::ExitCode;

use anyhow::Result;

pub use args::LinuxArgs;
pub use kind::{Scenario, Scenarios};

use crate::boot::{STATUS_TIMEOUT, write};
use play::Guest;
use played::Played;

/// Runs the scenarios one after the other, each in a VM of its own, and reports.
pub fn run(args: &LinuxArgs) -> Result<ExitCode> {
    let (scenarios, skipped) = args.scenario.for_guest(args.role.into(), args.vcpus)?;
    let guest = Guest::new(args)?;
    let mut all = Vec::new();
    for scenario in scenarios {
        eprintln!("Scenario {scenario}, {} vCPUs", args.vcpus);
        let played = guest.play(scenario)?;
        println!("{}", report::text(&played));
        all.push(played);
    }
    for scenario in &skipped {
        println!("{scenario}: skipped: a machine with one CPU has none to take away");
    }
    if let Some(path) = &args.json {
        let report = report::json(args, &all, &skipped);
        write(path, &format!("{report:#}\n"))?;
    }
    let trace = all.last().and_then(|played| played.trace.as_ref());
    if let (Some(path), Some(trace)) = (&args.trace, trace) {
        write(path, &trace.to_string())?;
    }
    Ok(status(&all))
}

fn status(all: &[Played]) -> ExitCode {
    if all.iter().any(Played::timed_out) {
        return ExitCode::from(STATUS_TIMEOUT);
    }
    ExitCode::from(u8::from(!all.iter().all(Played::is_ok)))
}
