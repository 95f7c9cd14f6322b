// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! A guest that is handed from process to process: each runs it for a while, saves it in the middle of
//! its traffic, and ends; the next one restores it. They are `synic-vmm boot` and `synic-vmm restore`, as
//! anybody may call them.

use std::ffi::OsString;
use std::fs;
use std::process::Command;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use vm_synic::Snapshot;
use vmm_sys_util::tempdir::TempDir;

use super::LinuxArgs;
use super::listener::Listener;
use super::runner::Runner;
use crate::cli::BackendArg;
use crate::devices::Console;
use crate::vmbus::VmbusReport;

/// Who takes part, and how often the guest is handed on.
pub struct Relay<'a> {
    args: &'a LinuxArgs,
    listener: Listener,
    console: Console,
    folder: TempDir,
    /// Hears that the guest has come further.
    parts: Receiver<()>,
    deadline: Instant,
}

/// What is known at the end.
pub struct Arrived {
    pub handovers: Handovers,
    pub last: LastReport,
}

/// How the guest was handed on.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Handovers {
    /// How often.
    pub count: u32,
    /// From the signal to the end of the process that saves, on average.
    pub seconds_to_save: f64,
    /// From the start of the process that restores to the guest's report of more packets, on average.
    pub seconds_to_go_on: f64,
    /// Bytes that the last snapshot takes on disk.
    pub file_bytes: u64,
    /// The backends that have had it.
    pub backends: Vec<String>,
}

/// What the last process says of the machine.
#[derive(Deserialize)]
pub struct LastReport {
    pub ended: String,
    pub backend: String,
    pub vmbus: VmbusReport,
    pub synic: Snapshot,
}

impl<'a> Relay<'a> {
    /// For a guest that `listener` hears.
    pub fn new(args: &'a LinuxArgs, listener: Listener, console: Console) -> Result<Self> {
        let (sender, parts) = channel();
        listener.tell(Arc::new(move |event| {
            if event.name == "echo-part" {
                // The receiver lives as long as the guest.
                let _ = sender.send(());
            }
        }));
        Ok(Self {
            args,
            listener,
            console,
            folder: TempDir::new().context("Cannot make a folder for the snapshots")?,
            parts,
            deadline: Instant::now() + Duration::from_secs(args.timeout),
        })
    }

    /// Runs the guest to its end; an error is its failure, or ours.
    pub fn run(&mut self, options: &str) -> Result<Arrived> {
        let mut handovers = Handovers::default();
        for leg in 0..=self.args.snapshots {
            let backend = self.backend(leg);
            let mut command = match leg {
                0 => self.boot(options)?,
                _ => self.restore()?,
            };
            command.arg("--backend").arg(name_of(backend));
            if !handovers.backends.contains(&name_of(backend)) {
                handovers.backends.push(name_of(backend));
            }
            let began = Instant::now();
            let mut runner = Runner::start(command, &self.console)?;
            self.let_it_run(&mut runner, leg, began, &mut handovers)?;
            if leg == self.args.snapshots {
                runner.say("enough")?;
                runner.end(STATUS_OFF, self.deadline)?;
                break;
            }
            let asked = Instant::now();
            runner.ask_to_save()?;
            runner.end(STATUS_SAVED, self.deadline)?;
            handovers.seconds_to_save += asked.elapsed().as_secs_f64();
            handovers.count += 1;
        }
        handovers.average();
        handovers.file_bytes = self.file_bytes()?;
        let report = fs::read(self.report()).context("Cannot read the last report")?;
        Ok(Arrived {
            handovers,
            last: serde_json::from_slice(&report).context("The last report is malformed")?,
        })
    }

