// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! `synic-rig`: runs `synic-vmm` with all of its guests where KVM has Hyper-V support, on any
//! machine.
//!
//! Backend `kvm` and in-kernel timers need a KVM that many machines do not have: virtual ones, and
//! those that have none. So QEMU emulates a processor with SVM (`machine.rs`), a distribution's
//! kernel brings its KVM (`debian.rs`, `kernel.rs`), and in an initramfs of our own (`cpio.rs`,
//! `initramfs.rs`) runs this same program as an agent that does what it is told over a serial port
//! (`order.rs`, `local.rs`).
//!
//! The command line (`cli.rs`) becomes jobs (`plan.rs`, `job.rs`); each is a `synic-vmm` command
//! in one setting. What comes of them is judged (`finding.rs`) and reported (`report.rs`).

mod cache;
mod cli;
mod cpio;
mod debian;
mod finding;
mod initramfs;
mod job;
mod kernel;
mod local;
mod machine;
mod modules;
mod order;
mod plan;
mod programs;
mod progress;
mod report;
mod site;
mod tools;

use std::io::{self, BufReader};
use std::process::ExitCode;

use anyhow::Result;
use thiserror::Error;

pub use cli::Cli;
use cli::{Command, RigArgs};
use finding::Finding;
use job::Job;
use order::Order;
use progress::Progress;
use site::Site;

/// Something that the rig needs is not here and cannot be had; the message says how to get it.
#[derive(Debug, Error)]
#[error("{0}")]
pub struct Unavailable(String);

impl Cli {
    /// Does what the command line says; the result is the process's exit status: 0 if all jobs
    /// passed, 1 if not, 2 on an error.
    pub fn run(self) -> ExitCode {
        match self.try_run() {
            Ok(true) => ExitCode::SUCCESS,
            Ok(false) => ExitCode::from(STATUS_FAILED),
            Err(e) => {
                eprintln!("Error: {e:#}");
                ExitCode::from(STATUS_ERROR)
            }
        }
    }

    /// Whether all jobs passed. An error is an [`Unavailable`] if this machine lacks something.
    pub fn try_run(self) -> Result<bool> {
        match self.command {
            Command::Agent => {
                local::serve(BufReader::new(io::stdin()), io::stdout()).map(|()| true)
            }
            Command::Shell(rig) => shell(&rig).map(|()| true),
            Command::Demo(args) => play(&args.rig, |_| Ok(plan::demo(args.count, &args.ways))),
            Command::Hostile(args) => {
                play(&args.rig, |_| Ok(plan::hostile(args.seconds, &args.ways)))
            }
            Command::Conformance(args) => play(&args.rig, |_| Ok(plan::conformance(args.timeout))),
            Command::Linux(args) => play(&args.rig, |site| plan::linux(&args, site)),
            Command::L1vh(args) => play(&args.rig, |site| plan::l1vh(&args, site)),
            Command::Images(args) => {
                play(&args.rig, |_| plan::image_folder(&args.folder, &args.ways))
            }
            Command::Matrix(args) => play(&args.rig, |site| plan::whole(&args, site)),
        }
    }
}

/// Runs all jobs and reports them.
fn play(rig: &RigArgs, plan: impl FnOnce(&Site) -> Result<Vec<Job>>) -> Result<bool> {
    let site = Site::prepare(rig)?;
    let jobs = plan(&site)?;
    let findings = run_all(&site, jobs)?;
    if rig.json {
        println!("{:#}", report::json(&findings));
    } else {
        println!(
            "{}\n\n{}\n",
            report::grid(&findings),
            report::list(&findings)
        );
        println!("{}", report::summary(&findings));
    }
    Ok(findings.iter().all(Finding::is_good))
}

fn run_all(site: &Site, jobs: Vec<Job>) -> Result<Vec<Finding>> {
    let orders: Vec<Order> = jobs.iter().map(|job| job.order(site.vmm())).collect();
    let mut place = site.place(&orders)?;
    let mut progress = Progress::new(jobs.len());
    let mut findings = Vec::new();
    for (job, order) in jobs.into_iter().zip(&orders) {
        progress.begin(&job);
        let outcome = place.run(order, &mut |event| progress.tell(event))?;
        let finding = Finding::new(job, outcome);
        progress.end(&finding);
        findings.push(finding);
    }
    Ok(findings)
}

fn shell(rig: &RigArgs) -> Result<()> {
    let site = Site::prepare(rig)?;
    let mut files = Vec::new();
    for kernel in site.guest_kernels()? {
        files.push(site.guest_initrd(&kernel, true)?);
        files.push(kernel.image);
    }
    site.machine(files)?.shell()
}

fn unavailable<T>(message: String) -> Result<T> {
    Err(Unavailable(message).into())
}

const STATUS_FAILED: u8 = 1;
const STATUS_ERROR: u8 = 2;
