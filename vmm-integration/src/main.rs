// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! `synic-vmm`, the reference VMM.

use std::process::ExitCode;

use clap::Parser;
use vmm_integration::Cli;

fn main() -> ExitCode {
    vmm_integration::logger::init();
    Cli::parse().run()
}
