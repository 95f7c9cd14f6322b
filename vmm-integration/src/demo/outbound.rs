// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! What the host sends to one VP: messages and event flags on SINT2, from a thread of its own.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use vm_synic::{EventFlag, Message, MessageType, PostError, Posted, SintAddr, SintIndex, VpIndex};

use super::guest::{Account, Guest};
use super::inbound::message_payload;
use super::latency::read_tsc;
use super::plan::Plan;
use super::protocol::{FLAG_WINDOW, FLAGS, MESSAGE_TYPE, STATE_READY};
use crate::vm::Manager;

/// Sends one VP its share.
pub struct Outbound<'a> {
    pub vp: u32,
    pub plan: Plan,
    pub manager: &'a Manager,
    pub guest: &'a Guest,
    pub script: Script,
    /// Set when the demo is over, however it went.
    pub over: &'a AtomicBool,
}

/// What to send where. The demo does as planned; its tests do it wrong, to see whether that is
/// found.
#[derive(Clone, Copy)]
pub struct Script {
    /// From a VP and the number of its message to the VP that gets it and the number that it has.
    pub message: fn(u32, u64) -> (u32, u64),
    /// The same for event flags.
    pub flag: fn(u32, u64) -> (u32, u64),
    /// From a VP and the index of its doorbell to the VP whose ring it enters and its index there.
    pub ring: fn(u32, u64) -> (u32, u64),
}

impl Default for Script {
    fn default() -> Self {
        Self {
            message: |vp, seq| (vp, seq),
            flag: |vp, seq| (vp, seq),
            ring: |vp, index| (vp, index),
        }
    }
}

/// What one VP was sent.
#[derive(Debug, Default)]
pub struct Sent {
    pub vp: u32,
    pub messages: u64,
    pub flags: u64,
    /// Messages that had to wait for the slot.
    pub queued: u64,
    /// Posts that the full queue refused; each was tried again.
    pub refused: u64,
    /// Flags that were newly set.
    pub fresh_flags: u64,
    /// One for each message.
    pub posts: Vec<Post>,
}

/// A message on its way.
#[derive(Clone, Copy, Debug)]
pub struct Post {
    /// Right before the post.
    pub tsc: u64,
    /// It went straight into the slot.
    pub direct: bool,
}

impl Outbound<'_> {
    /// Sends until all is sent or the demo is over, and ends the demo if it cannot.
    ///
    /// # Errors
    /// The manager refused what a ready VP must get.
    pub fn run(self) -> Result<Sent> {
        let mut sent = Sent {
            vp: self.vp,
            ..Sent::default()
        };
        let result = self.send_all(&mut sent);
        if result.is_err() {
            self.over.store(true, Ordering::SeqCst);
        }
        result.map(|()| sent)
    }

    fn send_all(&self, sent: &mut Sent) -> Result<()> {
        let all = (self.plan.messages, self.plan.flags);
        while (sent.messages, sent.flags) != all && !self.over.load(Ordering::SeqCst) {
            if !(self.all_ready() && self.send_some(sent)?) {
                // The guest has no way to call this thread, and need not have one.
                std::thread::sleep(Duration::from_micros(50));
            }
        }
        Ok(())
    }

    fn all_ready(&self) -> bool {
        let states = self.plan.vps().map(|vp| self.guest.account(vp).state);
        states.min() >= Some(STATE_READY)
    }

    /// False if the guest has to catch up first.
    fn send_some(&self, sent: &mut Sent) -> Result<bool> {
        let account = self.guest.account(self.vp);
        // Not `||`: both kinds get their turn.
        Ok(self.send_messages(&account, sent)? | self.send_flags(&account, sent)?)
    }

    /// A burst that fills slot and queue, or one message into an empty slot, in turn.
    fn send_messages(&self, account: &Account, sent: &mut Sent) -> Result<bool> {
        const PERIOD: u64 = 256;
        const BURST: u64 = 192;
        let mut progress = false;
        while sent.messages < self.plan.messages {
            let alone = sent.messages % PERIOD >= BURST;
            if alone && account.messages_seen != sent.messages || !self.post(sent)? {
                break;
            }
            progress = true;
        }
        Ok(progress)
    }

    /// False if the queue is full.
    fn post(&self, sent: &mut Sent) -> Result<bool> {
        let (vp, seq) = (self.script.message)(self.vp, sent.messages);
        let message_type = MessageType::new(MESSAGE_TYPE).context("Message type 0")?;
        let message = Message::new(message_type, &message_payload(self.vp, seq))?;
        let tsc = read_tsc();
        let posted = match self.manager.post_message(sint2(vp), &message) {
            Ok(posted) => posted,
            Err(PostError::WouldBlock(_)) => {
                sent.refused += 1;
                return Ok(false);
            }
            Err(error) => bail!("Message {seq} for VP {vp} was refused: {error}"),
        };
        sent.queued += u64::from(posted == Posted::Queued);
        sent.posts.push(Post {
            tsc,
            direct: posted == Posted::Delivered,
        });
        sent.messages += 1;
        Ok(true)
    }

    fn send_flags(&self, account: &Account, sent: &mut Sent) -> Result<bool> {
        let first = sent.flags;
        let limit = self
            .plan
            .flags
            .min(account.flags_seen.saturating_add(FLAG_WINDOW));
        // A few at a time, so that messages and flags mix.
        for _ in first..limit.min(first + 8) {
            let (vp, seq) = (self.script.flag)(self.vp, sent.flags);
            let flag = u16::try_from(seq % FLAGS).ok().and_then(EventFlag::new);
            let flag = flag.context("Not an event flag")?;
            let newly = self.manager.signal_event(sint2(vp), flag);
            let newly = newly.with_context(|| format!("{flag} for VP {vp} was refused"))?;
            sent.fresh_flags += u64::from(newly);
            sent.flags += 1;
        }
        Ok(sent.flags != first)
    }
}

fn sint2(vp: u32) -> SintAddr {
    SintAddr::new(VpIndex::new(vp), SintIndex::VMBUS)
}
