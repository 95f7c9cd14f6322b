// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! A SynIC paused, resumed, reset and saved. Reset, save and restore name every field, so that a
//! new one cannot be forgotten.

use super::{Signals, Synic, load, scontrol_at_reset};
use crate::abi::{PageRegister, PerSint, Register, Sint, SintIndex};
use crate::config::Config;
use crate::observe::{MessageCounters, RingCounters, SintCounters};
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
    pub fn resume(&self, config: &Config) -> Signals {
        lock(&self.messages).paused = false;
        lock(&self.rings).set_paused(false);
        let mut signals = Signals {
            interrupts: self.events.resume(),
            ..Signals::NONE
        };
        for ring in SintIndex::all() {
            let signal = lock(&self.rings).refresh(ring, self.ready(ring));
            if signal {
                signals = signals.and(self.notify(ring, config));
            }
        }
        // After the rings, whose notices are messages: the VP need not come back for them.
        signals = signals.and(self.deliver_waiting(config));
        signals.work = false;
        signals
            .and(self.expire_timers(config))
            .and(self.news(config))
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
            is_direct: _,
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
        if let Some(direct) = &mut messages.direct {
            direct.forget();
        }
        messages.reset_timers();
        for (_, queue) in messages.queues.iter_mut() {
            queue.counters.dropped.reset += queue.clear();
        }
        drop(messages);
        events.reset();
        let mut rings = lock(rings);
        // In this order: nothing is taken back from the page, it may be the next guest's by now.
        rings.rewind();
        rings.set_page(None);
    }

    /// Looks the pages up again, after the memory map changed. A page that is gone is as good as
    /// disabled, until it is back.
    pub fn remap(&self, space: &AS) {
        lock(&self.messages).page = self.map(Register::Simp, space).unwrap_or_default();
        self.events
            .remap(self.map(Register::Siefp, space).unwrap_or_default());
        let page = self.map(Register::Sirbp, space).unwrap_or_default();
        lock(&self.rings).replace_mapping(page);
    }

    pub fn counters(&self) -> Counters {
        let messages = lock(&self.messages).all_counters();
        let rings = lock(&self.rings).all_counters();
        self.counters_with(&messages, &rings)
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
            is_direct: _,  // Likewise.
            interrupts: _, // With the counters, and so are the EOMs.
            eoms: _,
        } = self;
        // What waits and what is counted must be of the same moment: posters go on while paused.
        let messages = lock(messages);
        let message_counters = messages.all_counters();
        let timers = messages.timers.save();
        let queues = (messages.queues.iter())
            .filter(|(_, queue)| !queue.is_empty() || queue.has_refused())
            .map(|(sint, queue)| QueueState {
                sint,
                messages: queue.iter().copied().collect(),
                has_refused: queue.has_refused(),
            })
            .collect();
        drop(messages);
        let rings = lock(rings);
        let ring_counters = rings.all_counters();
        let ring_states = (rings.iter())
            .map(|(sint, ring)| RingState {
                sint,
                head: ring.producer.head(),
                unread: ring.producer.unread(),
                waiting: ring.producer.waiting().collect(),
            })
            .collect();
        let rings_abandoned = rings.is_abandoned();
        drop(rings);
        let counters = self.counters_with(&message_counters, &ring_counters);
        SynicState {
            scontrol: load(scontrol),
            siefp: load(siefp),
            simp: load(simp),
            sirbp: load(sirbp),
            sints: sints.iter().map(|(_, sint)| load(sint)).collect(),
            queues,
            held_events: events.held(),
            rings: ring_states,
            rings_abandoned,
            timers,
            counters: counters.sints.into_array().to_vec(),
            eoms: counters.eoms,
        }
    }

    fn counters_with(
        &self,
        messages: &PerSint<MessageCounters>,
        rings: &PerSint<RingCounters>,
    ) -> Counters {
        Counters {
            sints: PerSint::from_fn(|sint| SintCounters {
                messages: messages[sint],
                events: self.events.counters(sint),
                ring: rings[sint],
                interrupts: self.interrupts[sint].get(),
            }),
            eoms: self.eoms.load(Ordering::Relaxed),
        }
    }

    fn map(&self, register: Register, space: &AS) -> Option<Option<GuestPage<AS>>> {
        let value = self.read(register).map(PageRegister::from)?;
        let page = value.enabled().then(|| GuestPage::map(space, value.gpa()));
        page.transpose().ok()
    }
}
