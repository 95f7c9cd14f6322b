// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! The command lines of `synic-vmm boot` and `synic-vmm restore`.

use std::num::ParseIntError;
use std::path::PathBuf;
use std::str::FromStr;

use clap::{Args, ValueEnum, value_parser};

use crate::cli::{BackendArg, IrqchipArg, PolicyArg, RoleArg};
use crate::enlightenments::Enlightenments;

/// What to boot, on what machine.
#[derive(Args, Debug)]
pub struct BootArgs {
    /// The kernel to boot: a Linux bzImage (a distribution's vmlinuz), a Linux vmlinux, or a
    /// multiboot ELF file
    #[arg(long, value_name = "FILE")]
    pub kernel: PathBuf,
    /// Linux's initramfs; a bare-metal image's module
    #[arg(long, value_name = "FILE")]
    pub initrd: Option<PathBuf>,
    /// Options for Linux, after "console=ttyS0 panic=-1"; arguments of a bare-metal image, after its
    /// name
    #[arg(
        long,
        value_name = "STR",
        default_value = "",
        allow_hyphen_values = true
    )]
    pub cmdline: String,
    /// Number of vCPUs
    #[arg(long, value_name = "N", default_value_t = 2)]
    #[arg(value_parser = value_parser!(u32).range(1..))]
    pub vcpus: u32,
    /// Guest memory in MiB
    #[arg(long, value_name = "MIB", default_value_t = 512)]
    #[arg(value_parser = value_parser!(u32).range(16..))]
    pub memory: u32,
    /// What the guest is: with VMBus, with VMBus and MSHV, or with MSHV alone
    #[arg(long, value_enum, default_value_t)]
    pub role: RoleArg,
    /// What happens to a register write that breaks an ownership rule
    #[arg(long, value_enum, default_value_t)]
    pub policy: PolicyArg,
    /// Who has the SynIC: this process, KVM, or Microsoft's hypervisor
    #[arg(long, value_enum, default_value_t)]
    pub backend: BackendArg,
    /// Where the interrupt controllers are: all in the kernel, or the LAPICs alone
    #[arg(long, value_enum, default_value_t)]
    pub irqchip: IrqchipArg,
    #[command(flatten)]
    pub enlightenments: Enlightenments,
    /// Whether there is a VMBus host: with auto, for Linux
    #[arg(long, value_enum, default_value_t)]
    #[arg(num_args = 0..=1, require_equals = true, default_missing_value = "on")]
    pub vmbus: VmbusArg,
    /// How many resets of the machine by the guest are followed: a number, or none
    #[arg(long, value_name = "N", default_value = "none")]
    pub reboots: Reboots,
    /// Add the devices of bare-metal tests: fw_cfg, isa-debug-exit and hyperv-testdev
    #[arg(long)]
    pub test_devices: bool,
    #[command(flatten)]
    pub run: RunArgs,
}

/// Which file to go on from.
#[derive(Args, Debug)]
pub struct RestoreArgs {
    /// A snapshot of boot or restore
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// Who is to have the SynIC, if not who had it
    #[arg(long, value_enum)]
    pub backend: Option<BackendArg>,
    #[command(flatten)]
    pub run: RunArgs,
}

/// How a guest is run.
#[derive(Args, Debug)]
pub struct RunArgs {
    /// End the guest, as a failure, after this many seconds
    #[arg(long, value_name = "S")]
    pub timeout: Option<u64>,
    /// On SIGUSR1, save the guest to this file, and end
    #[arg(long, value_name = "FILE")]
    pub snapshot: Option<PathBuf>,
    /// Write how it ended and the state of the SynIC to this file, as JSON
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Write a timeline of the SynIC to this file, in the Chrome trace format
    #[arg(long, value_name = "FILE")]
    pub trace: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum VmbusArg {
    #[default]
    Auto,
    On,
    Off,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reboots(pub u32);

impl FromStr for Reboots {
    type Err = ParseIntError;

    fn from_str(text: &str) -> Result<Self, ParseIntError> {
        match text {
            "none" => Ok(Self(0)),
            number => number.parse().map(Self),
        }
    }
}

/// What else is to be known of it.
pub const BOOT_HELP: &str = "\
Standard input and output are the guest's COM1; on a terminal, Ctrl-A x quits. While the guest is
silent, standard error tells what it waits for, on a terminal or with RUST_LOG set.

Exit status: 0 when the guest turns the machine off, 4 when it resets it and that is not followed,
6 when it was saved, 2 on an error, 124 on a timeout, 130 on Ctrl-A x; of a bare-metal image, the one it asks for, as
QEMU's isa-debug-exit has it.

Example:
  synic-vmm boot --kernel /boot/vmlinuz --initrd initrd.img --vcpus 4 --memory 1024 --snapshot vm
  kill -USR1 $(pidof synic-vmm); synic-vmm restore vm";

/// Likewise.
pub const RESTORE_HELP: &str = "\
The machine is as it was when it was saved; its time has stood still. Resets are not followed. Input, output
and exit status are those of boot.

The backend can change between emulated and kvm-page, where the irqchip is the split one.";

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Boot {
        #[command(flatten)]
        args: BootArgs,
    }

    #[test]
    fn reboots_from_a_number_or_none_counts() {
        assert_eq!(
            ["3", "none"].map(str::parse),
            [Ok(Reboots(3)), Ok(Reboots(0))]
        );
        assert!("some".parse::<Reboots>().is_err());
    }

    #[test]
    fn vmbus_when_it_has_no_value_is_on() {
        let vmbus = |arguments: &[&str]| {
            let all = ["boot", "--kernel", "k"].iter().chain(arguments);
            Boot::try_parse_from(all).unwrap().args.vmbus
        };
        assert_eq!(vmbus(&[]), VmbusArg::Auto);
        assert_eq!(vmbus(&["--vmbus"]), VmbusArg::On);
        assert_eq!(vmbus(&["--vmbus=off"]), VmbusArg::Off);
    }
}
