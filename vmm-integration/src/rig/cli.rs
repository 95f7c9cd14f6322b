// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! The command line.

use std::env;
use std::path::PathBuf;
use std::str::FromStr;

use clap::{Args, Parser, Subcommand, ValueEnum, value_parser};

use super::job::Setting;
use crate::cli::PolicyArg;
use crate::scenario::Scenarios;

/// Run synic-vmm in a virtual machine whose KVM has Hyper-V support
///
/// For a machine whose own KVM has none, or that has no KVM at all. Options with lists take several
/// values, or `all`.
#[derive(Debug, Parser)]
#[command(name = "synic-rig", version)]
pub struct Cli {
    #[command(subcommand)]
    pub(super) command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Play the demo: a guest that uses all of its SynIC, and an exact account of it
    Demo(DemoArgs),
    /// Attack the SynIC by a guest that fuzzes it from all vCPUs at once
    Hostile(HostileArgs),
    /// Play the suite that every backend has to pass
    Conformance(ConformanceArgs),
    /// Boot Linux guests that put VMBus to work
    Linux(LinuxArgs),
    /// Boot Linux as an L1VH partition, whose MSHV driver shares the SynIC with VMBus
    #[command(name = "l1vh", after_help = L1VH_HELP)]
    L1vh(L1vhArgs),
    /// Run each bare-metal test image (*.flat) of a folder
    Images(ImagesArgs),
    /// Run all of it, and print tables in Markdown
    Matrix(MatrixArgs),
    /// Get a shell in the virtual machine, which has synic-vmm and the kernels
    Shell(RigArgs),
    /// Run the commands that come on standard input
    #[command(hide = true)]
    Agent,
}

#[derive(Args, Debug)]
pub struct DemoArgs {
    /// Number of messages, of event flags and of doorbells to deliver, each
    #[arg(long, value_name = "N", default_value_t = 5000)]
    #[arg(value_parser = value_parser!(u32).range(1..))]
    pub count: u32,
    #[command(flatten)]
    pub ways: Ways,
    #[command(flatten)]
    pub rig: RigArgs,
}

#[derive(Args, Debug)]
pub struct ConformanceArgs {
    /// Give up a suite, as a failure, after this many seconds
    #[arg(long, value_name = "S")]
    pub timeout: Option<u64>,
    #[command(flatten)]
    pub rig: RigArgs,
}

#[derive(Args, Debug)]
pub struct HostileArgs {
    /// How long to attack, in seconds
    #[arg(long, value_name = "S", default_value_t = 60)]
    #[arg(value_parser = value_parser!(u64).range(1..))]
    pub seconds: u64,
    #[command(flatten)]
    pub ways: Ways,
    #[command(flatten)]
    pub rig: RigArgs,
}

#[derive(Args, Debug)]
pub struct LinuxArgs {
    /// A kernel of yours; otherwise Debian's cloud kernel, and those of --kernels
    #[arg(long, value_name = "FILE")]
    pub kernel: Option<PathBuf>,
    /// The folder of its modules, at any depth
    #[arg(long, value_name = "DIR", requires = "kernel")]
    pub modules: Option<PathBuf>,
    /// Your initramfs, with synic-guest for its init; otherwise one is packed
    #[arg(long, value_name = "FILE", requires = "kernel")]
    pub initrd: Option<PathBuf>,
    /// What the guest is to do: basic, echo, reload, hotplug, reboot, kexec, crash and snapshot, by commas,
    /// or all
    #[arg(long, value_name = "LIST", default_value = "basic")]
    pub scenario: Scenarios,
    #[command(flatten)]
    pub ways: Ways,
    #[command(flatten)]
    pub rig: RigArgs,
}

#[derive(Args, Debug)]
pub struct L1vhArgs {
    /// A kernel with CONFIG_MSHV_ROOT; otherwise the first of --kernels that has its driver
    #[arg(long, value_name = "FILE")]
    pub kernel: Option<PathBuf>,
    /// The folder of its modules, mshv_root.ko among them, at any depth
    #[arg(long, value_name = "DIR", requires = "kernel")]
    pub modules: Option<PathBuf>,
    /// A static program that the guest runs on /dev/mshv, in place of synic-mshv
    #[arg(long, value_name = "FILE")]
    pub program: Option<PathBuf>,
    /// What the guest is to do: basic, echo, reload, hotplug, reboot, kexec, crash and mshv, by
    /// commas, or all
    #[arg(long, value_name = "LIST", default_value = "all")]
    pub scenario: Scenarios,
    /// What happens to a register write that breaks an ownership rule
    #[arg(long, value_enum, default_value_t)]
    pub policy: PolicyArg,
    /// How many doorbells the program has rung, in its two runs together
    #[arg(long, value_name = "N", default_value_t = 1_000_000)]
    #[arg(value_parser = value_parser!(u64).range(2..))]
    pub doorbells: u64,
    /// Numbers of vCPUs; all: 1, 2 and 4
    #[arg(long, value_name = "N", value_delimiter = ',', default_value = "2")]
    pub vcpus: Vec<Vcpus>,
    /// End a guest, as a failure, after this many seconds
    #[arg(long, value_name = "S")]
    pub timeout: Option<u64>,
    #[command(flatten)]
    pub rig: RigArgs,
}

