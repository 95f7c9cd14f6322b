// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! The programs of the distribution that the rig uses: found, installed, or asked for.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

use anyhow::{Context, Result, ensure};

use super::unavailable;

/// A program, and the Debian package that has it.
#[derive(Clone, Copy, Debug)]
pub struct Tool {
    /// The program's file name.
    pub program: &'static str,
    /// What to install.
    pub package: &'static str,
    is_usable: fn(&Path) -> bool,
}

impl Tool {
    /// Its path, if it is installed.
    pub fn find(&self) -> Option<PathBuf> {
        let folders = env::var_os("PATH").unwrap_or_default();
        let mut paths = env::split_paths(&folders).map(|folder| folder.join(self.program));
        paths.find(|path| path.is_file() && (self.is_usable)(path))
    }

    /// Its path; a message that names its package otherwise.
    pub fn require(&self) -> Result<PathBuf> {
        match self.find() {
            Some(path) => Ok(path),
            None => unavailable(missing(&[*self])),
        }
    }
}

/// Installs those that are missing where apt-get may do that: for root.
pub fn provide(tools: &[Tool], say: &dyn Fn(&str)) -> Result<()> {
    let is_missing = |tool: &&Tool| tool.find().is_none();
    let wanted: Vec<_> = tools.iter().filter(is_missing).copied().collect();
    if wanted.is_empty() {
        return Ok(());
    }
    if is_root() && APT.find().is_some() {
        let packages: Vec<_> = wanted.iter().map(|tool| tool.package).collect();
        say(&format!("Installing {}", packages.join(", ")));
        // What is missing afterwards is what matters.
        if let Err(e) = update().and_then(|()| install(&packages)) {
            say(&format!("{e:#}"));
        }
    }
    let missing_still: Vec<_> = wanted.iter().filter(is_missing).copied().collect();
    match missing_still.is_empty() {
        true => Ok(()),
        false => unavailable(missing(&missing_still)),
    }
}

/// Fetches the lists of packages, which only root may.
pub fn update() -> Result<()> {
    output(apt_get().args(["update", "-q"])).map(|_| ())
}

/// The standard output of a command that has to succeed.
pub fn output(command: &mut Command) -> Result<String> {
    let output = command
        .output()
        .with_context(|| format!("Cannot run {command:?}"))?;
    ensure!(
        output.status.success(),
        "{command:?} failed: {}",
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Whether packages may be installed.
pub fn is_root() -> bool {
    // SAFETY: geteuid() takes nothing and cannot fail.
    unsafe { libc::geteuid() == 0 }
}

fn apt_get() -> Command {
    let mut command = Command::new(APT.program);
    command.env("DEBIAN_FRONTEND", "noninteractive");
    command
}

fn install(packages: &[&str]) -> Result<()> {
    let mut command = apt_get();
    command.args(["install", "-q", "-y", "--no-install-recommends"]);
    output(command.args(packages)).map(|_| ())
}

fn missing(tools: &[Tool]) -> String {
    let list = |word: fn(&Tool) -> &str| tools.iter().map(word).collect::<Vec<_>>();
    format!(
        "Not installed: {}. On Debian and its kin: sudo apt-get install {}",
        list(|tool| tool.program).join(", "),
        list(|tool| tool.package).join(" "),
    )
}

/// Whether it runs where there are no libraries. It does if nothing in it names the loader of
/// shared ones, which is the contents of an ELF file's segment PT_INTERP.
fn is_static(path: &Path) -> bool {
    let Ok(image) = fs::read(path) else {
        return false;
    };
    let head = image.get(..HEADERS.min(image.len())).unwrap_or_default();
    !head.windows(LOADER.len()).any(|window| window == LOADER)
}

/// Runs the virtual machine.
pub const QEMU: Tool = Tool {
    program: "qemu-system-x86_64",
    package: "qemu-system-x86",
    is_usable: |_| true,
};
/// All the user space that the virtual machine has beside the rig's own programs.
pub const BUSYBOX: Tool = Tool {
    program: "busybox",
    package: "busybox-static",
    is_usable: is_static,
};
/// Installs and downloads.
pub const APT: Tool = Tool {
    program: "apt-get",
    package: "apt",
    is_usable: |_| true,
};

/// Segment headers, and the loader's name after them, come first in an ELF file.
const HEADERS: usize = 4096;
const LOADER: &[u8] = b"/ld-";

#[cfg(test)]
mod tests {
    use super::*;

    const NO_SUCH: Tool = Tool {
        program: "synic-no-such-program",
        package: "no-such-package",
        is_usable: |_| true,
    };

    #[test]
    fn require_when_a_program_is_missing_names_it_and_its_package() {
        let error = NO_SUCH.require().unwrap_err().to_string();
        assert!(
            error.contains("Not installed: synic-no-such-program"),
            "{error}"
        );
        assert!(
            error.ends_with("apt-get install no-such-package"),
            "{error}"
        );
    }

    #[test]
    fn missing_when_there_are_several_is_one_command() {
        let text = missing(&[QEMU, BUSYBOX]);
        assert!(
            text.ends_with("apt-get install qemu-system-x86 busybox-static"),
            "{text}"
        );
    }

    #[test]
    fn is_static_when_a_program_needs_the_loader_is_false() {
        let this_test = env::current_exe().unwrap();
        assert!(!is_static(&this_test));
    }

    #[test]
    fn provide_when_nothing_is_missing_says_nothing() {
        let sh = Tool {
            program: "sh",
            ..NO_SUCH
        };
        provide(&[sh], &|line| panic!("{line}")).unwrap();
    }
}
