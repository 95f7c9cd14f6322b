// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! The message half of a SynIC: the page, and a queue for each of its slots.
//!
//! One lock of the VP guards all of it ([`Synic`](crate::synic::Synic) holds it), so there is one
//! poster at a time, and a page that the guest takes back is no longer written once its MSR write
//! has finished.

use crate::abi::{Message, MessageType, PerSint, SintIndex};
use crate::config::{Config, MessageWriter, WhenDisabled, WhenMasked};
use crate::delivery::direct::{Attempt, Direct};
use crate::delivery::queue::SintQueue;
use crate::delivery::slot::{self, PageSlot, SlotMemory};
use crate::error::NotReady;
use crate::observe::MessageCounters;
use crate::page::{GuestPage, GuestSpace};
use crate::partition::PartitionError;
use crate::stimer::Timers;

/// What became of a message that was accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Posted {
    /// It is in the slot.
    Delivered,
    /// It waits: the slot is taken, or the manager is paused, or the policy holds it.
    Queued,
}

/// A message that was accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Accepted {
    pub posted: Posted,
    /// The slot was filled, by this message or by an older one: raise the SINT.
    pub interrupt: bool,
    /// The VP's thread has to fill the slot.
    pub work: bool,
}

/// Why a message was not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    NotReady(NotReady),
    Full,
    Failed(PartitionError),
}

/// The message page, its slots and their queues.
#[derive(Debug)]
pub(crate) struct Messages<AS: GuestSpace> {
    pub page: Option<GuestPage<AS>>,
    /// Instead of the page, where the hypervisor has it.
    pub direct: Option<Box<Direct>>,
    pub queues: PerSint<SintQueue>,
    /// In the plain bank; those of the nested one are never used.
    pub timers: Timers,
    /// Nothing is written to the page while set.
    pub paused: bool,
}

impl<AS: GuestSpace> Messages<AS> {
    pub fn new(config: &Config, direct: Option<Box<Direct>>) -> Self {
        Self {
            page: None,
            direct,
            queues: Default::default(),
            timers: Timers::new(config.timers),
            paused: false,
        }
    }

    /// Accepts a message for `sint`. `ready` says whether SCONTROL and the SINT let it through.
    pub fn post(
        &mut self,
        sint: SintIndex,
        message: &Message,
        ready: Result<(), NotReady>,
        config: &Config,
    ) -> Result<Accepted, Refused> {
        // A mask is looked at last: what is off is off for every SINT.
        let ready = match ready {
            Ok(()) | Err(NotReady::Masked) => self.page_ready().and(ready),
            off => off,
        };
        self.queue(sint).counters.posted += 1;
        self.admit(sint, ready, config)?;
        let by_vp = config.message_writer == MessageWriter::VpThread;
        let may_write = may_write(ready, config) && !by_vp;
        // The guest may have emptied the slot without an EOM since the last message came.
        let advanced = may_write && self.direct.is_none() && self.advance_queue(sint);
        let more = self.timers.wait_for(sint);
        if may_write && self.queue(sint).is_empty() {
            match self.attempt(sint, message, more) {
                Attempt::Delivered => {
                    return Ok(Accepted {
                        posted: Posted::Delivered,
                        interrupt: true,
                        work: false,
                    });
                }
                Attempt::Busy => {}
                Attempt::NotReady(cause) => self.admit(sint, Err(cause), config)?,
                Attempt::Failed(error) => {
                    // Counted with the interrupts that failed, as it is no fate of a message.
                    self.queue(sint).counters.posted -= 1;
                    return Err(Refused::Failed(error));
                }
            }
        }
        if advanced {
            // Its place is free, so this is never refused, and the interrupt never lost.
            self.queue(sint).append(message);
        } else {
            let queued = self.enqueue(sint, message, config);
            // A request that was refused before is made again, or nothing would ever move.
            queued.inspect_err(|_| self.await_room(config))?;
        }
        self.queue(sint).counters.queued += 1;
        self.await_room(config);
        Ok(Accepted {
            posted: Posted::Queued,
            interrupt: advanced,
            work: by_vp,
        })
    }

