// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! Glue between a [`SynicManager`](crate::SynicManager) and a hypervisor's user-space interface.
//!
//! The manager itself is free of any hypervisor: it is told of guest accesses and asks its
//! [`Host`](crate::Host) for interrupts. A backend holds the pieces that turn one hypervisor's
//! exits into those calls and those requests into its ioctls. A VMM picks the pieces it wants;
//! none of them owns a thread, a vCPU or an event loop.
//!
//! | backend    | who holds the registers                     | needs             | feature |
//! |------------|---------------------------------------------|-------------------|---------|
//! | `emulated` | the manager                                 | any KVM           | `kvm`   |
//! | `kvm`      | KVM; the manager holds the same, in step    | KVM's own SynIC   | `kvm`   |
//! | `mshv`     | the hypervisor                              | /dev/mshv         | `mshv`  |

#[cfg(all(feature = "kvm", target_arch = "x86_64"))]
#[cfg_attr(docsrs, doc(cfg(feature = "kvm")))]
pub mod emulated;
#[cfg(all(feature = "kvm", target_arch = "x86_64"))]
mod error;
#[cfg(all(feature = "kvm", target_arch = "x86_64"))]
#[cfg_attr(docsrs, doc(cfg(feature = "kvm")))]
pub mod kvm;
#[cfg(feature = "mshv")]
#[cfg_attr(docsrs, doc(cfg(feature = "mshv")))]
pub mod mshv;
#[cfg(all(feature = "kvm", target_arch = "x86_64"))]
mod msr_filter;

#[cfg(all(feature = "kvm", target_arch = "x86_64"))]
pub use error::Error;
