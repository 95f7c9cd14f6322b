// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! What a write to a SynIC register does.

use super::{Signals, Synic};
use crate::abi::{PageRegister, Register, Scontrol, Sint, SintIndex};
use crate::config::Config;
use crate::delivery::messages::may_write;
use crate::error::NotReady;
use crate::ownership::Role;
use crate::page::{GuestPage, GuestSpace, PageError};
use crate::sync::lock;
use std::sync::atomic::{AtomicU64, Ordering};

/// The guest gets #GP and the register keeps its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Fault;

impl From<PageError> for Fault {
    fn from(error: PageError) -> Self {
        log::debug!("SynIC page refused: {error}");
        Self
    }
}

impl<AS: GuestSpace> Synic<AS> {
    /// Writes a register. One at a time; the VP sees to that.
    pub fn write(
        &self,
        register: Register,
        value: u64,
        space: &AS,
        config: &Config,
    ) -> Result<Signals, Fault> {
        let signals = match register {
            Register::Scontrol => self.write_scontrol(value.into(), config),
            Register::Siefp => self.write_siefp(value.into(), space)?,
            Register::Simp => self.write_simp(value.into(), space, config)?,
            Register::Sirbp => self.write_sirbp(value.into(), space, config)?,
            Register::Sint(sint) => self.write_sint(sint, value.into(), config)?,
            // The value is ignored, as KVM does, though the TLFS reserves it as zero.
            Register::Eom => self.end_of_message(config),
            Register::TimerConfig(_) | Register::TimerCount(_) => {
                self.write_timer(register, value, config)
            }
            Register::Sversion | Register::VpIndex => return Err(Fault),
        };
        // Messages may have been delivered or dropped.
        Ok(signals.and(self.news(config)))
    }

    fn write_scontrol(&self, new: Scontrol, config: &Config) -> Signals {
        let was_on = self.is_on();
        store(&self.scontrol, new.into());
        match (was_on, new.enable()) {
            (true, false) => self.switched_off(config),
            (false, true) => {
                return self
                    .deliver_waiting(config)
                    .and(self.announce(config, |_| true));
            }
            _ => {}
        }
        Signals::NONE
    }

    /// After SCONTROL went off: nobody writes to a page any more when this returns.
    fn switched_off(&self, config: &Config) {
        lock(&self.messages).switched_off(NotReady::ScontrolOff, config);
        self.events.settle();
        self.rewind_if_offline(config);
    }

    /// A guest or L1VH that gives up the VP's whole SynIC takes the CPU offline, and Linux frees
    /// the CPU's ring tails with it. The root gives up SCONTROL with every unload of its driver,
    /// and its tails live on.
    fn rewind_if_offline(&self, config: &Config) {
        let mut rings = lock(&self.rings);
        let is_root = matches!(config.role, Role::Root | Role::NestedRoot);
        if !is_root && !self.is_on() && !rings.is_enabled() {
            rings.rewind();
        }
    }

    fn write_simp(&self, new: PageRegister, space: &AS, config: &Config) -> Result<Signals, Fault> {
        let old = PageRegister::from(super::load(&self.simp));
        let mut messages = lock(&self.messages);
        match change(old, new) {
            Change::None => {}
            Change::Disable => {
                messages.page = None;
                messages.switched_off(NotReady::PageOff, config);
            }
            Change::Enable => {
                let page = GuestPage::map(space, new.gpa())?;
                page.zero();
                messages.page = Some(page);
            }
            Change::Move => {
                let page = GuestPage::map(space, new.gpa())?;
                if let Some(old) = &messages.page {
                    page.copy_from(old);
                }
                messages.page = Some(page);
            }
        }
        store(&self.simp, new.into());
        drop(messages);
        if change(old, new) != Change::Enable {
            return Ok(Signals::NONE);
        }
        // Notices that waited were lost with the old page.
        let by_notice = |ring| self.sint(ring).as_intercept();
        Ok(self
            .deliver_waiting(config)
            .and(self.announce(config, by_notice)))
    }

