// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! The VMM's event loop, in which some of the guest's doorbells arrive.

use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Result, anyhow};
use event_manager::{EventManager, SubscriberOps};
use vm_synic::SynicEvents;

/// Runs the loop until `over` is set and nothing is left to hear.
///
/// # Errors
/// epoll failed, or an fd of the manager's.
pub fn run(events: SynicEvents, over: &AtomicBool) -> Result<()> {
    const MILLISECONDS: i32 = 20;
    let mut manager = EventManager::new().map_err(|e| anyhow!("No event loop: {e:?}"))?;
    let subscriber = manager.add_subscriber(events);
    loop {
        // Read before looking: what rang before the end is heard.
        let is_over = over.load(Ordering::SeqCst);
        let events = manager.run_with_timeout(MILLISECONDS);
        let events = events.map_err(|e| anyhow!("The event loop failed: {e:?}"))?;
        if is_over && events == 0 {
            break;
        }
    }
    let events = manager.remove_subscriber(subscriber);
    let mut events = events.map_err(|e| anyhow!("The event loop lost its subscriber: {e:?}"))?;
    match events.take_faults().into_iter().next() {
        Some(fault) => Err(fault.into()),
        None => Ok(()),
    }
}
