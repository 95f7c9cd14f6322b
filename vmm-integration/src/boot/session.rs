// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! A machine from its first run until it is off, or saved.

use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use libc::{c_int, c_void, siginfo_t};
use vmm_sys_util::signal::register_signal_handler;

use super::args::RunArgs;
use super::end::{End, Report};
use super::image::Image;
use super::machine::{Machine, MachineConfig};
use super::progress::Progress;
use super::write;
use crate::devices::{Console, SerialInput};
use crate::snapshot;
use crate::vm::{RunningVm, Stop, Vm};

/// One machine, and how it is run.
pub struct Session<'a> {
    machine: Machine,
    args: &'a RunArgs,
    console: Console,
    start: Instant,
}

/// What runs the machine has while it is looked at.
struct Watch<'a> {
    args: &'a RunArgs,
    start: Instant,
    input: Option<SerialInput>,
    progress: Progress<'a>,
}

impl<'a> Session<'a> {
    /// A machine that is ready to run; its time has begun at `start`.
    pub fn of(machine: Machine, args: &'a RunArgs, console: Console, start: Instant) -> Self {
        Self {
            machine,
            args,
            console,
            start,
        }
    }

    /// Runs it, waits for the end, and reports. `loads`: what is loaded again after a reset of the
    /// machine, and how often.
    pub fn run(self, loads: Option<(&Image, u32)>, has_input: bool) -> Result<ExitCode> {
        let Machine {
            config,
            vm,
            com1,
            vmbus,
        } = self.machine;
        let (console, start, args) = (self.console, self.start, self.args);
        let mut watch = Watch {
            args,
            start,
            input: has_input.then(|| SerialInput::start(com1)).transpose()?,
            progress: Progress::new(&vm, vmbus.as_deref(), &console),
        };
        let save = |vm: &Vm| save(&config, vm, vmbus.as_deref(), args);
        let (end, reboots, vm) = watch.play(vm, loads, save)?;
        // Gives a terminal back before anything is reported on it.
        drop(watch.input);
        let report = Report {
            end,
            reboots,
            elapsed: start.elapsed(),
            vm: &vm,
            vmbus: vmbus.as_deref(),
            console: &console,
            waits_for: watch.progress.stage(),
        };
        report.print();
        if let Some(path) = &args.json {
            write(path, &format!("{:#}\n", report.to_json()))?;
        }
        if let Some(path) = &args.trace {
            write(path, &vm.manager().chrome_trace().to_string())?;
        }
        Ok(ExitCode::from(report.end.status()))
    }
}

impl Watch<'_> {
    /// Starts the machine, again after each reset that is to be followed, and after each attempt to
    /// save it that has failed; returns how it ended, and after how many resets.
    fn play(
        &mut self,
        mut vm: Vm,
        loads: Option<(&Image, u32)>,
        save: impl Fn(&Vm) -> Result<()>,
    ) -> Result<(End, u32, Vm)> {
        let mut reboots = 0;
        loop {
            let running = vm.start()?;
            let end = self.wait(&running);
            vm = running.stop()?;
            match (end, loads) {
                (End::Saved, _) => match save(&vm) {
                    Ok(()) => return Ok((End::Saved, reboots, vm)),
                    Err(e) => log::error!("The guest goes on, as it cannot be saved: {e:#}"),
                },
                (End::Reset, Some((image, most))) if reboots < most => {
                    reboots += 1;
                    log::info!("The guest resets the machine, for the {reboots}. time");
                    vm.reset()?;
                    image.load_into(&mut vm)?;
                }
                (end, _) => return Ok((end, reboots, vm)),
            }
        }
    }

    fn wait(&mut self, running: &RunningVm) -> End {
        let timeout = self.args.timeout.map(Duration::from_secs);
        let look = if self.args.snapshot.is_some() {
            LOOK_OFTEN
        } else {
            LOOK
        };
        loop {
            let left = timeout.map(|t| t.saturating_sub(self.start.elapsed()));
            match running.wait(Some(left.map_or(look, |left| left.min(look)))) {
                Some(stop) => return End::from(stop),
                None if left == Some(Duration::ZERO) => return End::TimedOut,
                None if self.input.as_ref().is_some_and(SerialInput::wants_to_quit) => {
                    return End::Quit;
                }
                None if IS_TO_SAVE.swap(false, Ordering::SeqCst) => return End::Saved,
                None => self.progress.look(),
            }
        }
    }
}

impl From<Stop> for End {
    fn from(stop: Stop) -> Self {
        match stop {
            Stop::Exit(value) => Self::Exit(value),
            Stop::PowerOff => Self::PowerOff,
            Stop::Reset => Self::Reset,
            Stop::TripleFault(vp) => Self::Failed(anyhow::anyhow!("{vp} took a triple fault")),
            Stop::Failed(e) => Self::Failed(e),
        }
    }
}

fn save(
    config: &MachineConfig,
    vm: &Vm,
    vmbus: Option<&crate::vmbus::VmbusHost>,
    args: &RunArgs,
) -> Result<()> {
    let path = args
        .snapshot
        .as_deref()
        .context("There is no file to save to")?;
    snapshot::save(config, vm, vmbus, path)
}

/// From now on, SIGUSR1 asks to save, if there is a file for it: even before the guest runs.
pub fn listen_for_requests(args: &RunArgs) -> Result<()> {
    extern "C" fn handle(_: c_int, _: *mut siginfo_t, _: *mut c_void) {
        IS_TO_SAVE.store(true, Ordering::SeqCst);
    }
    match args.snapshot {
        Some(_) => {
            register_signal_handler(libc::SIGUSR1, handle).context("Cannot listen for SIGUSR1")
        }
        None => Ok(()),
    }
}

/// Set by a signal handler, for the whole process.
static IS_TO_SAVE: AtomicBool = AtomicBool::new(false);

/// How often the user's wishes and the guest's progress are looked at. Nothing that the guest waits
/// for depends on it.
const LOOK: Duration = Duration::from_millis(200);
/// A user who has asked to save waits for it.
const LOOK_OFTEN: Duration = Duration::from_millis(10);
