// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! The files to boot.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use super::args::BootArgs;
use crate::linux::{self, Kernel};
use crate::multiboot::Boot;
use crate::vm::Vm;

/// What is loaded into a machine that was turned on or reset.
pub struct Image {
    pub kind: Kernel,
    name: String,
    kernel: Vec<u8>,
    module: Option<Vec<u8>>,
    cmdline: String,
}

impl Image {
    /// Reads the files.
    pub fn read(args: &BootArgs) -> Result<Self> {
        let kernel = read(&args.kernel)?;
        let kind = Kernel::of(&kernel);
        Ok(Self {
            kind,
            name: args.kernel.display().to_string(),
            kernel,
            module: args.initrd.as_deref().map(read).transpose()?,
            cmdline: cmdline(kind, &args.kernel, &args.cmdline),
        })
    }

    /// Loads them.
    pub fn load_into(&self, vm: &mut Vm) -> Result<()> {
        vm.load(Boot {
            image: &self.kernel,
            cmdline: &self.cmdline,
            module: self.module.as_deref(),
        })
        .with_context(|| format!("Cannot load {}", self.name))
    }
}

/// For a bare-metal image its name and its arguments, as boot loaders pass them; for Linux options
/// alone.
fn cmdline(kind: Kernel, kernel: &Path, arguments: &str) -> String {
    let first = match kind.is_linux() {
        true => linux::CMDLINE.into(),
        false => kernel.file_name().unwrap_or_default().to_string_lossy(),
    };
    format!("{first} {arguments}").trim_end().to_owned()
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("Cannot read {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cmdline_when_the_image_is_bare_metal_begins_with_its_name() {
        let kernel = Path::new("/images/timer.flat");
        let cmdline = |arguments| cmdline(Kernel::Multiboot, kernel, arguments);
        assert_eq!(cmdline(""), "timer.flat");
        assert_eq!(cmdline("direct"), "timer.flat direct");
    }

    #[test]
    fn cmdline_when_the_image_is_linux_lets_the_users_options_win() {
        let cmdline = cmdline(Kernel::BzImage, Path::new("/boot/vmlinuz"), "panic=5");
        let default = cmdline.find("panic=-1").unwrap();
        assert!(cmdline.find("panic=5").unwrap() > default, "{cmdline}");
    }
}
