// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! `synic-vmm boot`: runs a Linux kernel, or a bare-metal image that somebody else has built.

mod end;
mod image;
mod machine;
mod progress;
pub mod vcpus;

use std::io::{self, IsTerminal};
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::cli::BootArgs;
use crate::devices::{Console, SerialInput};
use crate::vm::{RunningVm, Stop, Vm};
use end::{End, Report};
use image::Image;
use machine::Machine;
pub use machine::{TIMELINE_DEPTH, add_vmbus};
use progress::Progress;

/// The exit status for whatever is not the guest's doing; a guest's own status is odd.
pub const STATUS_ERROR: u8 = 2;
/// The exit status for a timeout, as timeout(1) has it.
pub const STATUS_TIMEOUT: u8 = 124;

/// Boots, waits for the end, and reports it.
pub fn run(args: &BootArgs) -> Result<ExitCode> {
    let start = Instant::now();
    let image = Image::read(args)?;
    let console = console();
    let Machine { vm, com1, vmbus } = Machine::new(args, image.kind, console.clone())?;
    let mut session = Session {
        timeout: args.timeout.map(Duration::from_secs),
        start,
        input: None,
        progress: Progress::new(&vm, vmbus.as_deref(), &console),
    };
    if image.kind.is_linux() {
        session.input = Some(SerialInput::start(com1)?);
    }
    let (end, reboots, vm) = session.play(vm, &image, args.reboots.0)?;
    // Gives a terminal back before anything is reported on it.
    drop(session.input);
    let report = Report {
        end,
        reboots,
        elapsed: start.elapsed(),
        vm: &vm,
        vmbus: vmbus.as_deref(),
        console: &console,
        waits_for: session.progress.stage(),
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

/// By lines, unless a user has a conversation with the guest.
fn console() -> Console {
    let out = Box::new(io::stdout());
    match io::stdin().is_terminal() && io::stdout().is_terminal() {
        true => Console::unbuffered(out),
        false => Console::new(Some(out)),
    }
}

/// A VM from power-on until it is off.
struct Session<'a> {
    timeout: Option<Duration>,
    start: Instant,
    input: Option<SerialInput>,
    progress: Progress<'a>,
}

impl Session<'_> {
    /// Starts the machine, again after each reset that is to be followed; returns how it ended,
    /// and after how many resets.
    fn play(&mut self, mut vm: Vm, image: &Image, most: u32) -> Result<(End, u32, Vm)> {
        let mut reboots = 0;
        loop {
            image.load_into(&mut vm)?;
            let running = vm.start()?;
            let end = self.wait(&running);
            vm = running.stop()?;
            if !matches!(end, End::Reset) || reboots >= most {
                return Ok((end, reboots, vm));
            }
            reboots += 1;
            log::info!("The guest resets the machine, for the {reboots}. time");
            vm.reset()?;
        }
    }

    fn wait(&mut self, running: &RunningVm) -> End {
        loop {
            let left = self.timeout.map(|t| t.saturating_sub(self.start.elapsed()));
            match running.wait(Some(left.map_or(LOOK, |left| left.min(LOOK)))) {
                Some(stop) => return End::from(stop),
                None if left == Some(Duration::ZERO) => return End::TimedOut,
                None if self.input.as_ref().is_some_and(SerialInput::wants_to_quit) => {
                    return End::Quit;
                }
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

/// Writes a file that the user has asked for.
pub fn write(path: &Path, text: &str) -> Result<()> {
    std::fs::write(path, text).with_context(|| format!("Cannot write {}", path.display()))
}

/// How often the user's wishes and the guest's progress are looked at. Nothing that the guest waits
/// for depends on it.
const LOOK: Duration = Duration::from_millis(200);
