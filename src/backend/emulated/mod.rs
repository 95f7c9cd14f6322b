// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! The manager emulates the whole SynIC; KVM provides vCPUs, LAPICs and exits and nothing else.
//!
//! This works on every KVM, also on one built without `CONFIG_KVM_HYPERV`, because no Hyper-V
//! support of KVM is used:
//!
//! | what the guest does       | how it reaches the manager         | piece                       |
//! |---------------------------|------------------------------------|-----------------------------|
//! | RDMSR, WRMSR of the range | an MSR exit, by a deny filter      | [`trap_msrs`], [`read_msr`] |
//! | calls the hypercall page  | its `out` is a port-I/O exit       | [`hypercall`]               |
//! | takes a SINT's interrupt  | MSI; KVM_INTERRUPT with AutoEOI    | [`SintInjector`]            |
//!
//! The VMM provides a split irqchip (`KVM_CAP_SPLIT_IRQCHIP`), CPUID leaves that announce what the
//! manager implements, and a way to kick a vCPU out of `KVM_RUN`. A vCPU's thread then does:
//!
//! ```no_run
//! use std::{error::Error, sync::Arc};
//!
//! use kvm_ioctls::{VcpuExit, VcpuFd};
//! use vm_memory::GuestMemoryMmap;
//! use vm_synic::backend::emulated::{self, MsrExit, SintInjector};
//! use vm_synic::{SynicManager, VpIndex};
//!
//! fn step(
//!     vp: VpIndex,
//!     vcpu: &mut VcpuFd,
//!     manager: &SynicManager<Arc<GuestMemoryMmap>>,
//!     injector: &SintInjector,
//! ) -> Result<(), Box<dyn Error>> {
//!     manager.pre_run(vp);
//!     injector.pre_run(vp, vcpu)?;
//!     match vcpu.run()? {
//!         VcpuExit::X86Rdmsr(mut exit) => {
//!             if emulated::read_msr(manager, vp, &mut exit) == MsrExit::NotMine {
//!                 // An MSR of the VMM's own, or the #GP that the exit is prepared for.
//!             }
//!         }
//!         VcpuExit::X86Wrmsr(mut exit) => {
//!             let _ = emulated::write_msr(manager, vp, &mut exit);
//!         }
//!         VcpuExit::IoOut(0xe4, _) => emulated::hypercall(manager, vp, vcpu, |_| 2)?,
//!         VcpuExit::MmioWrite(gpa, data) => {
//!             manager.mmio_write(gpa, data);
//!         }
//!         _ => {} // Everything else is the VMM's.
//!     }
//!     Ok(())
//! }
//! ```

mod exits;
mod injector;
mod lapic;
mod msr_filter;
mod vectors;

pub use super::Error;
pub use exits::{MsrExit, hypercall, read_msr, write_msr};
pub use injector::{Asserted, SintInjector};
pub use msr_filter::{MSR_RANGES, trap_msrs};
pub use vectors::VectorSet;
