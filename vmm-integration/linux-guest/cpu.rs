// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! CPUs: which there are, taking them away and back, and what interrupted them.

use std::fs;
use std::io;

use crate::failure::{OrFail, Result};

/// The CPUs of the machine, ascending, whether they run or not.
pub fn present() -> Result<Vec<usize>> {
    let entries = fs::read_dir(CPUS).or_fail("cpus", CPUS)?;
    let names = entries.flatten().map(|entry| entry.file_name());
    let mut cpus: Vec<usize> = names
        .filter_map(|name| name.to_str()?.strip_prefix("cpu")?.parse().ok())
        .collect();
    cpus.sort_unstable();
    Ok(cpus)
}

/// Takes a CPU away, or brings it back.
pub fn set_online(cpu: usize, online: bool) -> io::Result<()> {
    let value = if online { "1" } else { "0" };
    fs::write(format!("{CPUS}/cpu{cpu}/online"), value)
}

/// The counts of one line of `/proc/interrupts`, by CPU; none if there is no such line.
pub fn interrupts(name: &str) -> Vec<(usize, u64)> {
    let table = fs::read_to_string("/proc/interrupts").unwrap_or_default();
    counts(&table, name)
}

fn counts(table: &str, name: &str) -> Vec<(usize, u64)> {
    let mut lines = table.lines();
    let titles = lines.next().unwrap_or_default().split_whitespace();
    let cpus = titles.filter_map(|title| title.strip_prefix("CPU")?.parse().ok());
    let line = lines.find_map(|line| line.trim_start().strip_prefix(name)?.strip_prefix(':'));
    let counts = line.unwrap_or_default().split_whitespace();
    cpus.zip(counts.map_while(|count| count.parse().ok()))
        .collect()
}

const CPUS: &str = "/sys/devices/system/cpu";

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "           CPU0       CPU2       \n\
        \x20 4:         12          0   IO-APIC    4-edge      ttyS0\n\
        HYP:        120         34   Hypervisor callback interrupts\n\
        HVS:          7          0   Hyper-V stimer0 interrupts\n";

    #[test]
    fn counts_when_a_cpu_is_offline_follow_the_titles() {
        assert_eq!(counts(TABLE, "HYP"), [(0, 120), (2, 34)]);
        assert_eq!(counts(TABLE, "4"), [(0, 12), (2, 0)]);
    }

    #[test]
    fn counts_when_the_line_is_missing_are_none() {
        assert_eq!(counts(TABLE, "HRE"), []);
        assert_eq!(counts("", "HYP"), []);
    }
}
