// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! What an operator can see: counters, a snapshot of everything, and a timeline.

mod counters;
mod snapshot;
mod timeline;
#[cfg(feature = "serde")]
mod trace;

pub(crate) use counters::{COUNT_MAX, InterruptCells};
pub use counters::{
    Dropped, EventCounters, InterruptCounters, MessageCounters, RingCounters, SintCounters,
    TimerCounters,
};
pub use snapshot::{Snapshot, SynicSnapshot, VpSnapshot};
pub(crate) use timeline::Timeline;
pub use timeline::{TimelineEvent, TimelineKind};
#[cfg(feature = "serde")]
pub(crate) use trace::{TraceContext, chrome_trace};