    /// Returns in the middle of traffic.
    fn let_it_run(
        &self,
        runner: &mut Runner,
        leg: u32,
        began: Instant,
        handovers: &mut Handovers,
    ) -> Result<()> {
        // Those that were reported before the last one was saved.
        while self.parts.try_recv().is_ok() {}
        self.wait_for_part(runner)
            .with_context(|| format!("Process {leg}"))?;
        if leg > 0 {
            handovers.seconds_to_go_on += began.elapsed().as_secs_f64();
        }
        // At another point of the traffic each time.
        thread::sleep(STEP * (leg * 7 % 10));
        Ok(())
    }

    fn wait_for_part(&self, runner: &mut Runner) -> Result<()> {
        loop {
            match self.parts.recv_timeout(LOOK) {
                Ok(()) => return Ok(()),
                Err(RecvTimeoutError::Disconnected) => bail!("nobody listens to the guest"),
                Err(RecvTimeoutError::Timeout) => {}
            }
            runner.check()?;
            let waits_for = self.listener.waits_for();
            let in_time = Instant::now() < self.deadline;
            ensure!(in_time, "{TIMEOUT} while waiting for {waits_for}");
        }
    }

    fn backend(&self, leg: u32) -> BackendArg {
        match self.args.change_backend {
            true if leg % 2 == 0 => BackendArg::Emulated,
            true => BackendArg::KvmPage,
            false => self.args.backend,
        }
    }

    fn boot(&self, options: &str) -> Result<Command> {
        let args = self.args;
        let mut command = self.command("boot")?;
        command.arg("--kernel").arg(&args.kernel);
        command.arg("--initrd").arg(&args.initrd);
        command.arg(joined("--cmdline=", options));
        command.arg("--vcpus").arg(args.vcpus.to_string());
        command.arg("--memory").arg(args.memory.to_string());
        command.arg("--irqchip").arg(name_of(args.irqchip));
        command
            .arg("--timers")
            .arg(name_of(args.enlightenments.timers));
        if args.enlightenments.auto_eoi {
            command.arg("--auto-eoi");
        }
        Ok(command)
    }

    fn restore(&self) -> Result<Command> {
        let mut command = self.command("restore")?;
        command.arg(self.file());
        Ok(command)
    }

    fn command(&self, name: &str) -> Result<Command> {
        let program = std::env::current_exe().context("Cannot find this program itself")?;
        let mut command = Command::new(program);
        command.arg(name);
        command.arg("--snapshot").arg(self.file());
        command.arg("--json").arg(self.report());
        let left = self.deadline.saturating_duration_since(Instant::now());
        command
            .arg("--timeout")
            .arg(left.as_secs().max(1).to_string());
        Ok(command)
    }

    fn file(&self) -> std::path::PathBuf {
        self.folder.as_path().join("guest.snapshot")
    }

    fn report(&self) -> std::path::PathBuf {
        self.folder.as_path().join("report.json")
    }

    fn file_bytes(&self) -> Result<u64> {
        use std::os::unix::fs::MetadataExt;
        let metadata = fs::metadata(self.file()).context("There is no snapshot")?;
        Ok(metadata.blocks() * 512)
    }
}

impl Handovers {
    /// Of what was added up.
    fn average(&mut self) {
        let count = f64::from(self.count.max(1));
        self.seconds_to_save /= count;
        self.seconds_to_go_on /= count;
    }
}

/// As the command line takes it.
fn name_of(value: impl ValueEnum) -> String {
    let name = value.to_possible_value();
    name.map_or_else(String::new, |value| value.get_name().to_owned())
}

fn joined(option: &str, value: &str) -> OsString {
    format!("{option}{value}").into()
}

/// How a failure for want of time begins.
pub const TIMEOUT: &str = "Timeout";
const STATUS_OFF: i32 = 0;
const STATUS_SAVED: i32 = 6;
const LOOK: Duration = Duration::from_millis(100);
const STEP: Duration = Duration::from_millis(20);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::IrqchipArg;

    #[test]
    fn name_of_a_choice_is_what_the_command_line_takes() {
        assert_eq!(name_of(BackendArg::KvmPage), "kvm-page");
        assert_eq!(name_of(IrqchipArg::Full), "full");
    }
}
