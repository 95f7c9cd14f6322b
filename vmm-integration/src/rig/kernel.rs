// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! Kernels to boot: the image, and the folder of its modules.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use super::modules::Modules;
use super::unavailable;

/// A kernel of the user's, of a folder, or of the distribution.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kernel {
    /// Its release, as far as the image's name tells it.
    pub name: String,
    /// The bzImage, or vmlinux.
    pub image: PathBuf,
    /// Has its modules, at any depth.
    pub modules: Option<PathBuf>,
}

impl Kernel {
    /// The kernel in this file.
    pub fn new(image: &Path, modules: Option<&Path>) -> Result<Self> {
        for path in [Some(image), modules].into_iter().flatten() {
            if !path.exists() {
                bail!("There is no {}", path.display());
            }
        }
        let file = image.file_name().unwrap_or_default().to_string_lossy();
        let name = PREFIXES.iter().find_map(|prefix| file.strip_prefix(prefix));
        Ok(Self {
            name: name.unwrap_or(&file).to_owned(),
            image: image.to_owned(),
            modules: modules.map(Path::to_owned),
        })
    }

    /// The kernels of a folder: files `bzImage-*` and `vmlinuz-*`, each with its modules in
    /// `modules/<release>/`, or in `modules/` if that is not there.
    pub fn all_in(folder: &Path) -> Result<Vec<Self>> {
        let entries = fs::read_dir(folder)
            .with_context(|| format!("Cannot read the folder {}", folder.display()))?;
        let mut images: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
        images.retain(|path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            PREFIXES.iter().any(|prefix| name.starts_with(prefix)) && !name.ends_with(CMDLINE)
        });
        images.sort();
        images
            .iter()
            .map(|image| Self::beside_modules(image, &folder.join("modules")))
            .collect()
    }

    /// The one kernel of an unpacked distribution package.
    pub fn of_package(folder: &Path) -> Result<Self> {
        let kernels = Self::all_in(&folder.join("boot"))?;
        let Some(mut kernel) = kernels.into_iter().next() else {
            return unavailable(format!("{} has no boot/vmlinuz-*", folder.display()));
        };
        // Since /usr is merged, the modules may be in either.
        let places = ["lib/modules", "usr/lib/modules"];
        let folders = places.map(|place| folder.join(place).join(&kernel.name));
        kernel.modules = folders.into_iter().find(|modules| modules.is_dir());
        Ok(kernel)
    }

    /// Its modules; none if it needs none.
    pub fn modules(&self) -> Result<Modules> {
        match &self.modules {
            Some(folder) => Modules::of_folder(folder),
            None => Ok(Modules::default()),
        }
    }

    /// What it needs on its command line beside what is common to all: the contents of the file
    /// `<image>.cmdline`.
    pub fn cmdline(&self) -> String {
        let mut path = self.image.clone().into_os_string();
        path.push(CMDLINE);
        fs::read_to_string(path)
            .unwrap_or_default()
            .trim()
            .to_owned()
    }

    fn beside_modules(image: &Path, modules: &Path) -> Result<Self> {
        let mut kernel = Self::new(image, None)?;
        let folders = [modules.join(&kernel.name), modules.to_owned()];
        kernel.modules = folders.into_iter().find(|folder| folder.is_dir());
        Ok(kernel)
    }
}

const PREFIXES: [&str; 3] = ["bzImage-", "vmlinuz-", "vmlinux-"];
const CMDLINE: &str = ".cmdline";

#[cfg(test)]
mod tests {
    use super::*;
    use vmm_sys_util::tempdir::TempDir;

    fn folder(files: &[&str]) -> TempDir {
        let folder = TempDir::new().unwrap();
        for file in files {
            let path = folder.as_path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, b"quiet\n").unwrap();
        }
        folder
    }

    #[test]
    fn all_in_when_a_kernel_has_modules_of_its_own_prefers_them() {
        let folder = folder(&[
            "bzImage-7.2-a",
            "bzImage-6.12",
            "modules/6.12/a.ko",
            "notes",
        ]);
        let kernels = Kernel::all_in(folder.as_path()).unwrap();
        let modules = folder.as_path().join("modules");
        let found: Vec<_> = kernels
            .into_iter()
            .map(|k| (k.name, k.modules.unwrap()))
            .collect();
        let expected = [
            ("6.12".to_owned(), modules.join("6.12")),
            ("7.2-a".to_owned(), modules),
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn of_package_when_it_is_unpacked_finds_image_and_modules() {
        let folder = folder(&["boot/vmlinuz-6.1", "usr/lib/modules/6.1/kernel/a.ko"]);
        let kernel = Kernel::of_package(folder.as_path()).unwrap();
        assert_eq!(kernel.image, folder.as_path().join("boot/vmlinuz-6.1"));
        assert_eq!(
            kernel.modules,
            Some(folder.as_path().join("usr/lib/modules/6.1"))
        );
    }

    #[test]
    fn cmdline_when_there_is_a_file_of_it_is_its_contents() {
        let folder = folder(&["bzImage-7.2", "bzImage-7.2.cmdline", "bzImage-6.1"]);
        let kernels = Kernel::all_in(folder.as_path()).unwrap();
        let cmdlines: Vec<_> = kernels.iter().map(Kernel::cmdline).collect();
        assert_eq!(cmdlines, ["", "quiet"]);
    }

    #[test]
    fn new_when_a_file_is_missing_names_it() {
        let error = Kernel::new(Path::new("/nowhere/bzImage"), None).unwrap_err();
        assert_eq!(error.to_string(), "There is no /nowhere/bzImage");
    }
}
