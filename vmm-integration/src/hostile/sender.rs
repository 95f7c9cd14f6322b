// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! What the host sends to the witness: messages, event flags and doorbells at a steady pace, each
//! the next of its sequence.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde::Serialize;
use vm_synic::{
    DoorbellTarget, EventFlag, Message, MessageType, PortId, PostError, SintAddr, SintIndex,
    VpIndex,
};

use crate::demo::guest::{Account, Guest};
use crate::demo::inbound::message_payload;
use crate::demo::protocol::{
    FLAG_WINDOW, FLAGS, MESSAGE_TYPE, RING_PORTS, RING_WINDOW, STATE_READY,
};
use crate::vm::Manager;

/// Sends to one VP.
pub struct Sender<'a> {
    pub vp: u32,
    pub manager: &'a Manager,
    pub guest: &'a Guest,
    /// Set when no more is to be sent.
    pub over: &'a AtomicBool,
}

/// What was sent.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Sent {
    pub messages: u64,
    /// Posts that the full queue refused; each was tried again.
    pub refused: u64,
    pub flags: u64,
    pub rings: u64,
    /// Everything was seen in the end.
    pub drained: bool,
    /// The longest time in which the VP saw nothing although something was there for it.
    #[serde(skip)]
    pub longest_wait: Duration,
}

impl Sender<'_> {
    /// Sends until it is over, and waits until all has been seen.
    ///
    /// # Errors
    /// The manager refused what a VP that is up must get.
    pub fn run(&self) -> Result<Sent> {
        let mut sent = Sent::default();
        let mut wait = Wait::begin();
        while !self.over.load(Ordering::SeqCst) {
            if self.account().state >= STATE_READY {
                self.send_some(&mut sent)?;
            }
            self.observe(&mut wait, &mut sent);
            std::thread::sleep(PACE);
        }
        self.drain(&mut wait, &mut sent);
        for _ in 0..LAST_ROUNDS {
            if sent.drained {
                self.send_some(&mut sent)?;
                self.drain(&mut wait, &mut sent);
            }
        }
        Ok(sent)
    }

    /// Waits until all has been seen, or for too long.
    fn drain(&self, wait: &mut Wait, sent: &mut Sent) {
        self.observe(wait, sent);
        while !sent.drained && wait.since.elapsed() < PATIENCE {
            std::thread::sleep(PACE);
            self.observe(wait, sent);
        }
    }

    fn account(&self) -> Account {
        self.guest.account(self.vp)
    }

    fn send_some(&self, sent: &mut Sent) -> Result<()> {
        self.post(sent)?;
        // A second one finds the slot taken, as a rule.
        self.post(sent)?;
        self.signal(sent)?;
        self.ring(sent)
    }

    fn post(&self, sent: &mut Sent) -> Result<()> {
        let message_type = MessageType::new(MESSAGE_TYPE).context("Message type 0")?;
        let message = Message::new(message_type, &message_payload(self.vp, sent.messages))?;
        match self.manager.post_message(self.vmbus(), &message) {
            Ok(_) => sent.messages += 1,
            Err(PostError::WouldBlock(_)) => sent.refused += 1,
            Err(error) => bail!("The witness was refused a message: {error}"),
        }
        Ok(())
    }

    fn signal(&self, sent: &mut Sent) -> Result<()> {
        let limit = self.account().flags_seen.saturating_add(FLAG_WINDOW);
        for _ in 0..limit.saturating_sub(sent.flags).min(4) {
            let flag = u16::try_from(sent.flags % FLAGS)?;
            let flag = EventFlag::new(flag).context("Not an event flag")?;
            let signalled = self.manager.signal_event(self.vmbus(), flag);
            signalled.context("The witness was refused an event")?;
            sent.flags += 1;
        }
        Ok(())
    }

    fn ring(&self, sent: &mut Sent) -> Result<()> {
        let target = DoorbellTarget::Vp(VpIndex::new(self.vp));
        let limit = self.account().rings_seen.saturating_add(RING_WINDOW);
        let first = u64::from(self.guest.first_port) + u64::from(self.vp) * RING_PORTS;
        for _ in 0..limit.saturating_sub(sent.rings).min(2) {
            let port = u32::try_from(first + sent.rings % RING_PORTS)?;
            let port = PortId::try_from(port)?;
            let rung = self
                .manager
                .ring_doorbell(target, SintIndex::DOORBELL, port);
            rung.context("The witness was refused a doorbell")?;
            sent.rings += 1;
        }
        Ok(())
    }

    fn observe(&self, wait: &mut Wait, sent: &mut Sent) {
        let account = self.account();
        let seen = (
            account.messages_seen,
            account.flags_seen,
            account.rings_seen,
        );
        sent.drained = seen == (sent.messages, sent.flags, sent.rings);
        let nothing_to_see = wait.was_drained && sent.drained;
        if seen != wait.seen || nothing_to_see {
            wait.since = Instant::now();
        }
        (wait.seen, wait.was_drained) = (seen, sent.drained);
        sent.longest_wait = sent.longest_wait.max(wait.since.elapsed());
    }

    fn vmbus(&self) -> SintAddr {
        SintAddr::new(VpIndex::new(self.vp), SintIndex::VMBUS)
    }
}

/// Since when the VP has seen nothing new.
struct Wait {
    seen: (u64, u64, u64),
    was_drained: bool,
    since: Instant,
}

impl Wait {
    fn begin() -> Self {
        Self {
            seen: (0, 0, 0),
            was_drained: true,
            since: Instant::now(),
        }
    }
}

/// Rounds of which each waits for the one before. In the others, what comes next delivers what was
/// stuck.
const LAST_ROUNDS: u32 = 50;
/// Between two rounds. Not a delivery depends on it.
const PACE: Duration = Duration::from_millis(2);
/// How long the VP may see nothing although something is there for it.
pub const PATIENCE: Duration = Duration::from_secs(10);
