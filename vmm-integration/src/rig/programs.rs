// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! The rig's own programs, linked statically so that they run where there are no libraries.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::unavailable;

/// Where the static programs are: in `folder` if the user has them there, and built otherwise.
pub fn provide(folder: Option<&Path>, say: &dyn Fn(&str)) -> Result<PathBuf> {
    let folder = match folder {
        Some(folder) => folder.to_owned(),
        None => build(say)?,
    };
    let missing = PROGRAMS.iter().find(|name| !folder.join(name).is_file());
    match missing {
        None => Ok(folder),
        Some(name) => unavailable(format!("{} has no {name}", folder.display())),
    }
}

fn build(say: &dyn Fn(&str)) -> Result<PathBuf> {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml");
    if !manifest.is_file() {
        return unavailable(format!(
            "There is no {} to build the static programs from; name a folder with them: --bin-dir",
            manifest.display()
        ));
    }
    let target = target_folder().context("Cannot tell where this program was built")?;
    say("Building synic-vmm, synic-guest, synic-mshv and synic-rig, static");
    let status = Command::new(env::var_os("CARGO").unwrap_or("cargo".into()))
        .args([
            "build",
            "--quiet",
            "--release",
            "--bins",
            "--target",
            TRIPLE,
        ])
        .arg("--manifest-path")
        .arg(&manifest)
        .arg("--target-dir")
        .arg(&target)
        .env("CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUSTFLAGS", FLAGS)
        // Would go before the flags above.
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .env_remove("RUSTFLAGS")
        .status()
        .context("Cannot run cargo")?;
    ensure!(
        status.success(),
        "Cannot build the static programs: cargo ended with {status}"
    );
    Ok(target.join(TRIPLE).join("release"))
}

/// A folder of its own, as other flags would have Cargo build all anew each time. This program is
/// in `target/<profile>/`, and a test of it in `target/<profile>/deps/`.
fn target_folder() -> Option<PathBuf> {
    let program = env::current_exe().ok()?;
    // Cargo's CACHEDIR.TAG is missing where somebody else has made the folder.
    let tag = |folder: &&Path| folder.join(".rustc_info.json").is_file();
    program
        .ancestors()
        .find(tag)
        .map(|target| target.join("rig"))
}

/// What a folder of the user's has to have.
pub const PROGRAMS: [&str; 4] = ["synic-vmm", "synic-guest", "synic-mshv", "synic-rig"];
const TRIPLE: &str = "x86_64-unknown-linux-gnu";
const FLAGS: &str = "-C target-feature=+crt-static";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn provide_when_the_named_folder_lacks_a_program_says_which() {
        let error = provide(Some(Path::new("/nowhere")), &|_| ()).unwrap_err();
        assert_eq!(error.to_string(), "/nowhere has no synic-vmm");
    }

    #[test]
    fn target_folder_when_run_by_cargo_is_in_its_target_folder() {
        let target = target_folder().unwrap();
        assert!(
            env::current_exe()
                .unwrap()
                .starts_with(target.parent().unwrap())
        );
    }
}
