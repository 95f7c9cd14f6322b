// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! `synic-vmm teardown`: how VMBus and MSHV take the SynIC that they share down, as they should and
//! as they should not, replayed by a bare-metal guest, and what the ownership rules say of it.
//!
//! The guest in `guest-teardown/` makes each register write by an instruction of its own;
//! `sequence` has the writes of Linux's drivers and what is expected of them, `play` has them made,
//! and `report` holds what came of it against that.

#[path = "../../guest-teardown/mailbox.rs"]
#[allow(
    dead_code,
    missing_docs,
    reason = "shared with the guest, which uses the rest"
)]
mod mailbox;
mod picture;
mod play;
mod report;
mod sequence;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Args, value_parser};

use crate::boot::write;
use crate::cli::PolicyArg;
use sequence::Sequence;

/// What to replay.
#[derive(Args, Clone, Debug)]
pub struct TeardownArgs {
    /// Which sequence of register writes
    #[arg(long, value_enum, default_value_t)]
    pub sequence: Sequence,
    /// What happens to a register write that breaks an ownership rule
    #[arg(long, value_enum, default_value_t)]
    pub policy: PolicyArg,
    /// Number of vCPUs, 1 to 8
    #[arg(long, value_name = "N", default_value_t = 2)]
    #[arg(value_parser = value_parser!(u32).range(1..=8))]
    pub vcpus: u32,
    /// Print the report as one JSON object
    #[arg(long)]
    pub json: bool,
    /// Write a timeline of the SynIC to this file, in the Chrome trace format
    #[arg(long, value_name = "FILE")]
    pub trace: Option<PathBuf>,
    /// Draw the register writes of the first VP into this file, as SVG
    #[arg(long, value_name = "FILE")]
    pub picture: Option<PathBuf>,
}

/// Replays it, and reports; status 1 if it did not come out as expected.
pub fn run(args: &TeardownArgs) -> Result<ExitCode> {
    let played = play::play(args)?;
    let faults = report::faults(args, &played);
    if args.json {
        println!("{:#}", report::json(args, &played, &faults));
    } else {
        println!("{}", report::text(args, &played, &faults));
    }
    if let (Some(path), Some(trace)) = (&args.trace, &played.trace) {
        write(path, &trace.to_string())?;
    }
    if let (Some(path), Some(vp)) = (&args.picture, played.synic.vps.first()) {
        let title = format!("{:?}, policy {}, {}", args.sequence, args.policy, vp.index);
        write(path, &picture::svg(&title, &vp.ledger))?;
    }
    Ok(ExitCode::from(u8::from(!faults.is_empty())))
}
