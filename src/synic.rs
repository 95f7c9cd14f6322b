// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! One synthetic interrupt controller: the registers, pages and queues of one bank of one VP.
//!
//! Registers are written by their VP's thread, one write at a time ([`Vp`](crate::vp::Vp) sees to
//! that), and read by any thread that has something for the guest. The three halves have a lock
//! each, taken one at a time and never held across a call to the VMM: what is to be raised is
//! returned as [`Signals`].

use crate::abi::{
    EventFlag, Message, PerSint, PortId, Register, Scontrol, Sint, SintAddr, SintIndex,
};
use crate::config::{Config, MessageWriter};
use crate::delivery::direct::Direct;
use crate::delivery::events::{Events, Signalled};
use crate::delivery::messages::{Messages, Posted, Refused};
use crate::delivery::rings::Rings;
use crate::error::NotReady;
use crate::host::SintInterrupt;
use crate::observe::{InterruptCells, RingCounters};
use crate::ownership::SynicView;
use crate::page::GuestSpace;
use crate::partition::PartitionError;
use crate::stimer::TimerSignals;
use crate::sync::lock;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

mod provided;
mod registers;
mod restore;
mod signals;
mod state;
mod timers;

pub use provided::ProvidedPages;
pub(crate) use signals::Signals;
pub(crate) use state::Counters;

/// One bank.
#[derive(Debug)]
pub(crate) struct Synic<AS: GuestSpace> {
    scontrol: AtomicU64,
    siefp: AtomicU64,
    simp: AtomicU64,
    sirbp: AtomicU64,
    sints: PerSint<AtomicU64>,
    messages: Mutex<Messages<AS>>,
    events: Events<AS>,
    rings: Mutex<Rings<AS>>,
    provided: Mutex<ProvidedPages>,
    /// The hypervisor has the registers and pages; the registers above are a copy for saved state.
    is_direct: bool,
    interrupts: PerSint<InterruptCells>,
    eoms: AtomicU64,
}

impl<AS: GuestSpace> Synic<AS> {
    pub fn new(config: &Config, direct: Option<Box<Direct>>) -> Self {
        Self {
            scontrol: AtomicU64::new(scontrol_at_reset(config)),
            siefp: AtomicU64::new(0),
            simp: AtomicU64::new(0),
            sirbp: AtomicU64::new(0),
            sints: PerSint::from_fn(|_| AtomicU64::new(Sint::RESET.into())),
            is_direct: direct.is_some(),
            messages: Mutex::new(Messages::new(config, direct.clone())),
            events: Events::new(direct),
            rings: Mutex::new(Rings::new()),
            provided: Mutex::default(),
            interrupts: PerSint::default(),
            eoms: AtomicU64::new(0),
        }
    }

    /// Posts a message to a SINT.
    pub fn post(
        &self,
        sint: SintIndex,
        message: &Message,
        config: &Config,
    ) -> Result<(Posted, Signals), Refused> {
        let mut messages = lock(&self.messages);
        // Read with the lock held: a write that makes the SINT not ready passes through the lock.
        let accepted = messages.post(sint, message, self.ready(sint), config);
        let accepted = accepted.inspect_err(|refused| self.note_failure(sint, refused))?;
        let mut signals = Signals {
            work: accepted.work,
            ..Signals::NONE
        };
        if accepted.interrupt {
            signals.interrupts = sint.bit();
        }
        Ok((accepted.posted, signals))
    }

    /// Sets an event flag of a SINT.
    pub fn signal(
        &self,
        sint: SintIndex,
        flag: EventFlag,
    ) -> Result<(Signalled, Signals), PartitionError> {
        let signalled = self.events.signal(sint, flag, || self.ready(sint))?;
        let signals = match signalled {
            Signalled::Fresh => Signals::raise(sint),
            Signalled::Coalesced | Signalled::Held => Signals::NONE,
        };
        Ok((signalled, signals))
    }

