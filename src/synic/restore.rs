// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! A SynIC from a saved state, which anybody may have written: all of it is checked before any of
//! it is put back.

use super::Synic;
use crate::abi::{PageRegister, PerSint, SINT_COUNT, Sint, SintIndex};
use crate::config::{Config, Provider};
use crate::delivery::event_ring::RingProducer;
use crate::delivery::queue::SintQueue;
use crate::delivery::rings::Ring;
use crate::error::Error;
use crate::observe::{COUNT_MAX, SintCounters};
use crate::ownership::SynicView;
use crate::page::{GuestPage, GuestSpace};
use crate::state::{QueueState, RingState, SynicState, TimerState};
use crate::stimer::Timers;
use crate::sync::lock;
use std::sync::atomic::Ordering;

impl<AS: GuestSpace> Synic<AS> {
    /// Puts a state back, while paused. Guest memory is neither read nor written.
    pub fn restore(&self, state: &SynicState, space: &AS, config: &Config) -> Result<(), Error> {
        let SynicState {
            scontrol,
            siefp,
            simp,
            sirbp,
            sints,
            queues,
            held_events,
            rings,
            rings_abandoned,
            timers,
            counters,
            eoms,
        } = state;
        let sints = checked_sints(sints)?;
        let counters = checked_counters(counters, *eoms)?;
        let mut timers = checked_timers(timers, config)?;
        let mut queues = checked_queues(queues, &timers, &counters, config)?;
        if config.timers == Some(Provider::Hypervisor) {
            for (sint, queue) in queues.iter_mut() {
                queue.counters.dropped.withdrawn += timers.waiting(sint) as u64;
            }
            timers.hand_over();
        }
        let rings = checked_rings(rings, &counters)?;
        if self.is_direct && !rings.is_empty() {
            return refuse(
                "rings",
                "here the hypervisor has them, and cannot be told where they are",
            );
        }
        let message_page = map("simp", *simp, space)?;
        let event_page = map("siefp", *siefp, space)?;
        let ring_page = map("sirbp", *sirbp, space)?;

        self.hold(&SynicView {
            scontrol: *scontrol,
            simp: *simp,
            siefp: *siefp,
            sirbp: *sirbp,
            sints: sints.into_array(),
        });
        for (sint, interrupts) in self.interrupts.iter() {
            interrupts.set(counters[sint].interrupts);
        }
        let mut messages = lock(&self.messages);
        messages.page = message_page;
        messages.queues = queues;
        messages.timers.replace(timers);
        drop(messages);
        self.events.remap(event_page);
        self.events.restore_held(held_events.iter().copied());
        let event_counters = PerSint::from_fn(|sint| counters[sint].events);
        self.events.restore_counters(&event_counters);
        lock(&self.rings).restore(ring_page, *rings_abandoned, rings);
        self.eoms.store(*eoms, Ordering::Relaxed);
        Ok(())
    }
}

impl<AS: GuestSpace> Synic<AS> {
    /// Sets the registers; nothing else is done. Where the hypervisor has them, they are notes.
    pub fn hold(&self, view: &SynicView) {
        for (register, value) in [
            (&self.scontrol, view.scontrol),
            (&self.siefp, view.siefp),
            (&self.simp, view.simp),
            (&self.sirbp, view.sirbp),
        ] {
            register.store(value, Ordering::Release);
        }
        for ((_, register), value) in self.sints.iter().zip(view.sints) {
            register.store(value, Ordering::Release);
        }
    }
}

fn checked_sints(values: &[u64]) -> Result<PerSint<u64>, Error> {
    let sints = per_sint("sints", values)?;
    let invalid = (sints.iter()).find(|(_, value)| !Sint::from(**value).is_valid());
    match invalid {
        Some((sint, value)) => refuse(
            format!("sints[{}]", sint.get()),
            format!("{value:#x} is unmasked with a vector below 16"),
        ),
        None => Ok(sints),
    }
}

