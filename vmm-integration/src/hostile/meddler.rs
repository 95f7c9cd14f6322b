// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! The host thread that does random things to the manager while the guest does.

use std::any::Any;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde::Serialize;
use vm_synic::{
    Bank, ConnectionId, DoorbellSink, DoorbellSpec, DoorbellTarget, EventFlag, EventSink, Message,
    MessageSink, MessageType, PortId, PortSpec, SintAddr, SintIndex, VpIndex,
};
use vmm_sys_util::eventfd::EventFd;

use super::fuzz_protocol::{FUZZ_CONNECTION, FUZZ_CONNECTIONS};
use super::random::Random;
use super::verdict;
use crate::demo::protocol::{RING_PORTS, ring_doorbell};
use crate::vm::Manager;

/// Meddles until it is over.
pub struct Meddler<'a> {
    manager: &'a Manager,
    /// The VPs below this one are fair game.
    witness: u32,
    random: Random,
    done: Done,
    /// The witness has to see the last of what it was sent. A resume would deliver what it failed
    /// to ask for.
    draining: &'a AtomicBool,
    /// A port, its connection and a doorbell by each of some ids; dropping one unregisters it.
    registered: Vec<Option<Box<dyn Any + Send>>>,
}

/// What was done, and how much of it was accepted.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Done {
    pub posts: u64,
    pub posts_accepted: u64,
    pub signals: u64,
    pub signals_accepted: u64,
    pub rings: u64,
    pub registrations: u64,
    pub snapshots: u64,
    pub saves: u64,
}

impl<'a> Meddler<'a> {
    pub fn new(manager: &'a Manager, witness: u32, seed: u64, draining: &'a AtomicBool) -> Self {
        Self {
            manager,
            witness,
            random: Random::new(seed, u64::from(u32::MAX)),
            done: Done::default(),
            draining,
            registered: (0..FUZZ_CONNECTIONS).map(|_| None).collect(),
        }
    }

    /// Counts also in `progress`, for whoever watches.
    ///
    /// # Errors
    /// The manager is not consistent, or the host has no more eventfds.
    pub fn run(mut self, over: &AtomicBool, progress: &Mutex<Done>) -> Result<()> {
        while !over.load(Ordering::SeqCst) {
            for _ in 0..self.random.below(64) {
                self.step()?;
            }
            let mut progress = progress.lock().unwrap_or_else(|e| e.into_inner());
            progress.clone_from(&self.done);
            drop(progress);
            std::thread::sleep(Duration::from_micros(self.random.below(2000)));
        }
        Ok(())
    }

    fn step(&mut self) -> Result<()> {
        match self.random.below(256) {
            0..=95 => self.post(),
            96..=159 => self.signal(),
            160..=223 => self.ring(),
            224..=247 => self.register(),
            255 if !self.draining.load(Ordering::SeqCst) => self.save(),
            _ => self.look(),
        }
    }

    fn post(&mut self) -> Result<()> {
        let payload = self.random.next().to_le_bytes().repeat(30);
        let size = self.random.below(241) as usize;
        let message_type = self.random.next() >> (32 + self.random.below(32));
        let Some(message_type) = MessageType::new(message_type as u32) else {
            return Ok(());
        };
        let message = Message::new(message_type, payload.get(..size).unwrap_or_default())?;
        let posted = self.manager.post_message(self.any_sint(), &message);
        self.done.posts += 1;
        self.done.posts_accepted += u64::from(posted.is_ok());
        Ok(())
    }

    fn signal(&mut self) -> Result<()> {
        let flag = u16::try_from(self.random.below(2048))?;
        let flag = EventFlag::new(flag).context("Not an event flag")?;
        let signalled = self.manager.signal_event(self.any_sint(), flag);
        self.done.signals += 1;
        self.done.signals_accepted += u64::from(signalled.is_ok());
        Ok(())
    }

