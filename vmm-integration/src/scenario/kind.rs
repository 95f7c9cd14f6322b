// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! What a guest can be told to do.

use std::fmt;
use std::str::FromStr;

use anyhow::{Error, Result, bail};
use serde::Serialize;
use vm_synic::Role;

/// What a guest is to do after it has connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Scenario {
    /// Nothing more.
    Basic,
    /// Echo traffic on each CPU.
    Echo,
    /// Unload and load the drivers.
    Reload,
    /// Take CPUs away and back under traffic.
    Hotplug,
    /// Restart the machine under traffic.
    Reboot,
    /// Start another kernel under traffic.
    Kexec,
    /// Panic under traffic, and start a crash kernel.
    Crash,
    /// Be saved in the middle of traffic, and restored by another process, again and again.
    Snapshot,
    /// Use the device of the MSHV driver, where that is.
    Mshv,
}

impl Scenario {
    const ALL: [Self; 9] = [
        Self::Basic,
        Self::Echo,
        Self::Reload,
        Self::Hotplug,
        Self::Reboot,
        Self::Kexec,
        Self::Crash,
        Self::Snapshot,
        Self::Mshv,
    ];

    /// How many kernels run.
    pub fn boots(self) -> usize {
        match self {
            Self::Reboot | Self::Kexec | Self::Crash => 2,
            _ => 1,
        }
    }

    /// How many of them this VMM loads.
    pub fn loads(self) -> u32 {
        match self {
            Self::Reboot => 2,
            _ => 1,
        }
    }

    /// Whether the guest starts a kernel from its own files.
    pub fn needs_kexec(self) -> bool {
        matches!(self, Self::Kexec | Self::Crash)
    }

    /// Whether the guest echoes.
    pub fn has_traffic(self) -> bool {
        self != Self::Basic
    }

    /// Whether a kernel ends with traffic under way.
    pub fn leaves_traffic(self) -> bool {
        self.boots() > 1
    }
}

impl fmt::Display for Scenario {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Basic => "basic",
            Self::Echo => "echo",
            Self::Reload => "reload",
            Self::Hotplug => "hotplug",
            Self::Reboot => "reboot",
            Self::Kexec => "kexec",
            Self::Crash => "crash",
            Self::Snapshot => "snapshot",
            Self::Mshv => "mshv",
        })
    }
}

impl FromStr for Scenario {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        let found = Self::ALL.into_iter().find(|one| one.to_string() == name);
        let names = || Self::ALL.map(|one| one.to_string()).join(", ");
        found.ok_or_else(|| anyhow::anyhow!("there are {} and all, but no {name:?}", names()))
    }
}

/// Scenarios by name, or all of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scenarios {
    /// All that the machine can have.
    All,
    /// These.
    Named(Vec<Scenario>),
}

impl Scenarios {
    /// Those for a guest of this role, and those of "all" that it cannot have with so many vCPUs.
    pub fn for_guest(&self, role: Role, vcpus: u32) -> Result<(Vec<Scenario>, Vec<Scenario>)> {
        let suits = |one: &Scenario| match one {
            Scenario::Mshv => role == Role::L1vh,
            // A parent's partitions are not saved.
            Scenario::Snapshot => role == Role::Guest,
            _ => true,
        };
        let can = |one: &Scenario| vcpus > 1 || *one != Scenario::Hotplug;
        match self {
            Self::All => Ok(Scenario::ALL.into_iter().filter(suits).partition(can)),
            Self::Named(named) if !named.iter().all(suits) => {
                bail!("Scenario mshv needs --role l1vh, and snapshot --role guest")
            }
            Self::Named(named) if named.iter().all(can) => Ok((named.clone(), Vec::new())),
            Self::Named(_) => bail!("Scenario hotplug needs --vcpus 2 or more"),
        }
    }
}

impl FromStr for Scenarios {
    type Err = Error;

    fn from_str(list: &str) -> Result<Self> {
        match list {
            "all" => Ok(Self::All),
            names => Ok(Self::Named(
                names.split(',').map(str::parse).collect::<Result<_>>()?,
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn from_str_when_a_name_is_unknown_lists_those_that_are_known() {
        let error = "basic,exho".parse::<Scenarios>().unwrap_err().to_string();
        assert!(
            error.contains("exho") && error.contains("hotplug"),
            "{error}"
        );
        let named = Scenarios::Named(vec![Scenario::Kexec, Scenario::Basic]);
        assert_eq!("kexec,basic".parse::<Scenarios>().unwrap(), named);
    }

    #[test]
    fn for_guest_when_there_is_one_vcpu_leaves_hotplug_out_or_says_so() {
        let all = |vcpus| Scenarios::All.for_guest(Role::Guest, vcpus).unwrap();
        let (run, skipped) = all(1);
        assert_eq!((run.len(), skipped), (7, vec![Scenario::Hotplug]));
        assert_eq!(all(2).0.len(), 8);
        let hotplug = Scenarios::Named(vec![Scenario::Hotplug]);
        assert!(hotplug.for_guest(Role::Guest, 1).is_err());
    }

    #[test]
    fn for_guest_when_it_is_no_parent_has_no_mshv() {
        let mshv = Scenarios::Named(vec![Scenario::Mshv]);
        assert!(mshv.for_guest(Role::Guest, 2).is_err());
        assert!(mshv.for_guest(Role::L1vh, 2).is_ok());
        assert_eq!(Scenarios::All.for_guest(Role::L1vh, 2).unwrap().0.len(), 8);
    }
}