    fn write_siefp(&self, new: PageRegister, space: &AS) -> Result<Signals, Fault> {
        let old = PageRegister::from(super::load(&self.siefp));
        match change(old, new) {
            Change::None => {}
            Change::Disable => self.events.disable(),
            Change::Enable => {
                let page = GuestPage::map(space, new.gpa())?;
                page.zero();
                self.events.enable(page);
            }
            Change::Move => self.events.enable(GuestPage::map(space, new.gpa())?),
        }
        store(&self.siefp, new.into());
        Ok(Signals::NONE)
    }

    fn write_sirbp(
        &self,
        new: PageRegister,
        space: &AS,
        config: &Config,
    ) -> Result<Signals, Fault> {
        let mut rings = lock(&self.rings);
        // Not the register's old bit: the page may have been given up since (`Rings::rewind`).
        let old = PageRegister::from(super::load(&self.sirbp)).with_enabled(rings.is_enabled());
        let change = change(old, new);
        match change {
            Change::None => {}
            Change::Disable => rings.set_page(None),
            // What the guest has not read of the old page goes along, entry by entry.
            Change::Enable | Change::Move => {
                let page = GuestPage::map(space, new.gpa())?;
                page.zero();
                rings.set_page(Some(page));
            }
        }
        store(&self.sirbp, new.into());
        drop(rings);
        match change {
            Change::Enable | Change::Move => return Ok(self.announce(config, |_| true)),
            Change::Disable => self.rewind_if_offline(config),
            Change::None => {}
        }
        Ok(Signals::NONE)
    }

    fn write_sint(&self, sint: SintIndex, new: Sint, config: &Config) -> Result<Signals, Fault> {
        if !new.is_valid() {
            return Err(Fault);
        }
        let old = self.sint(sint);
        store(&self.sints[sint], new.into());
        if new.masked() && !old.masked() || new.proxy() && !old.proxy() {
            self.settle();
        }
        let unmasked = old.masked() && !new.masked();
        if !unmasked && (new.proxy() || !old.proxy()) {
            return Ok(Signals::NONE);
        }
        let own_ring = |ring| ring == sint;
        let signals = self
            .advance(sint, config)
            .and(self.announce(config, own_ring));
        // An EOM drains a masked SINT too, without an interrupt: this is it.
        let unheard =
            unmasked && self.ready(sint).is_ok() && lock(&self.messages).is_occupied(sint);
        if unheard {
            return Ok(signals.and(Signals::raise(sint)));
        }
        Ok(signals)
    }

    /// Waits for posters and signallers that still act on a register's old value.
    fn settle(&self) {
        drop(lock(&self.messages));
        self.events.settle();
        drop(lock(&self.rings));
    }

    /// Something came on: delivers what waited for it.
    pub(super) fn deliver_waiting(&self, config: &Config) -> Signals {
        if self.is_direct {
            return self.deliverable(u16::MAX, config);
        }
        SintIndex::all().fold(Signals::NONE, |all, sint| {
            all.and(self.advance(sint, config))
        })
    }

    /// Moves waiting doorbells into those rings, of the ones chosen, and signals the guest for each
    /// that holds unread entries.
    fn announce(&self, config: &Config, chosen: impl Fn(SintIndex) -> bool) -> Signals {
        let mut signals = Signals::NONE;
        for ring in SintIndex::all().filter(|ring| chosen(*ring)) {
            let mut rings = lock(&self.rings);
            let announced = rings.announce(ring, self.ready(ring));
            drop(rings);
            if announced {
                signals = signals.and(self.notify(ring, config));
            }
        }
        signals
    }

    fn advance(&self, sint: SintIndex, config: &Config) -> Signals {
        let may_write = may_write(self.ready(sint), config);
        let delivered = may_write && lock(&self.messages).advance(sint);
        if delivered {
            Signals::raise(sint)
        } else {
            Signals::NONE
        }
    }
}

/// What a write to a page register does to its page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Change {
    None,
    Enable,
    Disable,
    Move,
}

fn change(old: PageRegister, new: PageRegister) -> Change {
    match (old.enabled(), new.enabled()) {
        (false, true) => Change::Enable,
        (true, false) => Change::Disable,
        (true, true) if old.gpa() != new.gpa() => Change::Move,
        _ => Change::None,
    }
}

/// Release: pairs with the Acquire of `load`.
fn store(register: &AtomicU64, value: u64) {
    register.store(value, Ordering::Release);
}
