// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! One virtual processor: its SynICs, who wrote to them, and what it must do before it runs.

use crate::abi::{Bank, Register, RegisterId, VpIndex};
use crate::config::Config;
use crate::delivery::direct::Direct;
use crate::error::{Error, MsrError};
#[cfg(feature = "serde")]
use crate::observe::TraceContext;
use crate::observe::{SynicSnapshot, Timeline, TimelineEvent, TimelineKind, VpSnapshot};
use crate::ownership::{Entry, Ledger, Rules, ViolationPolicy};
use crate::page::GuestSpace;
use crate::partition::Partition;
use crate::state::{SynicState, VpState};
use crate::sync::lock;
use crate::synic::{Counters, Signals, Synic};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

/// One virtual processor.
#[derive(Debug)]
pub(crate) struct Vp<AS: GuestSpace> {
    pub index: VpIndex,
    /// Whether it is plugged in. An unplugged VP keeps its place, and nothing else.
    online: AtomicBool,
    plain: Synic<AS>,
    nested: Option<Box<Synic<AS>>>,
    /// Held during a register write: the VP's own thread and another VP's `HvSetVpRegisters` take
    /// turns.
    ledger: Mutex<Ledger>,
    timeline: Timeline,
    /// There is something to do before the VP runs again; `pre_run` reads nothing else.
    has_work: AtomicBool,
    /// Held by who pauses or resumes the VP: half of each would be neither.
    turn: Mutex<()>,
    epoch: Instant,
}

/// Where a register write takes place.
pub(crate) struct Context<'a, AS> {
    pub space: &'a AS,
    pub config: &'a Config,
}

impl<AS: GuestSpace> Vp<AS> {
    pub fn new(
        index: VpIndex,
        config: &Config,
        partition: Option<&Arc<dyn Partition>>,
        epoch: Instant,
    ) -> Self {
        let direct = partition.map(|partition| Direct::new(partition.clone(), index));
        Self {
            index,
            online: AtomicBool::new(true),
            plain: Synic::new(config, direct.map(Box::new)),
            nested: config.nested.then(|| Box::new(Synic::new(config, None))),
            ledger: Mutex::new(Ledger::new(config.ledger_depth)),
            timeline: Timeline::new(config.timeline_depth),
            has_work: AtomicBool::new(false),
            turn: Mutex::new(()),
            epoch,
        }
    }

    pub fn is_online(&self) -> bool {
        // Acquire: pairs with the Release of `set_online`, after a reset.
        self.online.load(Ordering::Acquire)
    }

    /// Plugs the VP in or out; says whether that was a change.
    pub fn set_online(&self, online: bool) -> bool {
        self.online.swap(online, Ordering::AcqRel) != online
    }

    pub fn synic(&self, bank: Bank) -> Option<&Synic<AS>> {
        match bank {
            Bank::Plain => Some(&self.plain),
            Bank::Nested => self.nested.as_deref(),
        }
    }

    pub fn banks(&self) -> impl Iterator<Item = (Bank, &Synic<AS>)> {
        let nested = self.nested.as_deref().map(|synic| (Bank::Nested, synic));
        std::iter::once((Bank::Plain, &self.plain)).chain(nested)
    }

    pub fn read(&self, id: RegisterId) -> Result<u64, MsrError> {
        if id.register == Register::VpIndex {
            return Ok(self.index.get().into());
        }
        let synic = self.synic(id.bank).ok_or(MsrError::Fault)?;
        synic.read(id.register).ok_or(MsrError::Fault)
    }

    /// Writes a register, if the ownership policy lets it through.
    pub fn write(
        &self,
        id: RegisterId,
        value: u64,
        context: &Context<'_, AS>,
    ) -> Result<Signals, MsrError> {
        let synic = self.synic(id.bank).ok_or(MsrError::Fault)?;
        if id.register == Register::Eom {
            self.record(|| TimelineKind::EndOfMessage(id.bank));
            return Ok(synic.end_of_message(context.config));
        }
        if id.register.is_timer() {
            let before = (self.timeline.is_on()).then(|| synic.read(id.register));
            let written = synic.write(id.register, value, context.space, context.config);
            self.record(|| TimelineKind::Write {
                register: id,
                // No driver of the ledger's owns a timer.
                owner: None,
                before: before.flatten().unwrap_or_default(),
                value,
                took_effect: written.is_ok(),
                violation: None,
            });
            return written.map_err(|_| MsrError::Fault);
        }
        let mut ledger = lock(&self.ledger);
        let config = context.config;
        let rules = Rules::new(config.role, config.criterion);
        let view = synic.view();
        let before = view.get(id.register).ok_or(MsrError::Fault)?;
        let violation = rules.judge(id.bank, &view, id.register, value);
        let outcome = match (violation, config.violations) {
            (Some(_), ViolationPolicy::Refuse) => Ok(Signals::NONE),
            (Some(_), ViolationPolicy::Fault) => Err(MsrError::Fault),
            _ => (synic.write(id.register, value, context.space, config))
                .map_err(|_| MsrError::Fault),
        };
        ledger.record(Entry {
            at: self.now(),
            vp: self.index,
            register: id,
            owner: rules.owner(id),
            before,
            after: value,
            violation,
        });
        let refused = violation.is_some() && config.violations == ViolationPolicy::Refuse;
        self.record(|| TimelineKind::Write {
            register: id,
            owner: rules.owner(id),
            before,
            value,
            took_effect: outcome.is_ok() && !refused,
            violation,
        });
        outcome
    }

