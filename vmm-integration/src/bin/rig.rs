// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! `synic-rig`: runs `synic-vmm` where KVM has Hyper-V support, on any machine.

use std::process::ExitCode;

use clap::Parser;
use vmm_integration::rig::Cli;

fn main() -> ExitCode {
    env_logger::init();
    Cli::parse().run()
}