    /// Rings a doorbell port on a SINT's event ring.
    pub fn ring(&self, sint: SintIndex, port: PortId, config: &Config) -> Signals {
        let mut rings = lock(&self.rings);
        let signal = rings.ring(sint, port, self.ready(sint));
        drop(rings);
        if signal {
            self.notify(sint, config)
        } else {
            Signals::NONE
        }
    }

    /// The guest has drained a full ring.
    pub fn ring_empty(&self, sint: SintIndex) {
        let mut rings = lock(&self.rings);
        if self.is_on() {
            rings.ring_empty(sint);
        }
    }

    /// The guest's ring tails are gone, so ours start at 0, too.
    pub fn rewind_rings(&self) {
        lock(&self.rings).rewind();
    }

    /// A port is not to wait for room in a ring any longer. False: it did not.
    pub fn forget_port(&self, sint: SintIndex, port: PortId) -> bool {
        lock(&self.rings).forget(sint, port)
    }

    /// Ports that wait because the ring page is off.
    pub fn stranded_ports(&self) -> Vec<(SintIndex, PortId)> {
        lock(&self.rings).stranded()
    }

    /// What the event ring of a SINT has counted.
    pub fn ring_counters(&self, sint: SintIndex) -> RingCounters {
        lock(&self.rings).counters(sint)
    }

    /// Whether doorbells reach the guest at once.
    pub fn takes_doorbells(&self) -> bool {
        lock(&self.rings).is_enabled()
    }

    /// The guest has written EOM: moves on every slot that it has emptied, masked or not (TLFS).
    pub fn end_of_message(&self, config: &Config) -> Signals {
        // Relaxed: a statistic.
        self.eoms.fetch_add(1, Ordering::Relaxed);
        if !self.is_on() {
            return Signals::NONE;
        }
        let mut messages = lock(&self.messages);
        let mut signals = Signals::NONE;
        for sint in SintIndex::all() {
            if messages.advance(sint) {
                messages.queue(sint).counters.redelivered += 1;
                signals = signals.and(Signals::raise(sint));
            }
        }
        signals.and(news(&mut messages, config))
    }

    /// The guest may have emptied a SINT's slot, as a hypervisor tells that has taken its EOM.
    pub fn slot_freed(&self, sint: SintIndex, config: &Config) -> Signals {
        let mut messages = lock(&self.messages);
        if !messages.has_waiting(sint) {
            return Signals::NONE;
        }
        if config.message_writer == MessageWriter::VpThread {
            return Signals::WORK;
        }
        let mut signals = Signals::NONE;
        if self.is_on() && messages.advance(sint) {
            messages.queue(sint).counters.redelivered += 1;
            signals.interrupts = sint.bit();
        }
        signals.and(news(&mut messages, config))
    }

    /// The hypervisor, which has the slots, tells that those of these SINTs take a message again.
    pub fn deliverable(&self, sints: u16, config: &Config) -> Signals {
        let mut messages = lock(&self.messages);
        if let Some(direct) = &mut messages.direct {
            direct.told(sints);
        }
        for sint in SintIndex::of_set(sints) {
            messages.move_on(sint, config);
        }
        messages.await_room(config);
        news(&mut messages, config)
    }

    /// What is to be told after messages may have been delivered or dropped.
    pub fn news(&self, config: &Config) -> Signals {
        news(&mut lock(&self.messages), config)
    }

    /// The interrupt of a SINT, unless it is masked or polling, or the hypervisor raises it.
    pub fn interrupt(&self, addr: SintAddr) -> Option<SintInterrupt> {
        if self.is_direct {
            return None;
        }
        let sint = self.sint(addr.sint);
        let counters = &self.interrupts[addr.sint];
        if sint.masked() || sint.polling() {
            counters.mute();
            return None;
        }
        counters.raise();
        Some(SintInterrupt {
            addr,
            vector: sint.vector(),
            auto_eoi: sint.auto_eoi(),
        })
    }

