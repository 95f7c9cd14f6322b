// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! KVM's in-kernel SynIC: it holds the registers and raises the SINTs; the manager writes the
//! pages, and decides.
//!
//! | what the guest does        | how it reaches the manager                  | piece                        |
//! |----------------------------|---------------------------------------------|------------------------------|
//! | writes SCONTROL, SIMP, SIEFP | KVM_EXIT_HYPERV, after the fact           | [`serve_hyperv`]             |
//! | writes SINTx; uses SIRBP   | an MSR exit, by a deny filter               | [`trap_msrs`], [`serve_msr`] |
//! | empties a slot (EOM, EOI)  | resample eventfd, or an exit of EOM alone   | [`EomNotice`]                |
//! | HvPostMessage              | KVM_EXIT_HYPERV; the result always written  | [`serve_hyperv`]             |
//! | HvSignalEvent              | an eventfd, by KVM itself; else as above    | [`SignalBinding`]            |
//! | takes a SINT's interrupt   | irqfd on a GSI that the VMM routes to it    | [`SintLines`]                |
//!
//! KVM has an exit for neither a SINT write nor an EOM. The manager has to know of both: of the
//! first to judge it, to give a mask its meaning and to make the SINT's line, of the second to fill
//! the slot again. Writes of SINTx are rare, so they are trapped; EOM is trapped only where the
//! irqchip is split, because KVM refuses resample irqfds there (`kvm: kvm_arch_irqfd_allowed`).
//! Nothing polls.
//!
//! What a VMM does:
//!
//! 1. Before any vCPU: [`check`], [`trap_msrs`]; for the manager
//!    [`MessageWriter::VpThread`](crate::MessageWriter), as KVM's timers write to the same slots,
//!    [`Provider::Hypervisor`](crate::Provider) for those and, with [`Hypercalls::Kernel`], for the
//!    hypercall page.
//! 2. For each vCPU: CPUID with Hyper-V's leaves, then [`enable`], then `manager.add_vp`, then
//!    [`load`]; [`reset`] after `manager.reset`; [`capture`] before `manager.save`, and [`restore`]
//!    after `manager.restore`.
//! 3. `Host::assert_sint` is [`SintLines::assert`], `Host::route` is [`SintLines::route`].
//! 4. On the vCPU's thread:
//!
//! ```no_run
//! use std::{error::Error, sync::Arc};
//!
//! use kvm_ioctls::{VcpuExit, VcpuFd};
//! use vm_memory::GuestMemoryMmap;
//! use vm_synic::backend::kvm;
//! use vm_synic::{SynicManager, VpIndex};
//!
//! fn step(
//!     vp: VpIndex,
//!     vcpu: &mut VcpuFd,
//!     manager: &SynicManager<Arc<GuestMemoryMmap>>,
//! ) -> Result<(), Box<dyn Error>> {
//!     manager.pre_run(vp);
//!     match vcpu.run()? {
//!         VcpuExit::Hyperv => kvm::serve_hyperv(manager, vp, vcpu, |_| 2)?,
//!         VcpuExit::X86Rdmsr(_) | VcpuExit::X86Wrmsr(_) => {
//!             let _ = kvm::serve_msr(manager, vp, vcpu)?;
//!         }
//!         _ => {} // Everything else is the VMM's.
//!     }
//!     Ok(())
//! }
//! ```

mod exits;
mod lines;
mod signal;
mod state;
mod support;
mod vcpu;

pub use super::Error;
pub use super::emulated::MsrExit;
pub use exits::{serve_hyperv, serve_msr};
pub use lines::{GsiTable, SintLines};
pub use signal::SignalBinding;
pub use state::{capture, load, reset, restore};
pub use support::{EomNotice, Hypercalls, Traps, check, trap_msrs};
pub use vcpu::enable;
