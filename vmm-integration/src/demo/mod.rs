// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! `synic-vmm demo`: a guest of our own whose VPs use every part of their SynIC at the same time,
//! and an exact account of everything that was sent.
//!
//! The guest is in `guest/` beside this package's sources. Each of its VPs is a VMBus-like and an
//! MSHV-like driver, and rings the doorbells of the next VP. Here are the host's ends: [`outbound`]
//! sends to a VP, [`inbound`] takes what it sends, and [`accounts`] compares the totals. Both sides
//! stop at the first delivery that is not the one that had to come.

mod accounts;
pub(crate) mod event_loop;
pub(crate) mod fault;
pub(crate) mod guest;
pub(crate) mod inbound;
mod latency;
pub(crate) mod outbound;
mod ownership;
pub(crate) mod plan;
mod play;
pub(crate) mod ports;
mod progress;
#[path = "../../guest/protocol.rs"]
#[allow(
    dead_code,
    missing_docs,
    reason = "shared with the guest, which uses the rest"
)]
pub(crate) mod protocol;
mod report;
#[cfg(test)]
mod tests;
mod tsc;

use std::process::ExitCode;

use anyhow::{Context, Result};

use crate::cli::DemoArgs;
use plan::Plan;
use play::Demo;

/// Plays the demo and reports it.
pub fn run(args: &DemoArgs) -> Result<ExitCode> {
    let plan = Plan::new(args.vcpus, args.count.into())?;
    let demo = Demo {
        with_timeline: args.trace.is_some(),
        backend: args.backend.wish()?,
        irqchip: args.irqchip.into(),
        ..Demo::new(plan)
    };
    let outcome = demo.play()?;
    if let (Some(path), Some(trace)) = (&args.trace, &outcome.trace) {
        let write = std::fs::write(path, trace.to_string());
        write.with_context(|| format!("Cannot write {}", path.display()))?;
    }
    if args.json {
        println!("{}", report::json(&outcome));
    } else {
        println!("{}", report::text(&outcome));
    }
    Ok(ExitCode::from(u8::from(!outcome.faults.is_empty())))
}
