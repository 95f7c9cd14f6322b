// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! Debian's cloud kernel: downloaded with apt-get, unpacked into the cache, not installed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use super::cache::Cache;
use super::kernel::Kernel;
use super::tools::{APT, is_root, output, update};
use super::unavailable;

/// The kernel that the distribution's package lists name; the newest one in the cache if they do
/// not, or if it cannot be downloaded.
pub fn kernel(cache: &Cache, say: &dyn Fn(&str)) -> Result<Kernel> {
    match newest(cache, say) {
        Ok(kernel) => Ok(kernel),
        Err(e) => cached(cache).map_or_else(|| unavailable(advice(&e)), Ok),
    }
}

fn newest(cache: &Cache, say: &dyn Fn(&str)) -> Result<Kernel> {
    APT.require()?;
    let package = match Package::find() {
        // A container comes without the lists.
        Err(_) if is_root() => {
            update()?;
            Package::find()?
        }
        found => found?,
    };
    let folder = cache.entry(&package.key(), |folder| {
        say(&format!("Downloading {}", package.name));
        package.unpack_into(folder)
    })?;
    Kernel::of_package(&folder)
}

fn cached(cache: &Cache) -> Option<Kernel> {
    let mut folders = cache.entries();
    let modified = |path: &PathBuf| fs::metadata(path).and_then(|data| data.modified()).ok();
    folders.retain(|folder| is_unpacked(folder));
    folders.sort_by_key(modified);
    Kernel::of_package(folders.last()?).ok()
}

fn is_unpacked(folder: &Path) -> bool {
    let name = folder.file_name().unwrap_or_default().to_string_lossy();
    name.starts_with(PREFIX) && folder.join("boot").is_dir()
}

fn advice(error: &anyhow::Error) -> String {
    format!(
        "No kernel for the virtual machine: {error:#}. Have a machine with a network run \
         `apt-get download` for the package that {META} depends on and unpack it with `dpkg-deb \
         -x`, or take any kernel with KVM as modules; name its files with --l1-kernel FILE and \
         --l1-modules DIR"
    )
}

/// The package that has the kernel.
#[derive(Debug, PartialEq, Eq)]
struct Package {
    name: String,
    sha256: String,
}

impl Package {
    fn find() -> Result<Self> {
        let meta = show(META)?;
        let name = real_package(&meta).with_context(|| format!("{META} names no kernel"))?;
        let entry = show(name)?;
        let sha256 = field(&entry, "SHA256").with_context(|| format!("{name} has no hash"))?;
        Ok(Self {
            name: name.to_owned(),
            sha256: sha256.to_owned(),
        })
    }

    fn key(&self) -> String {
        format!("{PREFIX}{}", self.sha256)
    }

    fn unpack_into(&self, folder: &Path) -> Result<()> {
        // Root's own, as the user that apt-get turns into may not write here.
        output(
            Command::new(APT.program)
                .args([
                    "download",
                    "-q",
                    "-o",
                    "APT::Sandbox::User=root",
                    &self.name,
                ])
                .current_dir(folder),
        )?;
        let archives = fs::read_dir(folder).context("Cannot read the cache")?;
        for archive in archives.flatten().map(|entry| entry.path()) {
            output(Command::new("dpkg-deb").arg("-x").arg(&archive).arg(folder))?;
            fs::remove_file(&archive).context("Cannot remove an unpacked archive")?;
        }
        Ok(())
    }
}

fn show(package: &str) -> Result<String> {
    output(Command::new("apt-cache").args(["show", "--no-all-versions", package]))
}

/// The kernel's package among what its meta package depends on.
fn real_package(entry: &str) -> Option<&str> {
    let dependencies = field(entry, "Depends")?.split(',');
    let mut names = dependencies.filter_map(|dependency| dependency.split_whitespace().next());
    names.find(|name| name.starts_with("linux-image-"))
}

fn field<'a>(entry: &'a str, name: &str) -> Option<&'a str> {
    let mut lines = entry.lines().filter_map(|line| line.split_once(": "));
    lines.find_map(|(field, value)| (field == name).then_some(value.trim()))
}

const META: &str = "linux-image-cloud-amd64";
const PREFIX: &str = "debian-kernel-";

#[cfg(test)]
mod tests {
    use super::*;
    use vmm_sys_util::tempdir::TempDir;

    const ENTRY: &str = "Package: linux-image-cloud-amd64\nVersion: 6.1.1-2\nDepends: \
                         linux-image-6.1.0-9-cloud-amd64 (= 6.1.1-2)\nSHA256: 00be\n";

    #[test]
    fn real_package_when_the_meta_package_names_it_is_without_its_version() {
        assert_eq!(real_package(ENTRY), Some("linux-image-6.1.0-9-cloud-amd64"));
        assert_eq!(field(ENTRY, "SHA256"), Some("00be"));
        assert_eq!(real_package("Package: linux-image-cloud-amd64\n"), None);
    }

    #[test]
    fn cached_when_a_kernel_was_unpacked_earlier_is_that() {
        let folder = TempDir::new().unwrap();
        let boot = folder.as_path().join("debian-kernel-00be/boot");
        fs::create_dir_all(&boot).unwrap();
        fs::write(boot.join("vmlinuz-6.1"), "").unwrap();
        fs::create_dir_all(folder.as_path().join("another/boot")).unwrap();
        let cache = Cache::open(Some(folder.as_path())).unwrap();
        assert_eq!(cached(&cache).unwrap().name, "6.1");
    }

    #[test]
    fn advice_when_there_is_no_kernel_says_why_and_how_to_name_one() {
        let text = advice(&anyhow::anyhow!("Not installed: apt-get"));
        assert!(text.contains("machine: Not installed: apt-get."), "{text}");
        assert!(text.contains("--l1-kernel FILE"), "{text}");
    }
}
