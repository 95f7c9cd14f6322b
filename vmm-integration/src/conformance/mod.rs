// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! `synic-vmm conformance`: the suite of all backends, on those that need a real VM.
//!
//! The guest in `guest-puppet/` does what each case has it do; `machine` is a VM with it.

mod machine;
#[path = "../../guest-puppet/mailbox.rs"]
#[allow(
    dead_code,
    missing_docs,
    reason = "shared with the guest, which uses the rest"
)]
mod mailbox;

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;

use anyhow::{Result, ensure};
use clap::Args;
use serde_json::json;
use vm_synic::test_utils::conformance::{Case, cases};

use crate::backend::{Irqchip, Wish};
use crate::cli::{BackendArg, IrqchipArg};
use machine::Puppet;

/// On what to play which cases.
#[derive(Args, Clone, Debug)]
pub struct ConformanceArgs {
    /// Only the cases whose names contain this
    #[arg(long, value_name = "NAME", default_value = "")]
    pub case: String,
    /// Who has the SynIC: this process, KVM, or Microsoft's hypervisor
    #[arg(long, value_enum, default_value_t)]
    pub backend: BackendArg,
    /// Where the interrupt controllers are: all in the kernel, or the LAPICs alone
    #[arg(long, value_enum, default_value_t)]
    pub irqchip: IrqchipArg,
    /// Print the report as one JSON object
    #[arg(long)]
    pub json: bool,
}

/// Plays them, each on a VM of its own; status 1 if one fails.
pub fn run(args: &ConformanceArgs) -> Result<ExitCode> {
    let (wish, irqchip) = (args.backend.wish()?, args.irqchip.into());
    let all = cases::<Puppet>().into_iter();
    let chosen: Vec<_> = all.filter(|case| case.name.contains(&args.case)).collect();
    ensure!(
        !chosen.is_empty(),
        "No case has {:?} in its name",
        args.case
    );
    let mut failures = Vec::new();
    for case in &chosen {
        let played = play(case, wish, irqchip)?;
        if !args.json {
            println!(
                "{} {}",
                if played.is_ok() { "ok" } else { "FAILED" },
                case.name
            );
        }
        failures.extend(played.err().map(|why| format!("{}: {why}", case.name)));
    }
    let (count, failed) = (chosen.len(), failures.len());
    if args.json {
        println!("{:#}", json!({ "cases": count, "failures": failures }));
    } else {
        failures.iter().for_each(|failure| println!("{failure}"));
        println!(
            "{}: {failed} of {count} cases failed",
            if failed == 0 { "OK" } else { "FAILED" }
        );
    }
    Ok(ExitCode::from(u8::from(failed != 0)))
}

/// What a case has against the backend; an error if there is no VM to play it on.
fn play(
    case: &Case<Puppet>,
    wish: Wish,
    irqchip: Irqchip,
) -> Result<std::result::Result<(), String>> {
    let mut puppet = Puppet::start(case.config(), wish, irqchip)?;
    let played = catch_unwind(AssertUnwindSafe(|| (case.play)(&mut puppet)));
    Ok(played.map_err(|panic| words(&*panic)))
}

fn words(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
    text.unwrap_or("it panicked").to_owned()
}
