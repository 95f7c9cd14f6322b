// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! `synic-vmm boot`: runs a Linux kernel, or a bare-metal image that somebody else has built. And
//! `synic-vmm restore`: goes on with what was saved of one.

mod args;
mod end;
mod image;
mod machine;
mod progress;
mod session;
pub mod vcpus;

use std::io::{self, IsTerminal};
use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, Result};

use crate::devices::Console;
use crate::snapshot;
pub use args::{BOOT_HELP, BootArgs, RESTORE_HELP, RestoreArgs};
use image::Image;
pub use machine::{Machine, MachineConfig, TIMELINE_DEPTH, add_vmbus};
use session::{Session, listen_for_requests};

/// The exit status for whatever is not the guest's doing; a guest's own status is odd.
pub const STATUS_ERROR: u8 = 2;
/// The exit status for a timeout, as timeout(1) has it.
pub const STATUS_TIMEOUT: u8 = 124;

/// Boots, waits for the end, and reports it.
pub fn run(args: &BootArgs) -> Result<ExitCode> {
    let start = Instant::now();
    listen_for_requests(&args.run)?;
    let image = Image::read(args)?;
    let console = console();
    let config = MachineConfig::new(args, image.kind);
    let mut machine = Machine::new(&config, console.clone())?;
    image.load_into(&mut machine.vm)?;
    let has_input = image.kind.is_linux();
    let loads = Some((&image, args.reboots.0));
    Session::of(machine, &args.run, console, start).run(loads, has_input)
}

/// Goes on with a guest that was saved, waits for the end, and reports it.
pub fn restore(args: &RestoreArgs) -> Result<ExitCode> {
    let start = Instant::now();
    listen_for_requests(&args.run)?;
    let console = console();
    let adapt = |config: &mut MachineConfig| config.adapt(args);
    let machine = snapshot::restore(&args.file, console.clone(), adapt)?;
    Session::of(machine, &args.run, console, start).run(None, true)
}

/// By lines, unless a user has a conversation with the guest.
fn console() -> Console {
    let out = Box::new(io::stdout());
    match io::stdin().is_terminal() && io::stdout().is_terminal() {
        true => Console::unbuffered(out),
        false => Console::new(Some(out)),
    }
}

/// Writes a file that the user has asked for.
pub fn write(path: &Path, text: &str) -> Result<()> {
    std::fs::write(path, text).with_context(|| format!("Cannot write {}", path.display()))
}
