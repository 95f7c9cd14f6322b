// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! Leaving this kernel for another while the channels carry traffic.

use std::fs::{self, File};

use crate::echo::{BATCH, Background};
use crate::failure::{OrFail, Result};
use crate::options::{CMDLINE, Options};
use crate::report::say;
use crate::{cpu, sys, watchdog};

/// Restarts, starts the kernel in `/kexec`, or panics so that the kernel in `/kexec` takes over.
pub fn leave(scenario: &str, options: &Options) -> Result<()> {
    let last = cpu::present()?.last().copied().unwrap_or(0);
    match scenario {
        "kexec" => load(false)?,
        "crash" => load(true)?,
        _ => {}
    }
    let with_vmbus = options.with_vmbus()?;
    // It is never stopped: the next kernel finds what was under way.
    let _traffic = with_vmbus
        .then(|| Background::start(last, BATCH))
        .transpose()?;
    say(&format!("leaving how={scenario}"));
    watchdog::doing(format!("leaving by {scenario}"));
    match scenario {
        "kexec" => sys::kexec(),
        "crash" => panic_on(options.number("cpu", last)?),
        _ => sys::restart(),
    }
}

fn load(on_crash: bool) -> Result<()> {
    let cmdline = fs::read_to_string(CMDLINE).or_fail("kexec", CMDLINE)?;
    let kernel = File::open(KERNEL).or_fail("kexec", KERNEL)?;
    let initrd = File::open(INITRD).or_fail("kexec", INITRD)?;
    let cmdline = next_cmdline(&cmdline, on_crash);
    let loaded = sys::kexec_file_load(&kernel, &initrd, &cmdline, on_crash);
    loaded.or_fail("kexec", "kexec_file_load")
}

/// Tells the next kernel that it is the second; a crash kernel has one CPU and no crash kernel.
fn next_cmdline(cmdline: &str, on_crash: bool) -> String {
    let words = cmdline.split_whitespace();
    let kept = words.filter(|word| !word.starts_with("synic.boot="));
    let kept = kept.filter(|word| !(on_crash && word.starts_with("crashkernel=")));
    let mut words: Vec<_> = kept.collect();
    words.push("synic.boot=2");
    if on_crash {
        words.extend(["nr_cpus=1", "reset_devices"]);
    }
    words.join(" ")
}

/// Panics on `cpu`: the kernel does when init ends, on the CPU of its last thread.
fn panic_on(cpu: usize) -> Result<()> {
    sys::pin_all_threads(cpu)?;
    std::process::exit(PANIC_STATUS);
}

const KERNEL: &str = "/kexec/vmlinuz";
const INITRD: &str = "/kexec/initrd";
/// Shows in the kernel's "Attempted to kill init! exitcode=0x00000700".
const PANIC_STATUS: i32 = 7;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn next_cmdline_when_the_kernel_crashes_drops_what_the_next_cannot_have() {
        let cmdline = "quiet crashkernel=128M synic.boot=1 synic.scenario=crash\n";
        assert_eq!(
            next_cmdline(cmdline, true),
            "quiet synic.scenario=crash synic.boot=2 nr_cpus=1 reset_devices"
        );
        assert_eq!(
            next_cmdline(cmdline, false),
            "quiet crashkernel=128M synic.scenario=crash synic.boot=2"
        );
    }
}
