// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! The command line.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::{Args, Parser, Subcommand, ValueEnum, value_parser};

use crate::{boot, demo};

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
    /// Boot a bare-metal multiboot image; ends with its exit status, 2 on an error, 124 on a
    /// timeout
    Boot(BootArgs),
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
    /// The image to boot: a multiboot ELF file
    #[arg(long, value_name = "FILE")]
    pub kernel: PathBuf,
    /// A file handed to the image as its multiboot module
    #[arg(long, value_name = "FILE")]
    pub initrd: Option<PathBuf>,
    /// Arguments for the image, which follow its name on its command line
    #[arg(long, value_name = "STR", default_value = "")]
    pub cmdline: String,
    /// Number of vCPUs
    #[arg(long, value_name = "N", default_value_t = 2)]
    #[arg(value_parser = value_parser!(u32).range(1..))]
    pub vcpus: u32,
    /// Guest memory in MiB
    #[arg(long, value_name = "MIB", default_value_t = 256)]
    #[arg(value_parser = value_parser!(u32).range(16..))]
    pub memory: u32,
    /// What the guest is: with VMBus, with VMBus and MSHV, or with MSHV alone
    #[arg(long, value_enum, default_value_t)]
    pub role: RoleArg,
    /// Who has the SynIC: this process, KVM, or Microsoft's hypervisor
    #[arg(long, value_enum, default_value_t)]
    pub backend: BackendArg,
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
pub enum RoleArg {
    #[default]
    Guest,
    L1vh,
    Root,
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
    /// Fails for a backend that is not built in.
    pub fn check(self) -> Result<()> {
        match self {
            Self::Auto | Self::Emulated => Ok(()),
            Self::Kvm => bail!("Backend kvm, the in-kernel SynIC, is not built in; use emulated"),
            Self::Mshv => bail!("Backend mshv is not built in; use emulated, with /dev/kvm"),
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
        };
        status.unwrap_or_else(|e| {
            eprintln!("Error: {e:#}");
            ExitCode::from(boot::STATUS_ERROR)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn cli_when_built_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn check_when_a_backend_is_not_built_in_says_so() {
        for backend in [BackendArg::Kvm, BackendArg::Mshv] {
            let message = backend.check().unwrap_err().to_string();
            assert!(message.contains("not built in"), "{message}");
        }
    }
}
