// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! Kernel modules: loading them after those they depend on, and unloading them again.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use crate::failure::{OrFail, Result};
use crate::sys;
use crate::watchdog::wait_for;

/// A module in `/modules`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Module {
    pub name: String,
    path: PathBuf,
    depends: Vec<String>,
}

/// Loads every module in `/modules`; the result is in the order in which they were loaded.
pub fn load_all() -> Result<Vec<Module>> {
    let modules = in_order(find()?);
    for module in &modules {
        module.load()?;
    }
    Ok(modules)
}

impl Module {
    pub fn load(&self) -> Result<()> {
        let file = File::open(&self.path).or_fail("module", &self.name)?;
        match sys::finit_module(&file) {
            // It is built in, or loaded.
            Err(e) if e.raw_os_error() == Some(libc::EEXIST) => Ok(()),
            // What it drives is not there, which shows when that is missed.
            Err(e) if e.raw_os_error() == Some(libc::ENODEV) => Ok(()),
            loaded => loaded.or_fail("module", &self.name),
        }
    }

    /// Waits until the last socket that uses it has been cleared away.
    pub fn unload(&self) -> Result<()> {
        let step = format!("{} to be unused", self.name);
        let unloaded = wait_for(&step, || match sys::delete_module(&self.name) {
            Err(e) if e.raw_os_error() == Some(libc::EAGAIN) => None,
            result => Some(result),
        });
        unloaded.or_fail("unload", &self.name)
    }
}

fn find() -> Result<Vec<Module>> {
    let entries = match fs::read_dir(MODULES) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.or_fail("module", MODULES)?,
    };
    let mut paths: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
    paths.retain(|path| path.extension().is_some_and(|end| end == "ko"));
    paths.sort();
    paths.iter().map(|path| read(path)).collect()
}

fn read(path: &Path) -> Result<Module> {
    let image = fs::read(path).or_fail("module", path.display())?;
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    Ok(Module {
        name: stem.replace('-', "_"),
        path: path.to_owned(),
        depends: dependencies(&image),
    })
}

/// The modules that `.modinfo` names: `depends=a,b` between two NULs.
fn dependencies(image: &[u8]) -> Vec<String> {
    let strings = image.split(|byte| *byte == 0);
    let list = strings.filter_map(|string| string.strip_prefix(b"depends="));
    let names = list.flat_map(|names| names.split(|byte| *byte == b','));
    names
        .filter(|name| !name.is_empty())
        .map(|name| String::from_utf8_lossy(name).replace('-', "_"))
        .collect()
}

/// Each after all that it depends on. A dependency that is not there is taken to be built in.
fn in_order(mut waiting: Vec<Module>) -> Vec<Module> {
    let mut order = Vec::new();
    while let Some(next) = waiting.iter().position(|module| {
        let is_waiting = |name: &String| waiting.iter().any(|other| other.name == *name);
        !module.depends.iter().any(is_waiting)
    }) {
        order.push(waiting.remove(next));
    }
    order
}

const MODULES: &str = "/modules";

#[cfg(test)]
mod tests {
    use super::*;

    fn module(name: &str, depends: &[&str]) -> Module {
        Module {
            name: name.into(),
            path: PathBuf::new(),
            depends: depends.iter().map(|name| name.to_string()).collect(),
        }
    }

    #[test]
    fn dependencies_when_modinfo_has_a_list_are_its_names() {
        let image = b"\x7fELF\0license=GPL\0depends=hv_vmbus,i2c-core\0retpoline=Y\0";
        assert_eq!(dependencies(image), ["hv_vmbus", "i2c_core"]);
        assert_eq!(dependencies(b"\0depends=\0"), Vec::<String>::new());
    }

    #[test]
    fn in_order_when_a_dependency_sorts_later_puts_it_first() {
        let sock = module("hv_sock", &["hv_vmbus", "vsock"]);
        let utils = module("hv_utils", &["hv_vmbus", "ptp"]);
        let (vmbus, vsock) = (module("hv_vmbus", &[]), module("vsock", &[]));
        let found = vec![sock.clone(), utils.clone(), vmbus.clone(), vsock.clone()];
        assert_eq!(in_order(found), [vmbus, utils, vsock, sock]);
    }
}
