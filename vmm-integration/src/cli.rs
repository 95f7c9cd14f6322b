// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! The command line.

use std::fmt;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::{Args, Parser, Subcommand, ValueEnum, value_parser};
use serde::{Deserialize, Serialize};

use crate::backend::{Backend, Irqchip, Wish};
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
    #[command(after_help = boot::BOOT_HELP)]
    Boot(boot::BootArgs),
    /// Go on with a guest that was saved, from a file
    #[command(after_help = boot::RESTORE_HELP)]
    Restore(boot::RestoreArgs),
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
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RoleArg {
    #[default]
    Guest,
    L1vh,
    Root,
}

/// What happens to a register write that breaks an ownership rule.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PolicyArg {
    /// It takes effect, and is recorded.
    #[default]
    Observe,
    /// It is recorded, and takes no effect.
    Refuse,
    /// It is recorded, and the guest gets #GP.
    Fault,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BackendArg {
    #[default]
    Auto,
    Emulated,
    Kvm,
    /// KVM, but with the hypercall page of the emulated one, so that a snapshot can change to that
    KvmPage,
    Mshv,
}

impl BackendArg {
    /// What leads to this backend again.
    pub fn of(backend: Backend, role: RoleArg) -> Self {
        match backend {
            Backend::Emulated => Self::Emulated,
            Backend::Kvm(_) if role != RoleArg::Guest => Self::Kvm,
            Backend::Kvm(_) if backend.has_hypercall_port() => Self::KvmPage,
            Backend::Kvm(_) => Self::Kvm,
        }
    }

    /// What the VM is made for; fails for a backend that is not built in.
    pub fn wish(self) -> Result<Wish> {
        match self {
            Self::Auto => Ok(Wish::Auto),
            Self::Emulated => Ok(Wish::Emulated),
            Self::Kvm => Ok(Wish::Kvm),
            Self::KvmPage => Ok(Wish::KvmWithPage),
            Self::Mshv => bail!("Backend mshv is not built in; use emulated or kvm, with /dev/kvm"),
        }
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
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
            Command::Restore(args) => boot::restore(&args),
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

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn cli_when_built_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn wish_when_a_backend_is_not_built_in_says_so() {
        let message = BackendArg::Mshv.wish().unwrap_err().to_string();
        assert!(message.contains("not built in"), "{message}");
    }
}
