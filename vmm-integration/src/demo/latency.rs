// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! Time from a post to the guest's interrupt handler, in TSC ticks and in nanoseconds.

use std::time::Instant;

use serde::Serialize;

use super::guest::Guest;
use super::outbound::Sent;
use super::protocol::STAMPS;

/// The host's TSC, which is the guest's too once [`super::tsc::align`] has succeeded.
pub fn read_tsc() -> u64 {
    // SAFETY: every x86-64 CPU has a TSC, and Linux lets user space read it.
    unsafe { std::arch::x86_64::_rdtsc() }
}

/// From before the post of a message to the guest's interrupt handler.
#[derive(Clone, Copy, Debug, Default)]
pub struct Latency {
    /// Messages that went straight into the slot.
    pub direct: Option<Percentiles>,
    /// Messages that waited for the guest to handle others first.
    pub queued: Option<Percentiles>,
}

impl Latency {
    /// Of all messages whose time in the guest is still known.
    pub fn of(guest: &Guest, sent: &[Sent], clock: &Clock) -> Self {
        let (mut direct, mut queued) = (Vec::new(), Vec::new());
        for sent in sent {
            let seen = guest.account(sent.vp).messages_seen;
            let kept = seen.saturating_sub(STAMPS)..seen;
            for (seq, post) in (0..).zip(&sent.posts).filter(|(seq, _)| kept.contains(seq)) {
                let ticks = guest.stamp(sent.vp, seq).saturating_sub(post.tsc);
                let samples = if post.direct {
                    &mut direct
                } else {
                    &mut queued
                };
                samples.push(ticks);
            }
        }
        Self {
            direct: Percentiles::of(direct, clock),
            queued: Percentiles::of(queued, clock),
        }
    }
}

/// Percentiles, in nanoseconds.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize)]
pub struct Percentiles {
    pub samples: usize,
    pub p50: u64,
    pub p90: u64,
    pub p99: u64,
    pub max: u64,
}

impl Percentiles {
    /// Of `ticks`; none if there are no samples.
    pub fn of(mut ticks: Vec<u64>, clock: &Clock) -> Option<Self> {
        ticks.sort_unstable();
        let rank = |percent: usize| {
            let index = (ticks.len() * percent).div_ceil(100).checked_sub(1)?;
            ticks.get(index).map(|t| clock.nanoseconds(*t))
        };
        Some(Self {
            samples: ticks.len(),
            p50: rank(50)?,
            p90: rank(90)?,
            p99: rank(99)?,
            max: rank(100)?,
        })
    }
}

/// Relates the TSC to nanoseconds by the run's own length.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    ticks: u64,
    nanoseconds: u64,
}

impl Clock {
    /// From a TSC value and a time that were both read at the start.
    pub fn since(start_tsc: u64, start: Instant) -> Self {
        let nanoseconds = u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX);
        Self {
            ticks: read_tsc().wrapping_sub(start_tsc).max(1),
            nanoseconds,
        }
    }

    fn nanoseconds(&self, ticks: u64) -> u64 {
        let scaled = u128::from(ticks) * u128::from(self.nanoseconds) / u128::from(self.ticks);
        u64::try_from(scaled).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HALF_NANOSECOND_TICKS: Clock = Clock {
        ticks: 2_000,
        nanoseconds: 1_000,
    };

    #[test]
    fn of_when_there_are_a_hundred_samples_takes_the_nearest_rank() {
        let ticks = (1..=100).rev().map(|n| n * 2).collect();
        let expected = Percentiles {
            samples: 100,
            p50: 50,
            p90: 90,
            p99: 99,
            max: 100,
        };
        assert_eq!(
            Percentiles::of(ticks, &HALF_NANOSECOND_TICKS),
            Some(expected)
        );
    }

    #[test]
    fn of_when_there_is_one_sample_is_that_sample() {
        let only = Percentiles::of(vec![10], &HALF_NANOSECOND_TICKS).unwrap();
        assert_eq!((only.p50, only.p99, only.max), (5, 5, 5));
    }

    #[test]
    fn of_when_there_are_no_samples_is_none() {
        assert_eq!(Percentiles::of(Vec::new(), &HALF_NANOSECOND_TICKS), None);
    }
}
