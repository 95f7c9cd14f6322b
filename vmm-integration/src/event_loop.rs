// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! The VMM's event loop, for a VM whose user has none of its own: what the kernel tells by eventfd
//! reaches the manager here.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

use anyhow::{Context, Result, anyhow};
use event_manager::{EventManager, SubscriberOps};
use vm_synic::{SynicEvents, Watch};

use crate::vm::Manager;

/// A thread that serves a manager's events until this is dropped.
pub struct EventLoop {
    exit: Watch,
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl EventLoop {
    /// Starts the thread.
    pub fn start(manager: &Manager, events: SynicEvents) -> Result<Self> {
        let over = Arc::new(AtomicBool::new(false));
        let seen = over.clone();
        // The loop looks at `over` after each event; this one has it look.
        let exit = manager.watch(|_| ())?;
        let thread = thread::Builder::new()
            .name("events".into())
            .spawn(move || {
                if let Err(e) = run(events, &seen) {
                    log::error!("{e:#}");
                }
            })
            .context("Cannot start the thread of the event loop")?;
        Ok(Self {
            exit,
            over,
            thread: Some(thread),
        })
    }
}

impl Drop for EventLoop {
    fn drop(&mut self) {
        self.over.store(true, Ordering::SeqCst);
        if self.exit.fd().write(1).is_err() {
            // The thread cannot be told, so it is left alone.
            return;
        }
        if let Some(thread) = self.thread.take() {
            // A panic has been reported by the thread itself.
            let _ = thread.join();
        }
    }
}

impl fmt::Debug for EventLoop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EventLoop").finish_non_exhaustive()
    }
}

fn run(events: SynicEvents, over: &AtomicBool) -> Result<()> {
    let mut manager = EventManager::new().map_err(|e| anyhow!("No event loop: {e:?}"))?;
    let subscriber = manager.add_subscriber(events);
    while !over.load(Ordering::SeqCst) {
        let ready = manager.run();
        ready.map_err(|e| anyhow!("The event loop failed: {e:?}"))?;
    }
    let events = manager.remove_subscriber(subscriber);
    let mut events = events.map_err(|e| anyhow!("The event loop lost its subscriber: {e:?}"))?;
    match events.take_faults().into_iter().next() {
        Some(fault) => Err(fault.into()),
        None => Ok(()),
    }
}
