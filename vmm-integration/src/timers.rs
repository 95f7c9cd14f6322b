// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! One host timer for each VP, for its synthetic timers: set to a reference time by any thread,
//! and answered by a thread of its own.

use std::fmt;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, Result};
use vm_synic::VpIndex;
use vmm_sys_util::epoll::{ControlOperation, Epoll, EpollEvent, EventSet};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};
use vmm_sys_util::timerfd::TimerFd;

/// The timers of a VM's VPs, until this is dropped.
pub struct VpTimers {
    timers: Arc<[Mutex<TimerFd>]>,
    now: Box<dyn Fn() -> u64 + Send + Sync>,
    exit: EventFd,
    thread: Option<JoinHandle<()>>,
}

impl VpTimers {
    /// Timers for the VPs 0 to `vcpus - 1`, by a clock of 100 ns units. `due` is called on the
    /// thread of the timers; a deadline that the clock has not quite reached is none yet, so `due`
    /// must be ready to have been called too early, and set it again.
    pub fn new(
        vcpus: u32,
        now: impl Fn() -> u64 + Send + Sync + 'static,
        due: impl Fn(VpIndex) + Send + 'static,
    ) -> Result<Self> {
        let timers = (0..vcpus).map(|_| TimerFd::new().map(Mutex::new));
        let timers: Arc<[_]> = timers
            .collect::<Result<_, _>>()
            .context("Cannot create the timers of the VPs")?;
        let exit = EventFd::new(EFD_NONBLOCK).context("Cannot create the timers' exit event")?;
        let epoll = Epoll::new().context("Cannot create the timers' epoll instance")?;
        watch(&epoll, exit.as_raw_fd(), EXIT)?;
        for (vp, timer) in (0..).zip(timers.iter()) {
            watch(&epoll, lock(timer).as_raw_fd(), vp)?;
        }
        // The descriptors must outlive the thread that waits for them.
        let kept = (timers.clone(), exit.try_clone()?);
        let run = move || {
            serve(&epoll, &due);
            drop(kept);
        };
        let thread = thread::Builder::new().name("timers".into()).spawn(run);
        Ok(Self {
            timers,
            now: Box::new(now),
            exit,
            thread: Some(thread.context("Cannot start the thread of the timers")?),
        })
    }

    /// Sets the timer of a VP to a reference time, or stops it. Any thread.
    pub fn set(&self, vp: VpIndex, deadline: Option<u64>) -> Result<()> {
        let timer = usize::try_from(vp.get()).ok();
        let timer = timer.and_then(|vp| self.timers.get(vp));
        let mut timer = lock(timer.with_context(|| format!("{vp} has no timer"))?);
        let set = match deadline {
            Some(deadline) => timer.reset(delay(deadline, (self.now)()), None),
            None => timer.clear(),
        };
        set.with_context(|| format!("Cannot set the timer of {vp}"))
    }
}

impl Drop for VpTimers {
    fn drop(&mut self) {
        if self.exit.write(1).is_err() {
            // The thread cannot be told, so it is left alone.
            return;
        }
        if let Some(thread) = self.thread.take() {
            // `due` may have had the last handle of whoever owns this; then the thread ends next.
            if thread.thread().id() != thread::current().id() {
                // A panic has been reported by the thread itself.
                let _ = thread.join();
            }
        }
    }
}

impl fmt::Debug for VpTimers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VpTimers").finish_non_exhaustive()
    }
}

fn serve(epoll: &Epoll, due: &impl Fn(VpIndex)) {
    let mut events = [EpollEvent::default(); 16];
    loop {
        let count = match epoll.wait(-1, &mut events) {
            Ok(count) => count,
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(e) => {
                log::error!("The timers of the VPs have stopped: {e}");
                return;
            }
        };
        for event in events.iter().take(count) {
            match u32::try_from(event.data()) {
                Ok(vp) => due(VpIndex::new(vp)),
                Err(_) => return,
            }
        }
    }
}

