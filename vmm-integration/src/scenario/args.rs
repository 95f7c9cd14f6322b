// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! The command line of `synic-vmm linux`.

use std::path::PathBuf;

use clap::{Args, value_parser};

use super::Scenarios;
use crate::cli::{BackendArg, IrqchipArg, PolicyArg, RoleArg};
use crate::enlightenments::Enlightenments;

/// Which guest to run, on what machine, and what it is to do.
#[derive(Args, Debug)]
pub struct LinuxArgs {
    /// The guest's kernel: a bzImage, or an uncompressed vmlinux
    #[arg(long, value_name = "FILE")]
    pub kernel: PathBuf,
    /// The guest's initramfs: synic-guest as /init, modules in /modules, and for kexec and crash
    /// the kernel and its initramfs in /kexec
    #[arg(long, value_name = "FILE")]
    pub initrd: PathBuf,
    /// What the guest is to do: basic, echo, reload, hotplug, reboot, kexec, crash, snapshot
    /// and, as an L1VH, mshv, by commas, or all
    #[arg(long, value_name = "LIST", default_value = "basic")]
    pub scenario: Scenarios,
    /// Number of vCPUs
    #[arg(long, value_name = "N", default_value_t = 2)]
    #[arg(value_parser = value_parser!(u32).range(1..))]
    pub vcpus: u32,
    /// Guest memory in MiB
    #[arg(long, value_name = "MIB", default_value_t = 768)]
    #[arg(value_parser = value_parser!(u32).range(16..))]
    pub memory: u32,
    /// Who has the SynIC: this process, KVM, or Microsoft's hypervisor
    #[arg(long, value_enum, default_value_t)]
    pub backend: BackendArg,
    /// Where the interrupt controllers are: all in the kernel, or the LAPICs alone
    #[arg(long, value_enum, default_value_t)]
    pub irqchip: IrqchipArg,
    /// What the guest is: with VMBus, or with VMBus and MSHV
    #[arg(long, value_enum, default_value_t)]
    pub role: RoleArg,
    /// What happens to a register write that breaks an ownership rule
    #[arg(long, value_enum, default_value_t)]
    pub policy: PolicyArg,
    #[command(flatten)]
    pub enlightenments: Enlightenments,
    /// How often scenario snapshot saves the guest and restores it
    #[arg(long, value_name = "N", default_value_t = 20)]
    #[arg(value_parser = value_parser!(u32).range(1..))]
    pub snapshots: u32,
    /// Have scenario snapshot change between the backends emulated and kvm-page each time
    #[arg(long, conflicts_with = "backend")]
    pub change_backend: bool,
    /// End each scenario, as a failure, after this many seconds
    #[arg(long, value_name = "S", default_value_t = 120)]
    #[arg(value_parser = value_parser!(u64).range(1..))]
    pub timeout: u64,
    /// Write a timeline of the last scenario's SynIC to this file, in the Chrome trace format
    #[arg(long, value_name = "FILE")]
    pub trace: Option<PathBuf>,
    /// More for the kernel's command line, such as synic.packets=1000 or synic.cycles=5
    #[arg(long, value_name = "STR", default_value = "")]
    pub cmdline: String,
    /// Write the report to this file, as one JSON object
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
}