    fn ring(&mut self) -> Result<()> {
        let addr = self.any_sint();
        let port = u32::try_from(1 + self.random.below(RING_PORTS))?;
        let target = DoorbellTarget::Vp(addr.vp);
        let port = PortId::try_from(port)?;
        self.manager.ring_doorbell(target, addr.sint, port)?;
        self.done.rings += 1;
        Ok(())
    }

    /// Registers a port, a connection and a doorbell, or takes them away.
    fn register(&mut self) -> Result<()> {
        let index = self.random.below(FUZZ_CONNECTIONS.into()) as usize;
        let there = self.registered.get_mut(index).and_then(Option::take);
        if there.is_none() {
            let made = self.make(index)?;
            if let Some(place) = self.registered.get_mut(index) {
                *place = Some(made);
            }
        }
        self.done.registrations += 1;
        Ok(())
    }

    fn make(&mut self, index: usize) -> Result<Box<dyn Any + Send>> {
        let id = FUZZ_CONNECTION + u32::try_from(index)?;
        let (spec, sink) = (self.any_port()?, self.any_doorbell()?);
        let port = self.manager.create_port(PortId::try_from(id)?, spec)?;
        let connection = self.manager.connect(ConnectionId::try_from(id)?, &port)?;
        // In a page without a VP.
        let spec = DoorbellSpec::at(ring_doorbell(self.witness + 1, index as u64));
        let doorbell = self.manager.add_doorbell(spec, sink)?;
        Ok(Box::new((doorbell, connection, port)))
    }

    fn any_port(&mut self) -> Result<PortSpec> {
        let addr = self.any_sint();
        let base = u16::try_from(self.random.below(2048))?;
        let flags = u16::try_from(self.random.below(2049))?;
        let sink = match self.random.below(4) {
            0 => return Ok(PortSpec::Message(MessageSink::Sint(addr))),
            1 => return Ok(PortSpec::Message(MessageSink::Call(Arc::new(|_| Ok(()))))),
            2 => EventSink::Sint { addr, base },
            _ => EventSink::Fd(Arc::new(eventfd()?)),
        };
        Ok(PortSpec::Event { sink, flags })
    }

    fn any_doorbell(&mut self) -> Result<DoorbellSink> {
        if self.random.one_in(4) {
            return Ok(DoorbellSink::Fd(Arc::new(eventfd()?)));
        }
        let SintAddr { vp, sint, .. } = self.any_sint();
        let port = u32::try_from(1 + self.random.below(RING_PORTS))?;
        Ok(DoorbellSink::Ring {
            target: DoorbellTarget::Vp(vp),
            sint,
            port: PortId::try_from(port)?,
        })
    }

    /// The counters balance at any moment.
    fn look(&mut self) -> Result<()> {
        if let Some(wrong) = verdict::of_counters(&self.manager.snapshot()).next() {
            bail!(wrong);
        }
        self.done.snapshots += 1;
        Ok(())
    }

    /// While the VPs run on, which is more than a VMM may do; so the state is not of one moment.
    fn save(&mut self) -> Result<()> {
        self.manager.pause();
        if self.random.one_in(2) {
            self.manager.memory_changed();
        }
        let saved = self.manager.save();
        std::thread::sleep(Duration::from_micros(self.random.below(1000)));
        self.manager.resume();
        let saved = saved.context("Cannot save")?;
        let vps = self.manager.config().max_vps;
        ensure!(u32::try_from(saved.vps.len())? == vps, "A VP was not saved");
        self.done.saves += 1;
        Ok(())
    }

    fn any_sint(&mut self) -> SintAddr {
        let vp = self.random.below(self.witness.into()) as u32;
        let sint = u8::try_from(self.random.below(16)).ok();
        let bank = if self.random.one_in(8) {
            Bank::Nested
        } else {
            Bank::Plain
        };
        SintAddr {
            vp: VpIndex::new(vp),
            bank,
            sint: sint.and_then(SintIndex::new).unwrap_or(SintIndex::VMBUS),
        }
    }
}

fn eventfd() -> Result<EventFd> {
    EventFd::new(libc::EFD_NONBLOCK).context("Cannot make an EventFd")
}
