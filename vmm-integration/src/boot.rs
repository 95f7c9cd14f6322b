// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! `synic-vmm boot`: runs an image that somebody else has built.

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};
use std::{fs, io};

use anyhow::{Context, Result};
use serde_json::json;
use vm_synic::Config;

use crate::cli::BootArgs;
use crate::devices::{Console, DebugExit, FwCfg, HypervTestdev, SerialPort, exit_status};
use crate::multiboot::Boot;
use crate::vm::{Manager, Stop, Vm, VmConfig};

/// The exit status for whatever is not the guest's doing; a guest's own status is odd.
pub const STATUS_ERROR: u8 = 2;
/// The exit status for a timeout, as timeout(1) has it.
pub const STATUS_TIMEOUT: u8 = 124;

/// Boots, waits for the end, and reports it.
pub fn run(args: &BootArgs) -> Result<ExitCode> {
    args.backend.check()?;
    let console = Console::new(Some(Box::new(io::stdout())));
    let vm = build(args, console.clone())?;
    let manager = vm.manager().clone();
    let start = Instant::now();
    let running = vm.start()?;
    let stop = running.wait(args.timeout.map(Duration::from_secs));
    running.stop();
    let end = End::new(stop);
    end.report(&console, &manager);
    if let Some(path) = &args.json {
        let report = end.to_json(start.elapsed(), &manager);
        write(path, &format!("{report:#}\n"))?;
    }
    if let Some(path) = &args.trace {
        write(path, &manager.chrome_trace().to_string())?;
    }
    Ok(ExitCode::from(end.status()))
}

/// How the guest ended.
enum End {
    Exit(u32),
    TimedOut,
    Failed(anyhow::Error),
}

impl End {
    fn new(stop: Option<Stop>) -> Self {
        match stop {
            Some(Stop::Exit(value)) => Self::Exit(value),
            Some(Stop::TripleFault(vp)) => {
                Self::Failed(anyhow::anyhow!("{vp} took a triple fault"))
            }
            Some(Stop::Failed(e)) => Self::Failed(e),
            None => Self::TimedOut,
        }
    }

    fn status(&self) -> u8 {
        match self {
            Self::Exit(value) => exit_status(*value),
            Self::TimedOut => STATUS_TIMEOUT,
            Self::Failed(_) => STATUS_ERROR,
        }
    }

    /// Says on standard error what went wrong and, where that is not the guest's word, what was
    /// seen.
    fn report(&self, console: &Console, manager: &Manager) {
        match self {
            Self::Exit(_) => return,
            Self::TimedOut => eprintln!("Error: the guest did not end within its timeout"),
            Self::Failed(e) => eprintln!("Error: {e:#}"),
        }
        eprintln!("{}", manager.snapshot());
        match last_lines(&console.tail()) {
            "" => eprintln!("The guest has written nothing."),
            tail => eprintln!("The guest's last words:\n{tail}"),
        }
    }

    fn to_json(&self, elapsed: Duration, manager: &Manager) -> serde_json::Value {
        let (ended, detail) = match self {
            Self::Exit(value) => ("exit", json!(value)),
            Self::TimedOut => ("timeout", json!(null)),
            Self::Failed(e) => ("error", json!(format!("{e:#}"))),
        };
        json!({
            "ok": matches!(self, Self::Exit(0)),
            "ended": ended,
            "detail": detail,
            "status": self.status(),
            "seconds": elapsed.as_secs_f64(),
            "synic": manager.snapshot().to_json(),
        })
    }
}

fn build(args: &BootArgs, console: Console) -> Result<Vm> {
    let image = read(&args.kernel)?;
    let module = args.initrd.as_deref().map(read).transpose()?;
    let mut vm = Vm::new(&VmConfig {
        vcpus: args.vcpus,
        memory_mib: args.memory,
        synic: synic_config(args),
    })?;
    vm.add_device(0x3f8..=0x3ff, Arc::new(SerialPort::new(console)));
    if args.test_devices {
        add_test_devices(&mut vm, args.vcpus)?;
    }
    vm.load(Boot {
        image: &image,
        cmdline: &cmdline(&args.kernel, &args.cmdline),
        module: module.as_deref(),
    })
    .with_context(|| format!("Cannot load {}", args.kernel.display()))?;
    Ok(vm)
}

fn synic_config(args: &BootArgs) -> Config {
    let mut config = Config::new(args.vcpus);
    config.role = args.role.into();
    if args.trace.is_some() {
        config.timeline_depth = TIMELINE_DEPTH;
    }
    if args.test_devices {
        // A test expects that one message waits behind a full slot, and that the next is refused.
        config.queue_depth = 1;
    }
    config
}

/// Adds what bare-metal test images expect of QEMU.
fn add_test_devices(vm: &mut Vm, vcpus: u32) -> Result<()> {
    let testdev = HypervTestdev::new(vm.manager().clone(), vm.host().clone());
    vm.add_device(0x510..=0x511, Arc::new(FwCfg::new(u16::try_from(vcpus)?)));
    vm.add_device(0xf4..=0xf7, Arc::new(DebugExit));
    vm.add_device(0x3000..=0x3003, Arc::new(testdev));
    Ok(())
}

/// The image's name and its arguments, as boot loaders pass them.
fn cmdline(kernel: &Path, arguments: &str) -> String {
    let name = kernel.file_name().unwrap_or_default().to_string_lossy();
    format!("{name} {arguments}").trim_end().to_owned()
}

fn last_lines(text: &str) -> &str {
    let start = text.trim_end().rmatch_indices('\n').nth(LAST_LINES - 1);
    text.get(start.map_or(0, |(at, _)| at + 1)..)
        .unwrap_or(text)
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("Cannot read {}", path.display()))
}

fn write(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).with_context(|| format!("Cannot write {}", path.display()))
}

const LAST_LINES: usize = 20;
/// How many of its last events each VP's timeline keeps.
const TIMELINE_DEPTH: usize = 65_536;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cmdline_when_there_are_no_arguments_is_the_name_alone() {
        let kernel = Path::new("/images/timer.flat");
        assert_eq!(cmdline(kernel, ""), "timer.flat");
        assert_eq!(cmdline(kernel, "direct"), "timer.flat direct");
    }

    #[test]
    fn last_lines_when_the_text_is_longer_keeps_its_end() {
        let text: String = (0..30).map(|i| format!("{i}\n")).collect();
        assert!(last_lines(&text).starts_with("10\n"));
        assert_eq!(last_lines("one\ntwo\n"), "one\ntwo\n");
    }

    #[test]
    fn status_when_the_guest_is_not_heard_differs_from_any_of_its_own() {
        assert_eq!(End::Exit(0).status(), 1);
        assert_eq!(End::new(None).status(), STATUS_TIMEOUT);
        let fault = Stop::TripleFault(vm_synic::VpIndex::new(1));
        assert_eq!(End::new(Some(fault)).status(), STATUS_ERROR);
    }
}
