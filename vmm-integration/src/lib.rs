// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! The reference VMM of the `vm-synic` crate: the smallest one that shows all of it with real
//! guests.

#![deny(missing_docs)]

pub mod devices;
pub mod host;
pub mod kick;
pub mod memory;
pub mod multiboot;
pub mod vm;

mod boot;
mod cli;
mod cpuid;
mod demo;
mod elf;
mod entry;
mod reference_time;
mod vcpu;

pub use cli::Cli;
