// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! Messages on their way to the guest.

use std::collections::VecDeque;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use vm_synic::{Message, PostError, SintAddr, SintIndex, VpIndex};

use super::protocol::HostMessage;
use super::report::MessageReport;
use crate::vm::Manager;

/// Posts messages in their order; keeps those that the SynIC has no room for.
pub struct Outbox {
    manager: Arc<Manager>,
    target: SintAddr,
    waiting: VecDeque<Message>,
}

/// Those in a saved state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SavedOutbox {
    target_vp: VpIndex,
    waiting: VecDeque<Message>,
}

impl Outbox {
    /// For a guest that has not said yet where it listens.
    pub fn new(manager: Arc<Manager>) -> Self {
        Self {
            manager,
            target: SintAddr::new(VpIndex::default(), SintIndex::VMBUS),
            waiting: VecDeque::new(),
        }
    }

    /// Another kernel listens, on this VP: what waits is not for it.
    pub fn restart(&mut self, vp: VpIndex, report: &mut MessageReport) {
        self.clear(report);
        self.target = SintAddr::new(vp, SintIndex::VMBUS);
    }

    /// As it is, for a saved state.
    pub fn save(&self) -> SavedOutbox {
        SavedOutbox {
            target_vp: self.target.vp,
            waiting: self.waiting.clone(),
        }
    }

    /// As it was.
    pub fn restore(&mut self, saved: &SavedOutbox) {
        self.target = SintAddr::new(saved.target_vp, SintIndex::VMBUS);
        self.waiting = saved.waiting.clone();
    }

    /// Drops what waits.
    pub fn clear(&mut self, report: &mut MessageReport) {
        report.dropped += self.waiting.len() as u64;
        self.waiting.clear();
    }

    /// Whether so much waits that the guest should take some before it asks for more.
    pub fn is_full(&self) -> bool {
        self.waiting.len() >= DEPTH
    }

    /// Sends a message, after those that wait.
    pub fn send(&mut self, message: HostMessage, report: &mut MessageReport) {
        match message.encode() {
            Ok(message) => {
                let before = self.waiting.len();
                self.waiting.push_back(message);
                self.flush(report);
                report.waited += u64::from(self.waiting.len() > before);
            }
            Err(error) => log::error!("Cannot encode {message:?}: {error}"),
        }
    }

    /// Sends what waits, as far as there is room. To be called when the SINT is writable.
    pub fn flush(&mut self, report: &mut MessageReport) {
        while let Some(message) = self.waiting.front() {
            match self.manager.post_message(self.target, message) {
                Ok(_) => report.sent += 1,
                Err(PostError::WouldBlock(_)) => return,
                // The guest does not listen, or named a VP that there is not.
                Err(_) => report.refused += 1,
            }
            self.waiting.pop_front();
        }
    }
}

/// Each message of the guest is answered by a few at most, so no more than some wait beyond this.
const DEPTH: usize = 64;
