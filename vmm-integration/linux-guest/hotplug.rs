// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! Taking CPUs away and back under traffic.

use std::io;

use crate::cpu;
use crate::echo::{self, BATCH, Background};
use crate::failure::{Failure, OrFail, Result};
use crate::options::Options;
use crate::report::say;
use crate::watchdog;

/// Takes each CPU but the first away and back in turn, `synic.cycles` times in all.
pub fn run(options: &Options) -> Result<()> {
    let cpus = cpu::present()?;
    let Some(others) = cpus.get(1..).filter(|others| !others.is_empty()) else {
        return Err(Failure::new(
            "one-cpu",
            "a machine with one CPU has none to take away",
        ));
    };
    let cycles = options.number("cycles", 50)?;
    let with_vmbus = options.with_vmbus()?;
    let traffic = with_vmbus
        .then(|| Background::start(0, BATCH))
        .transpose()?;
    let mut refusals = 0;
    for (cycle, cpu) in (0..cycles).zip(others.iter().cycle()) {
        watchdog::doing(format!("taking CPU {cpu} away and back, cycle {cycle}"));
        refusals += off_and_on(*cpu, traffic.as_ref())?;
    }
    let packets = traffic.map_or(Ok(0), Background::stop)?;
    say(&format!(
        "hotplug cycles={cycles} refusals={refusals} packets={packets}"
    ));
    if with_vmbus {
        echo::run(options.number("packets", 1000)?)?;
    }
    Ok(())
}

/// Puts the traffic on the CPU, so that the kernel has to move it, or refuses and it is moved here.
/// The result is how often the kernel refused.
fn off_and_on(cpu: usize, traffic: Option<&Background>) -> Result<u64> {
    if let Some(traffic) = traffic {
        traffic.move_to(cpu)?;
    }
    let mut refusals = 0;
    if let Err(e) = cpu::set_online(cpu, false) {
        let traffic = traffic.filter(|_| is_busy(&e));
        let Some(traffic) = traffic else {
            return Err(Failure::new("offline", format_args!("CPU {cpu}: {e}")));
        };
        refusals += 1;
        traffic.move_to(0)?;
        cpu::set_online(cpu, false).or_fail("offline", format_args!("CPU {cpu}"))?;
    }
    cpu::set_online(cpu, true).or_fail("online", format_args!("CPU {cpu}"))?;
    Ok(refusals)
}

/// Older kernels do not move the channels of a CPU that goes away (`hv_synic_cleanup`).
fn is_busy(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::EBUSY)
}
