// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! What a guest is told that it may use of the SynIC.

use clap::{Args, ValueEnum};
use serde::{Deserialize, Serialize};

/// Choices that a hypervisor makes in CPUID.
#[derive(Args, Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Enlightenments {
    /// The synthetic timers that the guest is told of: none, with messages, or with interrupts of
    /// their own, too
    #[arg(long, value_enum, default_value_t)]
    pub timers: Timers,
    /// Do not advise the guest against AutoEOI: Linux uses it for SINT2 then
    #[arg(long)]
    pub auto_eoi: bool,
}

/// Synthetic timers, as CPUID 40000003 announces them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Timers {
    /// None.
    Off,
    /// In message mode.
    Message,
    /// In message and in direct mode; Linux then takes the latter.
    #[default]
    Direct,
}