    /// The host could not raise the interrupt, or not route it. Says how loud to be about it: the
    /// guest may be able to repeat this as often as it likes.
    pub fn interrupt_failed(&self, sint: SintIndex) -> log::Level {
        loudness(self.interrupts[sint].fail())
    }

    /// The hypervisor has failed to deliver, which the VMM hears of as an error.
    fn note_failure(&self, sint: SintIndex, refused: &Refused) {
        if matches!(refused, Refused::Failed(_)) {
            self.interrupts[sint].fail();
        }
    }

    /// The registers of this moment.
    pub fn view(&self) -> SynicView {
        SynicView {
            scontrol: load(&self.scontrol),
            simp: load(&self.simp),
            siefp: load(&self.siefp),
            sirbp: load(&self.sirbp),
            sints: PerSint::from_fn(|sint| load(&self.sints[sint])).into_array(),
        }
    }

    /// Tells the guest that a ring has entries: by a notice on SINT0, or by the SINT itself.
    fn notify(&self, ring: SintIndex, config: &Config) -> Signals {
        if !self.sint(ring).as_intercept() {
            return Signals::raise(ring);
        }
        let by_vp = config.message_writer == MessageWriter::VpThread;
        let mut messages = lock(&self.messages);
        let may_write = !by_vp && self.ready(SintIndex::INTERCEPT).is_ok();
        if messages.notify(ring, may_write) {
            return Signals::raise(SintIndex::INTERCEPT);
        }
        Signals {
            work: by_vp,
            ..Signals::NONE
        }
    }

    /// Whether SCONTROL and the SINT let a message or an event through.
    fn ready(&self, sint: SintIndex) -> Result<(), NotReady> {
        let sint = self.sint(sint);
        if self.is_direct {
            // The hypervisor says so when it is asked.
            Ok(())
        } else if sint.proxy() {
            Err(NotReady::Proxied)
        } else if !self.is_on() {
            Err(NotReady::ScontrolOff)
        } else if sint.masked() {
            Err(NotReady::Masked)
        } else {
            Ok(())
        }
    }

    fn is_on(&self) -> bool {
        Scontrol::from(load(&self.scontrol)).enable()
    }

    fn sint(&self, sint: SintIndex) -> Sint {
        load(&self.sints[sint]).into()
    }

    /// Reads a register that holds a value.
    pub fn read(&self, register: Register) -> Option<u64> {
        match register {
            Register::Sversion => Some(SVERSION),
            Register::Eom => Some(0),
            Register::VpIndex => None,
            Register::Scontrol => Some(load(&self.scontrol)),
            Register::Siefp => Some(load(&self.siefp)),
            Register::Simp => Some(load(&self.simp)),
            Register::Sirbp => Some(load(&self.sirbp)),
            Register::Sint(sint) => Some(load(&self.sints[sint])),
            Register::TimerConfig(_) | Register::TimerCount(_) => {
                lock(&self.messages).timers.read(register)
            }
        }
    }
}

/// The SINTs that refused a poster and have room again; and whether timers, which run on when their
/// message is delivered, have a new deadline.
fn news<AS: GuestSpace>(messages: &mut Messages<AS>, config: &Config) -> Signals {
    Signals {
        writable: messages.take_writable(config),
        timers: TimerSignals {
            deadline: messages.has_new_deadline(),
            ..TimerSignals::NONE
        },
        ..Signals::NONE
    }
}

/// An error for the first of its kind, which the operator must hear of. A counter has the rest.
fn loudness(is_first: bool) -> log::Level {
    if is_first {
        log::Level::Error
    } else {
        log::Level::Debug
    }
}

/// Acquire: pairs with the Release store of a register write, `Synic::write`.
fn load(register: &AtomicU64) -> u64 {
    register.load(Ordering::Acquire)
}

fn scontrol_at_reset(config: &Config) -> u64 {
    Scontrol::new().with_enable(config.scontrol_at_reset).into()
}

/// `HV_SYNIC_VERSION_1`.
const SVERSION: u64 = 1;
