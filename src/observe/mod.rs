// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! What an operator can see: counters, a snapshot of everything, and a timeline.

mod counters;
mod snapshot;
mod timeline;

pub(crate) use counters::{COUNT_MAX, InterruptCells};
pub use counters::{
    Dropped, EventCounters, InterruptCounters, MessageCounters, RingCounters, SintCounters,
    TimerCounters,
};
pub use snapshot::{Snapshot, SynicSnapshot, VpSnapshot};
pub(crate) use timeline::Timeline;
#[cfg(feature = "serde")]
pub(crate) use timeline::chrome_trace;
pub use timeline::{TimelineEvent, TimelineKind};