/// Counters that balance, and that no later count can overflow.
fn checked_counters(values: &[SintCounters], eoms: u64) -> Result<PerSint<SintCounters>, Error> {
    let counters = per_sint("counters", values)?;
    for (sint, counters) in counters.iter() {
        let field = |part: &str| format!("counters[{}]{part}", sint.get());
        if counters.largest() > COUNT_MAX {
            return refuse(field(""), "a count is out of all reason");
        }
        if !counters.messages.balances() {
            return refuse(field(".messages"), "they do not balance");
        }
        if !counters.ring.balances() {
            return refuse(field(".ring"), "they do not balance");
        }
    }
    if eoms > COUNT_MAX {
        return refuse("eoms", "it is out of all reason");
    }
    Ok(counters)
}

fn checked_timers(states: &[TimerState], config: &Config) -> Result<Timers, Error> {
    Timers::restore(states, config.timers)
        .or_else(|(position, reason)| refuse(format!("timers[{position}]"), reason))
}

/// Queues with their counters.
fn checked_queues(
    states: &[QueueState],
    timers: &Timers,
    counters: &PerSint<SintCounters>,
    config: &Config,
) -> Result<PerSint<SintQueue>, Error> {
    let mut queues = PerSint::<SintQueue>::default();
    each_once("queues", states.iter().map(|queue| queue.sint))?;
    for (index, state) in states.iter().enumerate() {
        let queue = SintQueue::restore(&state.messages, state.has_refused, config.queue_depth);
        let Some(queue) = queue else {
            let (waiting, depth) = (state.messages.len(), config.queue_depth);
            let reason = format!("{waiting} wait where {depth} and a notice of each SINT may");
            return refuse(format!("queues[{index}].messages"), reason);
        };
        queues[state.sint] = queue;
    }
    for (sint, queue) in queues.iter_mut() {
        queue.counters = counters[sint].messages;
        let waiting = queue.len() + timers.waiting(sint);
        check_waiting(sint, "messages", queue.counters.waiting, waiting)?;
    }
    Ok(queues)
}

/// Rings with their counters.
fn checked_rings(
    states: &[RingState],
    counters: &PerSint<SintCounters>,
) -> Result<Vec<(SintIndex, Ring)>, Error> {
    let mut rings = Vec::new();
    each_once("rings", states.iter().map(|ring| ring.sint))?;
    for (index, state) in states.iter().enumerate() {
        let waiting = state.waiting.iter().copied();
        let producer = RingProducer::restore(state.head, state.unread, waiting);
        let Some(producer) = producer else {
            let reason = "it does not fit 63 entries, or a port waits twice";
            return refuse(format!("rings[{index}]"), reason);
        };
        let counters = counters[state.sint].ring;
        rings.push((state.sint, Ring { producer, counters }));
    }
    for (sint, counters) in counters.iter() {
        let ring = rings.iter().find(|(of, _)| *of == sint);
        let waiting = ring.map_or(0, |(_, ring)| ring.producer.waiting().len());
        check_waiting(sint, "ring", counters.ring.waiting, waiting)?;
    }
    Ok(rings)
}

fn check_waiting(sint: SintIndex, part: &str, counted: u64, waiting: usize) -> Result<(), Error> {
    if counted == waiting as u64 {
        return Ok(());
    }
    refuse(
        format!("counters[{}].{part}.waiting", sint.get()),
        format!("{counted} are counted and {waiting} wait"),
    )
}

fn each_once(field: &str, sints: impl Iterator<Item = SintIndex>) -> Result<(), Error> {
    let mut seen = 0;
    for sint in sints {
        if seen & sint.bit() != 0 {
            return refuse(field, format!("{sint} is there twice"));
        }
        seen |= sint.bit();
    }
    Ok(())
}

fn per_sint<T: Copy>(field: &str, values: &[T]) -> Result<PerSint<T>, Error> {
    match <[T; SINT_COUNT]>::try_from(values) {
        Ok(values) => Ok(values.into()),
        Err(_) => refuse(
            field,
            format!("{} entries where there are 16 SINTs", values.len()),
        ),
    }
}

fn map<AS: GuestSpace>(
    field: &str,
    value: u64,
    space: &AS,
) -> Result<Option<GuestPage<AS>>, Error> {
    let value = PageRegister::from(value);
    let page = value.enabled().then(|| GuestPage::map(space, value.gpa()));
    page.transpose()
        .or_else(|error| refuse(field, error.to_string()))
}

fn refuse<T>(field: impl Into<String>, reason: impl Into<String>) -> Result<T, Error> {
    Err(Error::State {
        field: field.into(),
        reason: reason.into(),
    })
}
