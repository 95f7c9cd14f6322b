// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! A VM without a hypervisor: for the tests of this crate, of fuzzing, and of a VMM that embeds it.
//!
//! [`MockVm`] is a manager with guest memory and a host that writes down what it is asked for.
//! [`MockGuest`] is the guest kernel on one of its VPs: it programs MSRs, empties slots, clears
//! flags and drains rings as Linux does, and loads and unloads Linux's two drivers.
//!
//! ```
//! use vm_synic::test_utils::MockVm;
//! use vm_synic::{Config, Message, MessageType, SintAddr, SintIndex, VpIndex};
//!
//! let vm = MockVm::new(Config::new(1), 1);
//! let vp = VpIndex::new(0);
//! let mut guest = vm.guest(vp);
//! guest.enable_all();
//! guest.unmask(SintIndex::VMBUS, 0xF3);
//!
//! let hello = Message::new(MessageType::VMBUS, b"hello")?;
//! vm.manager.post_message(SintAddr::new(vp, SintIndex::VMBUS), &hello)?;
//!
//! assert_eq!(vm.host.take_interrupts().len(), 1);
//! assert_eq!(guest.take_message(SintIndex::VMBUS), Some(hello));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Everything here panics where a test has gone wrong; none of it is for production.

pub mod conformance;
mod consumer;
mod drivers;
mod guest;
mod host;
#[cfg(feature = "mshv")]
mod mshv;
mod vm;

pub use drivers::{MockError, MockPage};
pub use guest::MockGuest;
pub use host::{HostCall, RecordingHost};
#[cfg(feature = "mshv")]
pub use mshv::{MshvDouble, VpDouble, hv_message_of};
pub use vm::MockVm;