    /// Adds to the timeline.
    pub fn record(&self, kind: impl FnOnce() -> TimelineKind) {
        self.timeline.record(|| TimelineEvent {
            at: self.now(),
            vp: self.index,
            kind: kind(),
        });
    }

    pub fn timeline(&self) -> Vec<TimelineEvent> {
        self.timeline.events()
    }

    /// What a trace of the timeline has to know beside it.
    #[cfg(feature = "serde")]
    pub fn trace_context(&self, config: &Config) -> TraceContext {
        let rules = Rules::new(config.role, config.criterion);
        let mut on = Vec::new();
        for (bank, synic) in self.banks() {
            let ids = (synic.view().on())
                .map(|register| RegisterId { bank, register })
                .map(|id| (id, rules.owner(id)))
                .collect::<Vec<_>>();
            on.extend(ids);
        }
        TraceContext {
            vp: self.index,
            evicted: self.timeline.evicted(),
            on,
        }
    }

    /// Whether there is something to do before the VP runs: one atomic load.
    pub fn has_work(&self) -> bool {
        // Relaxed: only a hint; `take_work` synchronises.
        self.has_work.load(Ordering::Relaxed)
    }

    /// Whether there was something to do; asked once.
    pub fn take_work(&self) -> bool {
        // Acquire: pairs with the Release of `give_work`.
        self.has_work.swap(false, Ordering::Acquire)
    }

    pub fn give_work(&self) {
        self.has_work.store(true, Ordering::Release);
    }

    pub fn take_turn(&self) -> MutexGuard<'_, ()> {
        lock(&self.turn)
    }

    pub fn pause(&self) {
        self.banks().for_each(|(_, synic)| synic.pause());
    }

    /// After a reset, when nothing waits to be delivered.
    pub fn unpause(&self, config: &Config) {
        self.banks().for_each(|(_, synic)| {
            let _ = synic.resume(config);
        });
    }

    pub fn reset(&self, config: &Config) {
        let Self {
            index: _,
            online: _,
            plain,
            nested,
            ledger: _, // What happened, happened.
            timeline: _,
            has_work: _, // It may still have to resume.
            turn: _,
            epoch: _,
        } = self;
        plain.reset(config);
        if let Some(nested) = nested {
            nested.reset(config);
        }
        self.record(|| TimelineKind::Reset);
    }

    pub fn save(&self) -> VpState {
        let Self {
            index,
            online: _, // Only VPs that are online are saved.
            plain,
            nested,
            ledger,
            timeline: _, // Times of another process.
            has_work: _, // Only after a resume.
            turn: _,
            epoch: _,
        } = self;
        VpState {
            index: *index,
            plain: plain.save(),
            nested: nested.as_deref().map(Synic::save),
            ledger: lock(ledger).save(),
        }
    }

    pub fn restore(&self, state: &VpState, context: &Context<'_, AS>) -> Result<(), Error> {
        let VpState {
            index: _,
            plain,
            nested,
            ledger,
        } = state;
        self.restore_bank(Bank::Plain, plain, context)?;
        if let Some(nested) = nested {
            self.restore_bank(Bank::Nested, nested, context)?;
        }
        lock(&self.ledger).restore(ledger);
        Ok(())
    }

    pub fn snapshot(&self) -> VpSnapshot {
        let ledger = lock(&self.ledger);
        VpSnapshot {
            index: self.index,
            plain: snapshot(&self.plain),
            nested: self.nested.as_deref().map(snapshot),
            ledger: ledger.entries().cloned().collect(),
            ledger_evicted: ledger.evicted(),
            violations: ledger.violations().to_vec(),
            violation_count: ledger.violation_count(),
        }
    }

    fn restore_bank(
        &self,
        bank: Bank,
        state: &SynicState,
        context: &Context<'_, AS>,
    ) -> Result<(), Error> {
        let part = match bank {
            Bank::Plain => "plain",
            Bank::Nested => "nested",
        };
        let refuse = |field: &str, reason: &str| Error::State {
            field: field.into(),
            reason: reason.into(),
        };
        let synic = self.synic(bank);
        let synic = synic.ok_or_else(|| refuse(part, "this manager has no nested bank"))?;
        if bank == Bank::Nested && !state.timers.is_empty() {
            return Err(refuse("nested.timers", "only the plain bank has timers"));
        }
        let restored = synic.restore(state, context.space, context.config);
        restored.map_err(|error| error.inside(part))
    }

    fn now(&self) -> Duration {
        self.epoch.elapsed()
    }
}

fn snapshot<AS: GuestSpace>(synic: &Synic<AS>) -> SynicSnapshot {
    let Counters { sints, eoms } = synic.counters();
    SynicSnapshot::new(synic.view(), sints.into_array(), eoms, synic.timers())
}