    /// Has the hypervisor tell of each slot that something waits for, where it has the slots.
    pub fn await_room(&mut self, config: &Config) {
        let waiting = SintIndex::all().filter(|sint| self.has_waiting(*sint));
        let waiting = waiting.fold(0, |set, sint| set | sint.bit());
        let Some(direct) = self.direct.as_mut().filter(|_| !self.paused) else {
            return;
        };
        if waiting != 0 && direct.wait_for(waiting) {
            // It need not tell of a slot that has become free before it was asked.
            for sint in SintIndex::of_set(waiting) {
                self.move_on(sint, config);
            }
        }
    }

    /// As far as the slot takes them, delivers the messages that wait for it; whether any was. To
    /// the hypervisor a slot is free as soon as it says so, so it is asked until it says no.
    pub fn move_on(&mut self, sint: SintIndex, config: &Config) -> bool {
        let mut moved = false;
        loop {
            let Some((&next, _)) = self.queue(sint).front() else {
                return moved;
            };
            match self.attempt(sint, &next, false) {
                Attempt::Delivered => self.queue(sint).pop(),
                Attempt::NotReady(cause) if is_off(cause) => {
                    if config.when_disabled == WhenDisabled::Refuse {
                        self.discard(sint, cause);
                    }
                    return moved;
                }
                // A mask that came later keeps what waits. A failure is not the message's fault.
                Attempt::Busy | Attempt::NotReady(_) | Attempt::Failed(_) => return moved,
            }
            self.queue(sint).counters.redelivered += 1;
            moved = true;
        }
    }

    /// Queues the notice that `ring`'s event ring has entries, on SINT0, and delivers it if it can
    /// and `may_write`. Says whether it went into the slot.
    pub fn notify(&mut self, ring: SintIndex, may_write: bool) -> bool {
        let payload = u32::from(ring).to_le_bytes();
        let Ok(notice) = Message::new(MessageType::SYNIC_SINT_INTERCEPT, &payload) else {
            return false;
        };
        let queue = self.queue(SintIndex::INTERCEPT);
        let before = queue.len();
        queue.push_notice(ring, &notice);
        queue.counters.posted += (queue.len() - before) as u64;
        may_write && self.advance(SintIndex::INTERCEPT)
    }

    /// Whether the guest has a message in `sint`'s slot that it has not taken yet.
    pub fn is_occupied(&self, sint: SintIndex) -> bool {
        let page = self.page.as_ref().filter(|_| !self.paused);
        page.is_some_and(|page| PageSlot::new(page, sint).message_type() != 0)
    }

    /// Puts the next waiting message into `sint`'s slot if the slot is free.
    pub fn advance(&mut self, sint: SintIndex) -> bool {
        let timer = self.advance_timer(sint);
        timer.unwrap_or_else(|| self.advance_queue(sint))
    }

    /// Drops what waits for `sint`, because of `cause`.
    pub fn discard(&mut self, sint: SintIndex, cause: NotReady) {
        let queue = self.queue(sint);
        let dropped = queue.clear();
        *queue.counters.dropped.of(cause) += dropped;
    }

    /// Discards every queue where the policy does not hold messages for a VP that switched off.
    pub fn switched_off(&mut self, cause: NotReady, config: &Config) {
        if config.when_disabled == WhenDisabled::Refuse {
            for sint in SintIndex::all() {
                self.discard(sint, cause);
            }
        }
    }

    /// The counters of `sint`, with what waits at this moment.
    pub fn counters(&self, sint: SintIndex) -> MessageCounters {
        let queue = &self.queues[sint];
        MessageCounters {
            waiting: (queue.len() + self.timers.waiting(sint)) as u64,
            ..queue.counters
        }
    }

    /// The counters of every SINT.
    pub fn all_counters(&self) -> PerSint<MessageCounters> {
        PerSint::from_fn(|sint| self.counters(sint))
    }

