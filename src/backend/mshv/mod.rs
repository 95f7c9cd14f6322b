// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! A partition of /dev/mshv: the hypervisor has the guest's SynICs; the manager has queues, ports
//! and state, and asks the hypervisor to deliver.
//!
//! | what                                   | how                                     | piece                    |
//! |----------------------------------------|-----------------------------------------|--------------------------|
//! | message, event for the guest           | HvPostMessageDirect, HvSignalEventDirect, from any thread | [`MshvPartition`] as [`Partition`](crate::Partition) |
//! | a taken slot becomes free              | deliverability notification, an exit    | [`handle_exit`]          |
//! | the guest's HvPostMessage, HvSignalEvent | hypercall intercept, an exit          | [`handle_exit`]          |
//! | a write to a doorbell                  | MSHV_IOEVENTFD                          | [`MshvPartition::add_doorbell`] |
//! | an interrupt of a device               | MSHV_IRQFD, MSHV_SET_MSI_ROUTING        | [`MsiRoutes`]            |
//! | registers, pages, timers of a VP       | VP registers, VP state                  | [`MshvPartition::registers`], [`page`], [`timers`] |
//! | all of those, in a saved state         | through the manager                     | [`capture`], [`restore`] |
//! | SINT0, SINT5 and SIRBP beside a VMBus  | VP registers                            | [`VpAccess`] for a [`Driver`](crate::ownership::Driver) |
//!
//! A message is tried first: the hypervisor puts it into a free slot while the VP runs. Only if the
//! slot is taken does it wait in the manager, which then asks for a notification; the set of SINTs
//! that a VP is to tell of has one owner, the queues of that VP. Nothing polls, and no VP is kicked.
//!
//! What a VMM does:
//!
//! 1. After creating the partition: [`MshvPartition::install_intercepts`], for a guest with a VMBus.
//! 2. [`SynicManager::of_partition`](crate::SynicManager::of_partition), and `add_vp` for each VP, by
//!    its VP index.
//! 3. On a VP's thread:
//!
//! ```no_run
//! use std::{error::Error, sync::Arc};
//!
//! use mshv_ioctls::VcpuFd;
//! use vm_memory::GuestMemoryMmap;
//! use vm_synic::backend::mshv::{self, HypercallAnswer, Served};
//! use vm_synic::{SynicManager, VpIndex};
//!
//! fn step(
//!     vp: VpIndex,
//!     vcpu: &mut VcpuFd,
//!     answer: &mut dyn HypercallAnswer,
//!     manager: &SynicManager<Arc<GuestMemoryMmap>>,
//! ) -> Result<(), Box<dyn Error>> {
//!     manager.pre_run(vp);
//!     let message = vcpu.run()?;
//!     match mshv::handle_exit(manager, vp, &message, answer, |_| 2)? {
//!         Served::Done => {}
//!         Served::NotMine => {} // Everything else is the VMM's.
//!         Served::Fault => {}   // Inject #GP.
//!     }
//!     Ok(())
//! }
//! ```
//!
//! Hypercalls of a guest in 32-bit mode are not served: [`Served::NotMine`].
//!
//! What the hypervisor does not tell: that a guest has switched its SynIC off or masked a SINT. A
//! message that waits then stays, and is delivered when the guest switches on again; a VMBus that hears
//! of a new kernel (INITIATE_CONTACT) calls [`SynicManager::reset_vp`](crate::SynicManager::reset_vp)
//! if that must not be.

mod calls;
mod decode;
mod doorbells;
mod driver;
mod exits;
mod fds;
mod intercepts;
mod partition;
mod routes;
mod saved;
mod state;

pub use calls::{CallError, Hvcall, PartitionCalls, VpCalls};
pub use driver::{AccessError, PageSource, VpAccess};
pub use exits::{ExitError, HypercallAnswer, Served, handle_exit};
pub use partition::MshvPartition;
pub use routes::{MsiRoute, MsiRoutes, RouteError};
pub use saved::{SaveError, capture, restore};
pub use state::{StatePage, page, set_page, set_timers, timers};
