// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! How something reaches the guest: message slots, event flags and event rings.
//!
//! Each protocol is written once, against a small trait for the memory that it is played on: the
//! guest's page in the engine, and loom's atomics in the models that prove it.

pub(crate) mod direct;
pub(crate) mod event_ring;
pub(crate) mod events;
pub(crate) mod messages;
pub(crate) mod queue;
pub(crate) mod rings;
pub(crate) mod slot;
mod timers;
