// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! `synic-vmm hostile`: a guest that fuzzes its own SynIC from all vCPUs at once, while this
//! process posts, signals, rings, saves and takes snapshots at random moments.
//!
//! The guest is in `guest-hostile/` beside this package's sources. Its last VP, the witness, does
//! not fuzz; it is the demo guest's driver, and each delivery to it is checked as in the demo.
//! The attack fails if that VP misses anything, if the guest can make this process grow, panic or
//! flood its log, if the manager's counters do not balance, or if it does not work afterwards.
//!
//! What a guest may do to itself is no attack: `HvSetVpRegisters` for another VP, HV_X64_MSR_RESET,
//! an INIT. The boundary that the TLFS draws is the partition. So until the witness is done,
//! fuzzers direct at it only what must have no effect, and leave GUEST_OS_ID, which belongs to all
//! VPs, not 0. After that, the witness fuzzes as well, and nobody is spared.

mod aftermath;
mod attack;
mod counts;
#[path = "../../guest-hostile/fuzz_protocol.rs"]
#[allow(
    dead_code,
    missing_docs,
    reason = "shared with the guest, which uses the rest"
)]
mod fuzz_protocol;
mod meddler;
#[path = "../../guest-hostile/random.rs"]
#[allow(missing_docs, reason = "shared with the guest")]
mod random;
mod report;
mod resident;
mod sender;
mod verdict;
mod watch;

use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Result;
use clap::{Args, value_parser};

use crate::cli::{BackendArg, IrqchipArg};
use attack::Attack;

/// How long, from how many vCPUs, and with which random numbers.
#[derive(Args, Clone, Debug)]
pub struct HostileArgs {
    /// Number of vCPUs, 2 to 8; the last one is the witness
    #[arg(long, value_name = "N", default_value_t = 4)]
    #[arg(value_parser = value_parser!(u32).range(2..=8))]
    pub vcpus: u32,
    /// How long to attack, in seconds
    #[arg(long, value_name = "S", default_value_t = 60)]
    #[arg(value_parser = value_parser!(u64).range(1..))]
    pub seconds: u64,
    /// Seed of all random numbers, as an earlier report gives it; else a new one
    #[arg(long, value_name = "X")]
    pub seed: Option<u64>,
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

/// Attacks, and reports what came of it.
pub fn run(args: &HostileArgs) -> Result<ExitCode> {
    let attack = Attack {
        vcpus: args.vcpus,
        length: Duration::from_secs(args.seconds),
        seed: args.seed.unwrap_or_else(new_seed),
        backend: args.backend.wish()?,
        irqchip: args.irqchip.into(),
    };
    let outcome = attack.run()?;
    if args.json {
        println!("{}", report::json(&outcome));
    } else {
        println!("{}", report::text(&outcome));
    }
    Ok(ExitCode::from(u8::from(!outcome.failures.is_empty())))
}

fn new_seed() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    // Short enough to be typed.
    u64::from(since.unwrap_or_default().subsec_nanos())
}
