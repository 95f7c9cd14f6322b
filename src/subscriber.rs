// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! [`SynicEvents`] as a subscriber of the `event-manager` crate.
//!
//! Events are told apart by their data, never by fd: an fd's number may be another's by the time
//! its event is handled. Faults are kept ([`SynicEvents::take_faults`]), because event-manager has
//! nobody to give them to.

use crate::error::Error;
use crate::events::{Changes, SynicEvents, Token};
use event_manager::{EventOps, EventSet, Events, MutEventSubscriber};
use std::io;
use std::os::fd::{AsRawFd, RawFd};

impl MutEventSubscriber for SynicEvents {
    fn process(&mut self, events: Events, ops: &mut EventOps) {
        let token = Token::from_raw(events.data());
        let broken = events.event_set() & (EventSet::ERROR | EventSet::HANG_UP);
        let changes = if broken.is_empty() {
            self.service(token)
        } else {
            self.fail(token, io::ErrorKind::BrokenPipe.into())
        };
        self.apply(changes, ops);
    }

    fn init(&mut self, ops: &mut EventOps) {
        let added = self.watched().collect();
        self.apply(
            Changes {
                added,
                removed: Vec::new(),
            },
            ops,
        );
    }
}

impl SynicEvents {
    fn apply(&mut self, changes: Changes, ops: &mut EventOps) {
        for unwatched in changes.removed {
            let events = events(&unwatched, unwatched.token());
            if let Err(error) = ops.remove(events) {
                self.report(fault("stop watching an eventfd", error));
            }
            // Only now is the fd closed.
            drop(unwatched);
        }
        for (fd, token) in changes.added {
            if let Err(error) = ops.add(events(&Fd(fd), token)) {
                self.report(fault("watch an eventfd", error));
            }
        }
    }
}

/// A number, where event-manager wants something that has one.
struct Fd(RawFd);

impl AsRawFd for Fd {
    fn as_raw_fd(&self) -> RawFd {
        self.0
    }
}

fn events(fd: &impl AsRawFd, token: Token) -> Events {
    Events::with_data(fd, token.get(), EventSet::IN)
}

fn fault(action: &'static str, error: event_manager::Error) -> Error {
    Error::Event {
        action,
        source: io::Error::other(error),
    }
}