/// Edge-triggered: each expiry is told once, and nobody has to read the timer, who might find that
/// it has been set anew and wait for it.
fn watch(epoll: &Epoll, fd: RawFd, data: u64) -> Result<()> {
    let event = EpollEvent::new(EventSet::IN | EventSet::EDGE_TRIGGERED, data);
    epoll
        .ctl(ControlOperation::Add, fd, event)
        .context("Cannot watch a timer of a VP")
}

/// Not 0, which would stop the timer.
fn delay(deadline: u64, now: u64) -> Duration {
    let units = deadline.saturating_sub(now);
    Duration::from_nanos(units.saturating_mul(NANOS_PER_UNIT).clamp(1, LONGEST))
}

fn lock(timer: &Mutex<TimerFd>) -> MutexGuard<'_, TimerFd> {
    // The critical sections cannot panic.
    timer.lock().unwrap_or_else(PoisonError::into_inner)
}

const NANOS_PER_UNIT: u64 = 100;
/// A hundred years; after that, `due` sets it again.
const LONGEST: u64 = 100 * 365 * 86_400 * 1_000_000_000;
/// Not a VP index.
const EXIT: u64 = u64::MAX;

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::{self, Receiver};

    /// Timers of two VPs by a clock that stands still at 1000, and what becomes due.
    fn timers() -> (VpTimers, Receiver<VpIndex>) {
        let (sender, due) = mpsc::channel();
        let timers = VpTimers::new(2, || 1000, move |vp| sender.send(vp).unwrap()).unwrap();
        (timers, due)
    }

    #[test]
    fn set_to_a_time_that_is_over_is_due_at_once() {
        let (timers, due) = timers();
        for deadline in [0, 999, 1000] {
            timers.set(VpIndex::new(1), Some(deadline)).unwrap();
            assert_eq!(due.recv(), Ok(VpIndex::new(1)));
        }
    }

    #[test]
    fn set_anew_before_it_was_due_forgets_the_old_deadline() {
        let (timers, due) = timers();
        timers.set(VpIndex::new(0), Some(u64::MAX)).unwrap();
        timers.set(VpIndex::new(0), Some(1001)).unwrap();
        assert_eq!(due.recv(), Ok(VpIndex::new(0)));
        timers.set(VpIndex::new(0), Some(u64::MAX)).unwrap();
        timers.set(VpIndex::new(0), None).unwrap();
        assert!(!lock(&timers.timers[0]).is_armed().unwrap());
    }

    #[test]
    fn set_when_there_is_no_such_vp_fails() {
        let (timers, _due) = timers();
        let error = timers.set(VpIndex::new(2), None).unwrap_err();
        assert_eq!(error.to_string(), "VP 2 has no timer");
    }

    #[test]
    fn drop_ends_the_thread() {
        let (timers, due) = timers();
        timers.set(VpIndex::new(0), Some(u64::MAX)).unwrap();
        drop(timers);
        assert!(due.recv().is_err(), "`due` is gone");
    }

    #[test]
    fn drop_on_its_own_thread_does_not_wait_for_itself() {
        let owner: Arc<Mutex<Option<VpTimers>>> = Arc::default();
        let (sender, done) = mpsc::channel();
        let held = owner.clone();
        let timers = VpTimers::new(
            1,
            || 0,
            move |_| {
                drop(held.lock().unwrap().take());
                sender.send(()).unwrap();
            },
        );
        let mut place = owner.lock().unwrap();
        let timers = place.insert(timers.unwrap());
        timers.set(VpIndex::new(0), Some(0)).unwrap();
        drop(place);
        assert!(done.recv().is_ok());
        assert!(done.recv().is_err(), "the thread goes on");
    }

    #[test]
    fn delay_of_any_deadline_is_neither_0_nor_too_long() {
        assert_eq!(delay(5, 4), Duration::from_nanos(100));
        assert_eq!(delay(4, 5), Duration::from_nanos(1));
        assert_eq!(delay(u64::MAX, 0), Duration::from_nanos(LONGEST));
    }
}
