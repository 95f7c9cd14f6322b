// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! Finds kernel modules and what they depend on.
//!
//! Reads the dependencies from the modules themselves, as a package that was only unpacked has no
//! `modules.dep`. A module that is not there counts as built into the kernel.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

/// The modules of a kernel.
#[derive(Debug, Default)]
pub struct Modules {
    paths: BTreeMap<String, PathBuf>,
}

/// A module, uncompressed.
#[derive(Debug, PartialEq, Eq)]
pub struct Module {
    /// Its name, spelled with `_`.
    pub name: String,
    /// What init_module(2) takes.
    pub image: Vec<u8>,
}

impl Modules {
    /// Those of a folder and of the folders in it.
    pub fn of_folder(folder: &Path) -> Result<Self> {
        let mut modules = Self::default();
        let mut folders = vec![folder.to_owned()];
        while let Some(folder) = folders.pop() {
            let entries = fs::read_dir(&folder)
                .with_context(|| format!("Cannot read the folder {}", folder.display()))?;
            for path in entries.flatten().map(|entry| entry.path()) {
                if path.is_dir() && !path.is_symlink() {
                    folders.push(path);
                } else if let Some(name) = module_name(&path) {
                    modules.paths.insert(name, path);
                }
            }
        }
        Ok(modules)
    }

    /// Whether there is one of this name.
    pub fn has(&self, name: &str) -> bool {
        self.paths.contains_key(name)
    }

    /// The wanted ones and all that they need, in an order in which they can be loaded.
    pub fn load_order(&self, wanted: &[&str]) -> Result<Vec<Module>> {
        let mut order = Vec::new();
        for name in wanted {
            self.visit(name, &mut order, MAX_DEPTH)?;
        }
        Ok(order)
    }

    fn visit(&self, name: &str, order: &mut Vec<Module>, depth: u32) -> Result<()> {
        let Some(path) = self.paths.get(name) else {
            return Ok(());
        };
        if order.iter().any(|module| module.name == name) {
            return Ok(());
        }
        let Some(depth) = depth.checked_sub(1) else {
            bail!(
                "The modules that {} depends on go round in circles",
                path.display()
            );
        };
        let image = read(path)?;
        for dependency in dependencies(&image) {
            self.visit(&dependency, order, depth)?;
        }
        let name = name.to_owned();
        order.push(Module { name, image });
        Ok(())
    }
}

/// As the kernel spells it, which takes `-` for `_`.
fn module_name(path: &Path) -> Option<String> {
    let file = path.file_name()?.to_str()?;
    let (name, extension) = file.split_once(".ko")?;
    ["", ".xz", ".gz", ".zst"]
        .contains(&extension)
        .then(|| name.replace('-', "_"))
}

fn read(path: &Path) -> Result<Vec<u8>> {
    let program = match path.extension().and_then(|extension| extension.to_str()) {
        Some("xz") => "xz",
        Some("gz") => "gzip",
        Some("zst") => "zstd",
        _ => return fs::read(path).with_context(|| format!("Cannot read {}", path.display())),
    };
    let output = Command::new(program)
        .arg("-dc")
        .arg(path)
        .output()
        .with_context(|| format!("Cannot run {program} to unpack {}", path.display()))?;
    if !output.status.success() {
        let errors = String::from_utf8_lossy(&output.stderr);
        bail!(
            "{program} cannot unpack {}: {}",
            path.display(),
            errors.trim()
        );
    }
    Ok(output.stdout)
}

/// From the NUL-terminated strings of the section `.modinfo`.
fn dependencies(image: &[u8]) -> Vec<String> {
    let mut strings = image.split(|byte| *byte == 0);
    let names = strings.find_map(|string| string.strip_prefix(b"depends="));
    String::from_utf8_lossy(names.unwrap_or_default())
        .split(',')
        .filter(|name| !name.is_empty())
        .map(|name| name.replace('-', "_"))
        .collect()
}

const MAX_DEPTH: u32 = 32;

#[cfg(test)]
mod tests {
    use super::*;
    use vmm_sys_util::tempdir::TempDir;

    /// A folder of modules, each with the names that it depends on.
    fn folder(modules: &[(&str, &str)]) -> TempDir {
        let folder = TempDir::new().unwrap();
        for (file, depends) in modules {
            let path = folder.as_path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, format!("\x7fELF\0license=GPL\0depends={depends}\0")).unwrap();
        }
        folder
    }

    fn order(folder: &TempDir, wanted: &[&str]) -> Vec<String> {
        let modules = Modules::of_folder(folder.as_path()).unwrap();
        let order = modules.load_order(wanted).unwrap();
        order.into_iter().map(|module| module.name).collect()
    }

    #[test]
    fn load_order_when_modules_depend_on_others_has_those_first_and_once() {
        let folder = folder(&[
            ("net/hv_sock.ko", "vsock,hv_vmbus"),
            ("hv_vmbus.ko", ""),
            ("vsock.ko", ""),
            ("other.ko", ""),
        ]);
        assert_eq!(
            order(&folder, &["hv_vmbus", "hv_sock"]),
            ["hv_vmbus", "vsock", "hv_sock"]
        );
    }

    #[test]
    fn load_order_when_a_module_is_built_in_goes_without() {
        let folder = folder(&[("kvm-amd.ko", "kvm,ccp"), ("kvm.ko", "")]);
        assert_eq!(
            order(&folder, &["kvm_amd", "irqbypass"]),
            ["kvm", "kvm_amd"]
        );
    }

    #[test]
    fn load_order_when_modules_depend_on_each_other_is_an_error() {
        let folder = folder(&[("a.ko", "b"), ("b.ko", "a")]);
        let modules = Modules::of_folder(folder.as_path()).unwrap();
        let error = modules.load_order(&["a"]).unwrap_err().to_string();
        assert!(error.contains("go round in circles"), "{error}");
    }

    #[test]
    fn module_name_when_a_file_is_compressed_is_the_same() {
        let names = [
            "x/kvm-amd.ko",
            "kvm-amd.ko.xz",
            "kvm_amd.ko.zst",
            "modules.order",
            "a.ko.txt",
        ]
        .map(|file| module_name(Path::new(file)));
        let name = Some("kvm_amd".to_owned());
        assert_eq!(names, [name.clone(), name.clone(), name, None, None]);
    }
}
