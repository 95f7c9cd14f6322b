// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! `synic-mshv`: what Linux's MSHV driver does with the SynIC it runs on, tried through
//! `/dev/mshv`.
//!
//! It runs in an L1VH guest of `synic-vmm`, whose init starts it, and as it is on a machine that
//! really is a parent partition. Each check prints a line; see `report.rs`. Doorbells have to be
//! rung by somebody: `bell.rs`.

mod backend;
mod bell;
mod device;
mod doorbell;
mod passthrough;
mod report;
mod ringing;
mod teardown;

use std::path::Path;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, value_parser};

use bell::Bell;
use report::{Outcome, Report};

/// Try /dev/mshv: partitions, doorbells and hypercalls that it passes on
///
/// Needs a partition that may create others (root or L1VH), the driver mshv_root, and no running
/// virtual machine. Exit status: 0 if nothing failed, 1 if something did, 77 if there is no
/// /dev/mshv.
#[derive(Clone, Copy, Debug, Parser)]
#[command(name = "synic-mshv", version)]
struct Args {
    /// Somebody reads requests to ring doorbells from standard output and answers on standard
    /// input, as synic-vmm does; without, what needs it is skipped
    #[arg(long)]
    bell: bool,
    /// How many times to ring, half of them faster than the rings take it
    #[arg(long, value_name = "N", default_value_t = 100_000)]
    #[arg(value_parser = value_parser!(u64).range(2..))]
    count: u64,
    /// How many doorbells to ring
    #[arg(long, value_name = "N", default_value_t = 64)]
    #[arg(value_parser = value_parser!(u32).range(1..=1000))]
    ports: u32,
    /// By how many threads of the hypervisor's
    #[arg(long, value_name = "N", default_value_t = 4)]
    #[arg(value_parser = value_parser!(u32).range(1..=64))]
    threads: u32,
}

fn main() -> ExitCode {
    let args = Args::parse();
    if !Path::new(DEVICE).exists() {
        println!("skipped: no {DEVICE}");
        return ExitCode::from(STATUS_SKIPPED);
    }
    let mut report = Report::default();
    let bell = args.bell.then(Bell::new);
    for (name, check) in checks() {
        report.add(name, check(&args, bell.as_ref()));
    }
    println!("{report}");
    ExitCode::from(u8::from(!report.is_good()))
}

type Check = fn(&Args, Option<&Bell>) -> Result<Outcome>;

/// In the order in which each relies on those before it.
fn checks() -> [(&'static str, Check); 16] {
    [
        ("capabilities", |_, _| device::capabilities()),
        ("partition", |_, _| device::partition()),
        ("partitions", |_, _| device::partitions()),
        ("properties", |_, _| device::properties()),
        ("doorbells", |_, _| doorbell::register_and_remove()),
        ("doorbell refusals", |_, _| doorbell::refusals()),
        ("hypercalls", |_, _| passthrough::refusals()),
        ("match", |_, bell| ringing::matches(bell)),
        ("ringing", ringing::ring_paced),
        ("overflow", ringing::ring_flat_out),
        ("removal", teardown::remove_while_ringing),
        ("closing", teardown::close_while_ringing),
        ("backend doorbells", |_, _| backend::doorbells()),
        ("backend match", |_, bell| backend::doorbell_of_a_size(bell)),
        ("backend routes", |_, _| backend::routes()),
        ("backend deliveries", |_, _| backend::deliveries()),
    ]
}

const DEVICE: &str = "/dev/mshv";
/// As test programs have it.
const STATUS_SKIPPED: u8 = 77;
