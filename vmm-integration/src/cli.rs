// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! The command line.

use std::fmt;
use std::num::ParseIntError;
use std::path::PathBuf;
use std::process::ExitCode;
use std::str::FromStr;

use anyhow::{Result, bail};
use clap::{Args, Parser, Subcommand, ValueEnum, value_parser};

use crate::backend::{Irqchip, Wish};
use crate::enlightenments::Enlightenments;
use crate::{boot, conformance, demo, hostile, scenario, teardown};

/// Run guests with a complete Hyper-V SynIC, on any KVM
#[derive(Debug, Parser)]
#[command(name = "synic-vmm", version)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Play the demo: a guest that uses all of its SynIC, and an exact account of it
    Demo(DemoArgs),
    /// Boot a Linux kernel or a bare-metal image, and wait for its end
    #[command(after_help = BOOT_HELP)]
    Boot(BootArgs),
    /// Run Linux guests that put their Hyper-V drivers to work, and judge them; ends with 1 if one
    /// fails, 2 on an error, 124 on a timeout
    Linux(scenario::LinuxArgs),
    /// Attack the SynIC by a guest that fuzzes it from all vCPUs, and see that nothing breaks
    Hostile(hostile::HostileArgs),
    /// Replay how VMBus and MSHV take down the SynIC that they share, as they should and as they
    /// should not, and see what the ownership rules say
    Teardown(teardown::TeardownArgs),
    /// Play the suite that every backend has to pass
    Conformance(conformance::ConformanceArgs),
}

/// How much the demo does, and how it reports.
#[derive(Args, Clone, Debug)]
pub struct DemoArgs {
    /// Number of vCPUs, 2 to 8
    #[arg(long, value_name = "N", default_value_t = 2)]
    #[arg(value_parser = value_parser!(u32).range(2..=8))]
    pub vcpus: u32,
    /// Number of messages, of event flags and of doorbells to deliver, each
    #[arg(long, value_name = "N", default_value_t = 5000)]
    #[arg(value_parser = value_parser!(u32).range(1..))]
    pub count: u32,
    /// Who has the SynIC: this process, KVM, or Microsoft's hypervisor
    #[arg(long, value_enum, default_value_t)]
    pub backend: BackendArg,
    /// Where the interrupt controllers are: all in the kernel, or the LAPICs alone
    #[arg(long, value_enum, default_value_t)]
    pub irqchip: IrqchipArg,
    /// Print the report as one JSON object instead of tables
    #[arg(long)]
    pub json: bool,
    /// Write a timeline of the SynIC to this file, in the Chrome trace format
    #[arg(long, value_name = "FILE")]
    pub trace: Option<PathBuf>,
}

/// What to boot, and on what machine.
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
    /// End the guest, as a failure, after this many seconds
    #[arg(long, value_name = "S")]
    pub timeout: Option<u64>,
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

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum RoleArg {
    #[default]
    Guest,
    L1vh,
    Root,
}

/// What happens to a register write that breaks an ownership rule.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum PolicyArg {
    /// It takes effect, and is recorded.
    #[default]
    Observe,
    /// It is recorded, and takes no effect.
    Refuse,
    /// It is recorded, and the guest gets #GP.
    Fault,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum BackendArg {
    #[default]
    Auto,
    Emulated,
    Kvm,
    Mshv,
}

impl BackendArg {
    /// What the VM is made for; fails for a backend that is not built in.
    pub fn wish(self) -> Result<Wish> {
        match self {
            Self::Auto => Ok(Wish::Auto),
            Self::Emulated => Ok(Wish::Emulated),
            Self::Kvm => Ok(Wish::Kvm),
            Self::Mshv => bail!("Backend mshv is not built in; use emulated or kvm, with /dev/kvm"),
        }
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum IrqchipArg {
    Full,
    #[default]
    Split,
}

impl From<IrqchipArg> for Irqchip {
    fn from(irqchip: IrqchipArg) -> Self {
        match irqchip {
            IrqchipArg::Full => Self::Full,
            IrqchipArg::Split => Self::Split,
        }
    }
}

impl fmt::Display for PolicyArg {
    /// As the command line takes it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Observe => "observe",
            Self::Refuse => "refuse",
            Self::Fault => "fault",
        })
    }
}

impl From<PolicyArg> for vm_synic::ViolationPolicy {
    fn from(policy: PolicyArg) -> Self {
        match policy {
            PolicyArg::Observe => Self::Observe,
            PolicyArg::Refuse => Self::Refuse,
            PolicyArg::Fault => Self::Fault,
        }
    }
}

impl From<RoleArg> for vm_synic::Role {
    fn from(role: RoleArg) -> Self {
        match role {
            RoleArg::Guest => Self::Guest,
            RoleArg::L1vh => Self::L1vh,
            RoleArg::Root => Self::Root,
        }
    }
}

impl Cli {
    /// Does what the command line says; the result is the process's exit status.
    pub fn run(self) -> ExitCode {
        let status = match self.command {
            Command::Demo(args) => demo::run(&args),
            Command::Boot(args) => boot::run(&args),
            Command::Linux(args) => scenario::run(&args),
            Command::Hostile(args) => hostile::run(&args),
            Command::Teardown(args) => teardown::run(&args),
            Command::Conformance(args) => conformance::run(&args),
        };
        status.unwrap_or_else(|e| {
            eprintln!("Error: {e:#}");
            ExitCode::from(boot::STATUS_ERROR)
        })
    }
}

const BOOT_HELP: &str = "\
Standard input and output are the guest's COM1; on a terminal, Ctrl-A x quits. While the guest is
silent, standard error tells what it waits for, on a terminal or with RUST_LOG set.

Exit status: 0 when the guest turns the machine off, 4 when it resets it and that is not followed,
2 on an error, 124 on a timeout, 130 on Ctrl-A x; of a bare-metal image, the one it asks for, as
QEMU's isa-debug-exit has it.

Example:
  synic-vmm boot --kernel /boot/vmlinuz --initrd initrd.img --vcpus 4 --memory 1024";

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn cli_when_built_is_consistent() {
        Cli::command().debug_assert();
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
            let all = ["synic-vmm", "boot", "--kernel", "k"]
                .iter()
                .chain(arguments);
            match Cli::try_parse_from(all).unwrap().command {
                Command::Boot(args) => args.vmbus,
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(vmbus(&[]), VmbusArg::Auto);
        assert_eq!(vmbus(&["--vmbus"]), VmbusArg::On);
        assert_eq!(vmbus(&["--vmbus=off"]), VmbusArg::Off);
    }

    #[test]
    fn wish_when_a_backend_is_not_built_in_says_so() {
        let message = BackendArg::Mshv.wish().unwrap_err().to_string();
        assert!(message.contains("not built in"), "{message}");
    }
}
