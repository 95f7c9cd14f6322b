// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! Builds the bare-metal guests in `guest/`, `guest-hostile/`, `guest-puppet/` and `guest-teardown/`,
//! compiled by the same `rustc` and for the same target as the VMM, so that no further toolchain
//! component has to be installed.
//!
//! That target's ABI includes SSE, which the guest must not use (see `guest/main.rs`), and `rustc`
//! is about to refuse to turn it off. The source gives the compiler no reason to use it; this
//! script checks the assembly.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

fn main() {
    println!("cargo::rerun-if-changed=guest");
    println!("cargo::rerun-if-changed=guest-hostile");
    println!("cargo::rerun-if-changed=guest-puppet");
    println!("cargo::rerun-if-changed=guest-teardown");
    if env::var("CARGO_CFG_TARGET_ARCH").as_deref() != Ok("x86_64") {
        return;
    }
    for guest in ["guest", "guest-hostile", "guest-puppet", "guest-teardown"] {
        if let Err(error) = build_guest(guest) {
            println!("cargo::error={guest}: {error}");
        }
    }
}

fn build_guest(name: &str) -> Result<(), String> {
    let package = PathBuf::from(variable("CARGO_MANIFEST_DIR")?);
    let output = PathBuf::from(variable("OUT_DIR")?);
    let elf = output.join(name).with_extension("elf");
    let assembly = output.join(name).with_extension("s");
    let mut rustc = Command::new(variable("RUSTC")?);
    rustc
        .arg(package.join(name).join("main.rs"))
        .args(["--edition=2024", "--crate-name=guest", "--crate-type=bin"])
        .arg(format!("--target={}", variable("TARGET")?))
        .arg(format!(
            "--emit=link={},asm={}",
            elf.display(),
            assembly.display()
        ))
        .args(CODEGEN.iter().flat_map(|option| ["-C", option]))
        .args(LINK.iter().map(|argument| format!("-Clink-arg={argument}")))
        .arg(format!(
            "-Clink-arg=-Wl,-T,{}",
            package.join("guest/guest.ld").display()
        ));
    if variable("CARGO_CFG_TARGET_ENV")? == "musl" {
        // Otherwise rustc adds C start-up objects of its own.
        rustc.arg("-Clink-self-contained=no");
    }
    if let Ok(linker) = env::var("RUSTC_LINKER") {
        rustc.arg(format!("-Clinker={linker}"));
    }
    run(&mut rustc)?;
    check_scalar(&assembly)
}

fn run(rustc: &mut Command) -> Result<(), String> {
    let result = rustc
        .output()
        .map_err(|error| format!("cannot run {rustc:?}: {error}"))?;
    // Cargo shows a build script's stderr only if the script fails.
    eprint!("{}", String::from_utf8_lossy(&result.stderr));
    if result.status.success() {
        return Ok(());
    }
    Err(format!("{rustc:?} failed: {}", result.status))
}

fn check_scalar(assembly: &Path) -> Result<(), String> {
    let text = fs::read_to_string(assembly)
        .map_err(|error| format!("cannot read {assembly:?}: {error}"))?;
    match text.lines().find(|line| line.contains("xmm")) {
        Some(line) => Err(format!(
            "uses SSE, which its interrupt entry does not save: {}",
            line.trim()
        )),
        None => Ok(()),
    }
}

fn variable(name: &str) -> Result<String, String> {
    env::var(name).map_err(|error| format!("{name}: {error}"))
}

const CODEGEN: [&str; 9] = [
    "opt-level=2",
    "panic=abort",
    "relocation-model=static",
    // An interrupt frame is pushed right below the stack pointer.
    "no-redzone",
    "no-vectorize-loops",
    "no-vectorize-slp",
    "overflow-checks=off",
    "codegen-units=1",
    "strip=debuginfo",
];

const LINK: [&str; 5] = [
    "-nostartfiles",
    "-nostdlib",
    "-static",
    "-Wl,--build-id=none",
    // The multiboot header has to be in the file's first 8 KiB.
    "-Wl,-z,max-page-size=4096",
];
