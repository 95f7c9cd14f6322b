// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! `synic-guest`: the init of a Linux guest that puts its Hyper-V drivers to work.
//!
//! It does what the kernel's command line says (`synic.scenario=echo synic.packets=1000`), reports
//! in the kernel's log (`synic-guest: <event> key=value ...`), and ends by powering the guest off.
//! It is linked statically and needs no other file but the kernel's modules, in `/modules`, and a
//! kernel and its initramfs in `/kexec` where another kernel is to be started.

mod cpu;
mod echo;
mod failure;
mod hotplug;
mod kernel_log;
mod kexec;
mod modules;
mod mshv;
mod options;
mod program;
mod reload;
mod report;
mod snapshot;
mod survey;
mod sys;
mod vmbus;
mod vsock;
mod watchdog;

use std::process::ExitCode;

use failure::{Failure, Result};
use modules::Module;
use options::Options;
use report::say;

fn main() -> ExitCode {
    if std::process::id() != 1 {
        eprintln!("Error: synic-guest is to be the init of a Linux guest");
        return ExitCode::from(2);
    }
    std::panic::set_hook(Box::new(|panic| {
        finish(Err(Failure::new("panic", panic)));
    }));
    finish(start());
    // Not reached: without init, the kernel panics, which the host sees.
    ExitCode::FAILURE
}

fn start() -> Result<()> {
    sys::mount_all()?;
    let options = Options::read()?;
    watchdog::start(options.timeout()?)?;
    run(&options)
}

fn run(options: &Options) -> Result<()> {
    let scenario = options.get("scenario").unwrap_or("basic");
    let boot = options.number("boot", 1)?;
    let release = sys::kernel_release()?;
    let cpus = cpu::present()?.len();
    say(&format!(
        "boot n={boot} kernel={release} cpus={cpus} scenario={scenario}"
    ));
    let modules = match options.with_vmbus()? {
        true => connect(options)?,
        false => Vec::new(),
    };
    let is_parent = options.get("role") == Some("l1vh");
    // The driver leaves a crash kernel alone.
    if is_parent && (scenario, boot) != ("crash", 2) {
        mshv::check()?;
    }
    survey::report()?;
    match (scenario, boot) {
        ("basic", _) => {}
        ("echo", _) => echo::run(options.number("packets", 100_000)?)?,
        ("snapshot", _) => snapshot::run()?,
        ("reload", _) if is_parent => mshv::reload(&modules, options)?,
        ("reload", _) => reload::run(modules, options)?,
        ("mshv", _) => mshv::use_device(&modules, options)?,
        ("hotplug", _) => hotplug::run(options)?,
        ("reboot" | "kexec" | "crash", 1) => kexec::leave(scenario, options)?,
        ("reboot" | "kexec" | "crash", _) if !options.with_vmbus()? => {}
        ("reboot" | "kexec" | "crash", _) => echo::run(options.number("packets", 1000)?)?,
        _ => return Err(Failure::new("unknown-scenario", scenario)),
    }
    Ok(())
}

/// Loads the drivers and waits until they work.
fn connect(options: &Options) -> Result<Vec<Module>> {
    vmbus::check_hypervisor()?;
    let modules = modules::load_all()?;
    vmbus::wait_for_connection()?;
    vmbus::wait_for_heartbeat(options.number("beats", 2)?)?;
    Ok(modules)
}

/// Reports how it went and powers off.
pub fn finish(result: Result<()>) {
    kernel_log::report_complaints();
    match result {
        Ok(()) => say("done"),
        Err(failure) => say(&format!("FAILED {failure}")),
    }
    sys::power_off();
}
