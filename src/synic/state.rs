// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! A SynIC as a value: saved, restored, reset. Each names every field, so that a new one cannot be
//! forgotten.

use super::{Signals, Synic, load, scontrol_at_reset};
use crate::abi::{PageRegister, PerSint, Register, Sint, SintIndex};
use crate::config::Config;
use crate::delivery::event_ring::RingProducer;
use crate::delivery::queue::SintQueue;
use crate::error::Error;
use crate::observe::{RingCounters, SintCounters};
use crate::page::{GuestPage, GuestSpace};
use crate::state::{QueueState, RingState, SynicState};
use crate::sync::lock;
use std::sync::atomic::Ordering;

/// What a SynIC has counted.
pub(crate) struct Counters {
    pub sints: PerSint<SintCounters>,
    pub eoms: u64,
}

impl<AS: GuestSpace> Synic<AS> {
    /// Writes nothing to guest memory from now on; after this returns, nobody is doing so.
    pub fn pause(&self) {
        lock(&self.messages).paused = true;
        self.events.pause();
        lock(&self.rings).set_paused(true);
    }

    /// Delivers what was held.
    pub fn resume(&self) -> Signals {
        lock(&self.messages).paused = false;
        lock(&self.rings).set_paused(false);
        let held = Signals {
            interrupts: self.events.resume(),
            ..Signals::NONE
        };
        let mut signals = held.and(self.deliver_waiting());
        for ring in SintIndex::all() {
            let may_signal = self.ready(ring).is_ok();
            let signal = lock(&self.rings).refresh(ring, may_signal);
            if signal {
                signals = signals.and(self.notify(ring));
            }
        }
        signals
    }

    /// As after power-on. What waited is dropped, and counted so.
    pub fn reset(&self, config: &Config) {
        let Self {
            scontrol,
            siefp,
            simp,
            sirbp,
            sints,
            messages,
            events,
            rings,
            provided,
            interrupts: _, // What happened, happened.
            eoms: _,
        } = self;
        scontrol.store(scontrol_at_reset(config), Ordering::Release);
        let provided = *lock(provided);
        for (register, gpa) in [siefp, simp, sirbp].into_iter().zip(provided.bases()) {
            register.store(gpa, Ordering::Release);
        }
        for (_, sint) in sints.iter() {
            sint.store(Sint::RESET.into(), Ordering::Release);
        }
        let mut messages = lock(messages);
        messages.page = None;
        for (_, queue) in messages.queues.iter_mut() {
            queue.counters.dropped.reset += queue.clear();
        }
        drop(messages);
        events.reset();
        let mut rings = lock(rings);
        rings.set_page(None);
        rings.rewind();
    }

    /// Looks the pages up again, after the memory map changed. A page that is gone is disabled.
    pub fn remap(&self, space: &AS) {
        let mut messages = lock(&self.messages);
        if messages.page.is_some() {
            messages.page = self.map(Register::Simp, space).unwrap_or_default();
        }
        drop(messages);
        self.events
            .remap(self.map(Register::Siefp, space).unwrap_or_default());
        let page = self.map(Register::Sirbp, space).unwrap_or_default();
        lock(&self.rings).replace_mapping(page);
    }

    pub fn counters(&self) -> Counters {
        let messages = lock(&self.messages);
        let mut sints = PerSint::from_fn(|sint| SintCounters {
            messages: messages.counters(sint),
            events: self.events.counters(sint),
            ring: RingCounters::default(),
            interrupts: self.interrupts[sint].get(),
        });
        for (sint, ring) in lock(&self.rings).iter() {
            sints[sint].ring = RingCounters {
                waiting: ring.producer.waiting().len() as u64,
                ..ring.counters
            };
        }
        Counters {
            sints,
            eoms: self.eoms.load(Ordering::Relaxed),
        }
    }

