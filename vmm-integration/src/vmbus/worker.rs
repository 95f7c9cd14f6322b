// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! The bus's thread: sleeps until a guest signals a channel, makes room for messages, or a
//! heartbeat is due.

use std::io;
use std::os::fd::AsRawFd;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context, Result};
use vmm_sys_util::epoll::{ControlOperation, Epoll, EpollEvent, EventSet};
use vmm_sys_util::eventfd::EventFd;
use vmm_sys_util::timerfd::TimerFd;

use super::connection::Connection;
use super::lock;

/// What the thread has.
pub struct Worker {
    connection: Arc<Mutex<Connection>>,
    epoll: Arc<Epoll>,
    bell: Arc<EventFd>,
    heartbeat: Option<TimerFd>,
}

impl Worker {
    /// A thread's worth of work, without a heartbeat.
    pub fn new(connection: Arc<Mutex<Connection>>, epoll: Arc<Epoll>, bell: Arc<EventFd>) -> Self {
        Self {
            connection,
            epoll,
            bell,
            heartbeat: None,
        }
    }

    /// The same, with a heartbeat of this period.
    pub fn with_heartbeat(self, period: Duration) -> Result<Self> {
        let mut timer = TimerFd::new().context("Cannot make a timerfd")?;
        let armed = timer.reset(period, Some(period));
        armed.context("Cannot arm the timerfd of the heartbeat")?;
        let event = EpollEvent::new(EventSet::IN, HEARTBEAT);
        let fd = timer.as_raw_fd();
        self.epoll
            .ctl(ControlOperation::Add, fd, event)
            .context("Cannot watch the timerfd of the heartbeat")?;
        Ok(Self {
            heartbeat: Some(timer),
            ..self
        })
    }

    /// Works until told to stop.
    pub fn run(mut self) {
        loop {
            match self.turn(FOREVER) {
                Ok(true) => {}
                Ok(false) => return,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    log::error!("VMBus stops: cannot wait for events: {error}");
                    return;
                }
            }
        }
    }

    /// Waits and does what there is to do. False: told to stop.
    pub fn turn(&mut self, timeout: i32) -> io::Result<bool> {
        let mut events = [EpollEvent::default(); 16];
        let count = self.epoll.wait(timeout, &mut events)?;
        for event in events.iter().take(count) {
            match event.data() {
                STOP => return Ok(false),
                BELL => {
                    // Read before the flush: what is rung later is heard later.
                    let _ = self.bell.read();
                    lock(&self.connection).writable();
                }
                HEARTBEAT => {
                    if let Some(Ok(_)) = self.heartbeat.as_mut().map(TimerFd::wait) {
                        lock(&self.connection).tick();
                    }
                }
                relid => {
                    if let Ok(relid) = u32::try_from(relid) {
                        lock(&self.connection).signalled(relid);
                    }
                }
            }
        }
        Ok(true)
    }
}

/// Tokens that are no relid.
pub const BELL: u64 = u64::MAX;
pub const STOP: u64 = u64::MAX - 1;
const HEARTBEAT: u64 = u64::MAX - 2;
const FOREVER: i32 = -1;