#[derive(Args, Debug)]
pub struct ImagesArgs {
    /// The folder of the images
    pub folder: PathBuf,
    #[command(flatten)]
    pub ways: Ways,
    #[command(flatten)]
    pub rig: RigArgs,
}

#[derive(Args, Debug)]
pub struct MatrixArgs {
    /// Only a part, in which each setting, number of vCPUs, kernel and scenario occurs
    #[arg(long)]
    pub quick: bool,
    /// A folder of bare-metal test images to run too; SYNIC_TEST_IMAGES otherwise
    #[arg(long, value_name = "DIR")]
    pub images: Option<PathBuf>,
    /// End a guest, as a failure, after this many seconds
    #[arg(long, value_name = "S")]
    pub timeout: Option<u64>,
    #[command(flatten)]
    pub rig: RigArgs,
}

/// In what ways to run something.
#[derive(Args, Clone, Debug, Default)]
pub struct Ways {
    /// Who has the SynIC
    #[arg(long, value_enum, value_delimiter = ',', default_value = "auto")]
    pub backend: Vec<Backend>,
    /// Where the interrupt controllers are: all in the kernel, or the LAPICs alone
    #[arg(long, value_enum, value_delimiter = ',', default_value = "split")]
    pub irqchip: Vec<Irqchip>,
    /// Numbers of vCPUs; all: 1, 2 and 4
    #[arg(long, value_name = "N", value_delimiter = ',', default_value = "2")]
    pub vcpus: Vec<Vcpus>,
    /// End a guest, as a failure, after this many seconds
    #[arg(long, value_name = "S")]
    pub timeout: Option<u64>,
}

/// Where and with what to run.
#[derive(Args, Clone, Debug, Default)]
pub struct RigArgs {
    /// Run on this machine itself, whose KVM has to have what is asked of it
    #[arg(long)]
    pub direct: bool,
    /// Print the report as one JSON object instead of tables
    #[arg(long)]
    pub json: bool,
    /// Keep kernels and initramfs images in this folder
    #[arg(long, value_name = "DIR")]
    pub cache: Option<PathBuf>,
    /// The kernel of the virtual machine, with KVM; SYNIC_RIG_KERNEL otherwise, or Debian's
    #[arg(long, value_name = "FILE")]
    pub l1_kernel: Option<PathBuf>,
    /// The folder of its modules; SYNIC_RIG_MODULES otherwise
    #[arg(long, value_name = "DIR")]
    pub l1_modules: Option<PathBuf>,
    /// A folder of more guest kernels, bzImage-* and modules/; SYNIC_GUEST_KERNELS otherwise
    #[arg(long, value_name = "DIR")]
    pub kernels: Option<PathBuf>,
    /// A folder with synic-vmm, synic-guest, synic-mshv and synic-rig, linked statically; SYNIC_RIG_BIN
    /// otherwise, or they are built
    #[arg(long, value_name = "DIR")]
    pub bin_dir: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Backend {
    Auto,
    Emulated,
    Kvm,
    /// Emulated and kvm in turns; only scenario snapshot can have that
    Changing,
    All,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Irqchip {
    Full,
    Split,
    All,
}

/// A number of vCPUs, or all that are of interest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Vcpus {
    Count(u32),
    All,
}

impl FromStr for Vcpus {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.parse() {
            _ if text == "all" => Ok(Self::All),
            Ok(count) if count > 0 => Ok(Self::Count(count)),
            _ => Err("not a number of vCPUs, nor `all`".into()),
        }
    }
}

impl Ways {
    /// All that differ.
    pub fn all(timeout: Option<u64>) -> Self {
        Self {
            backend: vec![Backend::All],
            irqchip: vec![Irqchip::All],
            vcpus: vec![Vcpus::All],
            timeout,
        }
    }