    /// The state, while paused.
    pub fn save(&self) -> SynicState {
        let Self {
            scontrol,
            siefp,
            simp,
            sirbp,
            sints,
            messages,
            events,
            rings,
            provided: _,   // The VMM's, not the guest's.
            interrupts: _, // With the counters, and so are the EOMs.
            eoms: _,
        } = self;
        let Counters {
            sints: counters,
            eoms,
        } = self.counters();
        SynicState {
            scontrol: load(scontrol),
            siefp: load(siefp),
            simp: load(simp),
            sirbp: load(sirbp),
            sints: sints.iter().map(|(_, sint)| load(sint)).collect(),
            queues: (lock(messages).queues.iter())
                .filter(|(_, queue)| !queue.is_empty())
                .map(|(sint, queue)| QueueState {
                    sint,
                    messages: queue.iter().copied().collect(),
                })
                .collect(),
            held_events: events.held(),
            rings: (lock(rings).iter())
                .map(|(sint, ring)| RingState {
                    sint,
                    head: ring.producer.head(),
                    waiting: ring.producer.waiting().collect(),
                })
                .collect(),
            counters: counters.into_array().to_vec(),
            eoms,
        }
    }

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
            counters,
            eoms,
        } = state;
        let sints = checked_sints(sints)?;
        let counters = per_sint("counters", counters)?;
        let message_page = map_saved("simp", *simp, space)?;
        let event_page = map_saved("siefp", *siefp, space)?;
        let ring_page = map_saved("sirbp", *sirbp, space)?;

        for (register, value) in [
            (&self.scontrol, scontrol),
            (&self.siefp, siefp),
            (&self.simp, simp),
            (&self.sirbp, sirbp),
        ] {
            register.store(*value, Ordering::Release);
        }
        for (sint, value) in sints.iter() {
            self.sints[sint].store(*value, Ordering::Release);
        }
        self.restore_queues(message_page, queues, &counters, config);
        self.events.remap(event_page);
        self.events.restore_held(held_events.iter().copied());
        self.restore_rings(ring_page, rings, &counters);
        for (sint, counters) in counters.iter() {
            self.events.restore_counters(sint, counters.events);
            self.interrupts[sint].set(counters.interrupts);
        }
        self.eoms.store(*eoms, Ordering::Relaxed);
        Ok(())
    }

    fn restore_queues(
        &self,
        page: Option<GuestPage<AS>>,
        queues: &[QueueState],
        counters: &PerSint<SintCounters>,
        config: &Config,
    ) {
        let mut messages = lock(&self.messages);
        messages.page = page;
        for queue in queues {
            let waiting = queue.messages.iter().copied();
            *messages.queue(queue.sint) = SintQueue::restore(waiting, config.queue_depth);
        }
        for (sint, counters) in counters.iter() {
            messages.queue(sint).counters = counters.messages;
        }
    }

    fn restore_rings(
        &self,
        page: Option<GuestPage<AS>>,
        states: &[RingState],
        counters: &PerSint<SintCounters>,
    ) {
        let mut rings = lock(&self.rings);
        rings.replace_mapping(page);
        for state in states {
            let ring = rings.ring_mut(state.sint);
            ring.producer = RingProducer::restore(state.head, state.waiting.iter().copied());
            ring.counters = counters[state.sint].ring;
        }
    }

    fn map(&self, register: Register, space: &AS) -> Option<Option<GuestPage<AS>>> {
        let value = self.read(register).map(PageRegister::from)?;
        let page = value.enabled().then(|| GuestPage::map(space, value.gpa()));
        page.transpose().ok()
    }
}

fn map_saved<AS: GuestSpace>(
    field: &str,
    value: u64,
    space: &AS,
) -> Result<Option<GuestPage<AS>>, Error> {
    let value = PageRegister::from(value);
    let page = value.enabled().then(|| GuestPage::map(space, value.gpa()));
    page.transpose().map_err(|error| Error::State {
        field: field.into(),
        reason: error.to_string(),
    })
}

fn checked_sints(values: &[u64]) -> Result<PerSint<u64>, Error> {
    let sints = per_sint("sints", values)?;
    match sints
        .iter()
        .find(|(_, value)| !Sint::from(**value).is_valid())
    {
        Some((sint, value)) => Err(Error::State {
            field: format!("sints[{}]", sint.get()),
            reason: format!("{value:#x} is unmasked with a vector below 16"),
        }),
        None => Ok(sints),
    }
}

fn per_sint<T: Copy>(field: &str, values: &[T]) -> Result<PerSint<T>, Error> {
    <[T; crate::abi::SINT_COUNT]>::try_from(values)
        .map(PerSint::from)
        .map_err(|_| Error::State {
            field: field.into(),
            reason: format!("{} entries where there are 16 SINTs", values.len()),
        })
}
