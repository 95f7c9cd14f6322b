// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! What the kernel says about its Hyper-V devices, for the host to judge.

use std::fmt::Write;
use std::fs;

use crate::cpu;
use crate::failure::Result;
use crate::report::say;
use crate::vmbus;

/// Reports the VMBus version, the clocks, the channels and the interrupts.
pub fn report() -> Result<()> {
    if let Some(version) = vmbus::version() {
        say(&format!("vmbus version={version}"));
    }
    say(&clocks());
    for channel in vmbus::channels() {
        say(&describe(&channel));
    }
    for name in INTERRUPTS {
        let counts = cpu::interrupts(name);
        if !counts.is_empty() {
            say(&interrupts(name, &counts));
        }
    }
    Ok(())
}

fn clocks() -> String {
    let read = |path: &str| match fs::read_to_string(path) {
        Ok(name) => name.trim().replace(' ', "-"),
        Err(_) => "unknown".into(),
    };
    let (event, source) = (read(CLOCK_EVENT), read(CLOCK_SOURCE));
    format!("clocks event={event} source={source}")
}

fn describe(channel: &vmbus::Channel) -> String {
    let mut line = format!("channel relid={}", channel.relid());
    if let Some(cpu) = channel.cpu() {
        // Writing to a String cannot fail.
        let _ = write!(line, " cpu={cpu}");
    }
    format!(
        "{line} interrupts={} signals={} driver={} class={} instance={}",
        channel.interrupts(),
        channel.signals(),
        channel.driver(),
        channel.class(),
        channel.instance(),
    )
}

fn interrupts(name: &str, counts: &[(usize, u64)]) -> String {
    let mut line = format!("interrupts name={name}");
    for (cpu, count) in counts {
        // Writing to a String cannot fail.
        let _ = write!(line, " cpu{cpu}={count}");
    }
    line
}

const CLOCK_EVENT: &str = "/sys/devices/system/clockevents/clockevent0/current_device";
const CLOCK_SOURCE: &str = "/sys/devices/system/clocksource/clocksource0/current_clocksource";
/// The hypervisor's callback, and synthetic timers in direct mode.
const INTERRUPTS: [&str; 2] = ["HYP", "HVS"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interrupts_when_cpus_have_counted_names_each() {
        let line = interrupts("HYP", &[(0, 12), (2, 3)]);
        assert_eq!(line, "interrupts name=HYP cpu0=12 cpu2=3");
    }
}