    /// The SINTs that refused a poster and have room again, as a set of bits; each asked once.
    pub fn take_writable(&mut self, config: &Config) -> u16 {
        let queues = self.queues.iter_mut();
        queues.fold(0, |writable, (sint, queue)| {
            let is_writable = queue.take_writable(config.queue_depth);
            writable | if is_writable { sint.bit() } else { 0 }
        })
    }

    /// Whether a message waits for `sint`'s slot.
    pub fn has_waiting(&self, sint: SintIndex) -> bool {
        !self.queues[sint].is_empty() || self.timers.wait_for(sint)
    }

    pub fn queue(&mut self, sint: SintIndex) -> &mut SintQueue {
        &mut self.queues[sint]
    }

    fn page_ready(&self) -> Result<(), NotReady> {
        match self.page.is_some() || self.direct.is_some() {
            true => Ok(()),
            false => Err(NotReady::PageOff),
        }
    }

    /// Refuses a message, unless its SINT is ready or the policy holds it.
    fn admit(
        &mut self,
        sint: SintIndex,
        ready: Result<(), NotReady>,
        config: &Config,
    ) -> Result<(), Refused> {
        let admitted = ready.or_else(|cause| accept(cause, config));
        admitted.map_err(|cause| {
            self.queue(sint).counters.dropped.count(cause);
            Refused::NotReady(cause)
        })
    }

    fn enqueue(
        &mut self,
        sint: SintIndex,
        message: &Message,
        config: &Config,
    ) -> Result<(), Refused> {
        let direct = self.direct.is_some();
        let queue = self.queue(sint);
        let by_vp = config.message_writer == MessageWriter::VpThread;
        let depth = match by_vp || direct {
            false => config.queue_depth,
            // Every message waits, if only for the VP's thread; or one has to, to ask for room.
            true => config.queue_depth.max(1),
        };
        if queue.push(message, depth).is_err() {
            queue.counters.dropped.full += 1;
            return Err(Refused::Full);
        }
        Ok(())
    }

    fn advance_queue(&mut self, sint: SintIndex) -> bool {
        let Some((&next, more)) = self.queue(sint).front() else {
            return false;
        };
        let delivered = self.deliver(sint, &next, more || self.timers.wait_for(sint));
        if delivered {
            self.queue(sint).pop();
        }
        delivered
    }

    pub(super) fn deliver(&mut self, sint: SintIndex, message: &Message, more: bool) -> bool {
        self.attempt(sint, message, more) == Attempt::Delivered
    }

    fn attempt(&mut self, sint: SintIndex, message: &Message, more: bool) -> Attempt {
        if self.paused {
            return Attempt::Busy;
        }
        let attempt = match (&self.page, &self.direct) {
            (_, Some(direct)) => direct.post(sint, message).into(),
            (Some(page), None) => slot::post(&PageSlot::new(page, sint), message, more).into(),
            (None, None) => return Attempt::Busy,
        };
        let counters = &mut self.queue(sint).counters;
        match attempt {
            Attempt::Delivered => counters.delivered += 1,
            Attempt::Busy => counters.busy += 1,
            Attempt::NotReady(_) | Attempt::Failed(_) => {}
        }
        attempt
    }
}

fn is_off(cause: NotReady) -> bool {
    matches!(cause, NotReady::ScontrolOff | NotReady::PageOff)
}

/// Whether a message may go into the slot now.
pub(crate) fn may_write(ready: Result<(), NotReady>, config: &Config) -> bool {
    match ready {
        Ok(()) => true,
        Err(cause) => cause == NotReady::Masked && config.when_masked == WhenMasked::Write,
    }
}

/// Whether the policy accepts a message for a VP or SINT that is not ready.
fn accept(cause: NotReady, config: &Config) -> Result<(), NotReady> {
    let held = match cause {
        NotReady::Proxied => false,
        NotReady::ScontrolOff | NotReady::PageOff => config.when_disabled == WhenDisabled::Hold,
        NotReady::Masked => config.when_masked != WhenMasked::Refuse,
    };
    if held { Ok(()) } else { Err(cause) }
}
