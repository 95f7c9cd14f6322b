// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! The reference VMM of the `vm-synic` crate: the smallest one that shows all of it with real
//! guests.

#![deny(missing_docs)]

pub mod backend;
pub mod devices;
pub mod enlightenments;
pub mod gsi;
pub mod host;
pub mod hypervisor;
pub mod kick;
pub mod linux;
pub mod logger;
pub mod memory;
pub mod multiboot;
pub mod rig;
pub mod timers;
pub mod vm;
pub mod vmbus;

mod boot;
mod cli;
mod clock;
mod conformance;
mod cpuid;
mod demo;
mod elf;
mod entry;
mod event_loop;
mod hex;
mod hostile;
mod hyperv_msrs;
mod msr;
mod reference_time;
mod scenario;
mod snapshot;
mod teardown;
mod vcpu;

pub use cli::Cli;