    /// Each backend with each irqchip, without the emulated SynIC on a full irqchip, which does not
    /// exist, unless that is all that is asked for.
    pub fn settings(&self) -> Vec<Setting> {
        let irqchips = self.irqchips();
        let backends = self.backends().into_iter();
        let pairs =
            backends.flat_map(|backend| irqchips.iter().map(move |i| Setting::new(backend, i)));
        let (impossible, possible): (Vec<_>, Vec<_>) =
            pairs.partition(|setting| *setting == Setting::new("emulated", "full"));
        if possible.is_empty() {
            impossible
        } else {
            possible
        }
    }

    /// Without those that are fewer than `least`, unless that is all that is asked for.
    pub fn vcpus(&self, least: u32) -> Vec<u32> {
        let each = self.vcpus.iter().flat_map(|vcpus| match vcpus {
            Vcpus::Count(count) => vec![*count],
            Vcpus::All => vec![1, 2, 4],
        });
        let (enough, few): (Vec<_>, Vec<_>) = each.partition(|count| *count >= least);
        if enough.is_empty() { few } else { enough }
    }

    fn backends(&self) -> Vec<&'static str> {
        let each = self.backend.iter().flat_map(|backend| match backend {
            Backend::Auto => vec!["auto"],
            Backend::Emulated => vec!["emulated"],
            Backend::Kvm => vec!["kvm"],
            Backend::Changing => vec![Setting::CHANGING.backend],
            Backend::All => vec!["emulated", "kvm"],
        });
        each.collect()
    }

    fn irqchips(&self) -> Vec<&'static str> {
        let each = self.irqchip.iter().flat_map(|irqchip| match irqchip {
            Irqchip::Full => vec!["full"],
            Irqchip::Split => vec!["split"],
            Irqchip::All => vec!["full", "split"],
        });
        each.collect()
    }
}

const L1VH_HELP: &str = "\
The guest's init loads mshv_root beside a running VMBus. Then, by scenario: basic: no more; reload:
the driver goes and comes back 20 times; hotplug: a CPU does; reboot, kexec: another kernel follows;
crash: another kernel follows a panic, which takes VMBus away first; mshv: the program runs, the
driver is reloaded, and the program runs again. All under traffic of VMBus.

The program is started as `program --bell --count=N`: see synic-mshv --help. It has passed if it ends
with status 0. Its lines are in the report.

Example:
  synic-rig l1vh --kernel arch/x86/boot/bzImage --modules . --vcpus 1,2,4";

/// An option's path, or the one that the environment has for it.
pub fn or_env(option: Option<&PathBuf>, variable: &str) -> Option<PathBuf> {
    let from_environment = || env::var_os(variable).filter(|path| !path.is_empty());
    option
        .cloned()
        .or_else(|| from_environment().map(PathBuf::from))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    fn ways(arguments: &[&str]) -> Ways {
        let line = ["synic-rig", "demo"].iter().chain(arguments);
        match Cli::parse_from(line).command {
            Command::Demo(args) => args.ways,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn cli_when_built_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn settings_when_all_are_asked_for_are_those_that_exist() {
        let all = ways(&["--backend", "all", "--irqchip", "all"]).settings();
        assert_eq!(all, Setting::ALL);
        assert_eq!(Ways::all(None).settings(), Setting::ALL);
    }

    #[test]
    fn settings_when_only_an_impossible_one_is_asked_for_is_that() {
        let full = ways(&["--backend", "emulated", "--irqchip", "full"]).settings();
        assert_eq!(full, [Setting::new("emulated", "full")]);
    }

    #[test]
    fn settings_when_a_list_is_given_has_each_combination() {
        let list = ways(&["--backend", "kvm,auto", "--irqchip", "split"]).settings();
        assert_eq!(
            list,
            [Setting::new("kvm", "split"), Setting::new("auto", "split")]
        );
    }

    #[test]
    fn vcpus_when_some_are_too_few_leaves_them_out() {
        assert_eq!(ways(&["--vcpus", "all"]).vcpus(2), [2, 4]);
        assert_eq!(ways(&["--vcpus", "1,8"]).vcpus(1), [1, 8]);
        assert_eq!(ways(&["--vcpus", "1"]).vcpus(2), [1]);
        assert_eq!(ways(&[]).vcpus(1), [2]);
    }

    #[test]
    fn cli_when_vcpus_is_no_number_says_what_it_takes() {
        let error = Cli::try_parse_from(["synic-rig", "demo", "--vcpus", "0"]).unwrap_err();
        assert!(
            error
                .to_string()
                .contains("not a number of vCPUs, nor `all`"),
            "{error}"
        );
    }
}
