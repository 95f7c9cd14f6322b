// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! Everything that has to be there before a job can run: tools, programs, kernels, initramfs
//! images.

use std::path::{Path, PathBuf};

use anyhow::Result;

use super::cache::Cache;
use super::cli::{RigArgs, or_env};
use super::initramfs::{self, Programs};
use super::kernel::Kernel;
use super::local::Local;
use super::machine::{Machine, Nested};
use super::order::{Order, Place, Word};
use super::progress::say;
use super::{debian, job, programs, tools, unavailable};

/// The tools and programs are there.
#[derive(Debug)]
pub struct Site {
    args: RigArgs,
    cache: Cache,
    programs: PathBuf,
}

impl Site {
    /// Finds, installs or builds what is needed.
    pub fn prepare(args: &RigArgs) -> Result<Self> {
        if !args.direct {
            tools::provide(&[tools::QEMU, tools::BUSYBOX], &say)?;
        }
        let folder = or_env(args.bin_dir.as_ref(), "SYNIC_RIG_BIN");
        Ok(Self {
            args: args.clone(),
            cache: Cache::open(args.cache.as_deref())?,
            programs: programs::provide(folder.as_deref(), &say)?,
        })
    }

    /// synic-vmm, as an order names it.
    pub fn vmm(&self) -> Word {
        match self.args.direct {
            true => Word::File(self.programs.join("synic-vmm")),
            false => format!("/{}", initramfs::VMM).into(),
        }
    }

    /// Linux for guests: Debian's cloud kernel, and those of the user's folder.
    pub fn guest_kernels(&self) -> Result<Vec<Kernel>> {
        let mut kernels = vec![self.kernel()?];
        if let Some(folder) = or_env(self.args.kernels.as_ref(), "SYNIC_GUEST_KERNELS") {
            kernels.extend(Kernel::all_in(&folder)?);
        }
        Ok(kernels)
    }

    /// Linux that can be an L1VH: one of the user's folder that has the MSHV driver.
    pub fn l1vh_kernel(&self) -> Result<Kernel> {
        for kernel in self.guest_kernels()? {
            if kernel.modules()?.has(initramfs::MSHV) {
                return Ok(kernel);
            }
        }
        unavailable(format!(
            "No kernel here has {}.ko, and no distribution's has: build one as docs/TESTING.md says, \
             and name it by --kernel and --modules, or its folder by SYNIC_GUEST_KERNELS",
            initramfs::MSHV
        ))
    }

    /// An initramfs of this kernel's with synic-guest.
    pub fn guest_initrd(&self, kernel: &Kernel, for_kexec: bool) -> Result<PathBuf> {
        self.pack_guest(kernel, None, for_kexec)
    }

    /// Likewise, with the MSHV driver and a program that uses it: synic-mshv, if not another.
    pub fn l1vh_initrd(
        &self,
        kernel: &Kernel,
        program: Option<&Path>,
        for_kexec: bool,
    ) -> Result<PathBuf> {
        let program = program.map_or_else(|| self.programs.join("synic-mshv"), Path::to_owned);
        self.pack_guest(kernel, Some(program), for_kexec)
    }

    fn pack_guest(
        &self,
        kernel: &Kernel,
        program: Option<PathBuf>,
        for_kexec: bool,
    ) -> Result<PathBuf> {
        let guest = initramfs::Guest {
            init: self.programs.join("synic-guest"),
            program,
            for_kexec,
        };
        let packed = initramfs::guest(kernel, &guest)?;
        self.cache.store("guest.cpio", &packed)
    }

    /// More for a guest's command line.
    pub fn guest_cmdline(&self, kernel: &Kernel) -> String {
        let mut cmdline = kernel.cmdline();
        if !self.args.direct {
            // QEMU's TCG has an XSAVE leaf that contradicts itself. Recent kernels (7.2 does, 6.1
            // does not) find that out and end at once.
            cmdline.push_str(" noxsave");
        }
        cmdline.trim_start().to_owned()
    }

    /// Where these orders can run.
    pub fn place(&self, orders: &[Order]) -> Result<Box<dyn Place>> {
        match self.args.direct {
            true => Ok(Box::new(Local)),
            false => Ok(Box::new(Nested::new(self.machine(job::files(orders))?))),
        }
    }

    /// A virtual machine that has these files.
    pub fn machine(&self, files: Vec<PathBuf>) -> Result<Machine> {
        let kernel = self.kernel()?;
        let programs = Programs {
            busybox: tools::BUSYBOX.require()?,
            vmm: self.programs.join("synic-vmm"),
            rig: self.programs.join("synic-rig"),
        };
        let packed = initramfs::machine(&kernel, &programs, &files)?;
        Ok(Machine {
            qemu: tools::QEMU.require()?,
            kernel: kernel.image,
            initrd: self.cache.store("machine.cpio", &packed)?,
            files,
        })
    }

    /// The user's, or else Debian's cloud kernel.
    fn kernel(&self) -> Result<Kernel> {
        let image = or_env(self.args.l1_kernel.as_ref(), "SYNIC_RIG_KERNEL");
        let modules = or_env(self.args.l1_modules.as_ref(), "SYNIC_RIG_MODULES");
        match image {
            Some(image) => Kernel::new(&image, modules.as_deref().map(Path::new)),
            None => debian::kernel(&self.cache, &say),
        }
    }
}
