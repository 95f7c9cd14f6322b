// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! The manager's eventfds in an epoll loop of the VMM's own, without `event-manager`.

use std::os::fd::{AsRawFd, RawFd};
use std::sync::mpsc;
use vm_synic::test_utils::MockVm;
use vm_synic::{Changes, Config, SynicEvents, Token};
use vmm_sys_util::epoll::{ControlOperation, Epoll, EpollEvent, EventSet};

/// Such a loop, as a VMM writes it.
struct Loop {
    epoll: Epoll,
    events: SynicEvents,
}

impl Loop {
    fn new(events: SynicEvents) -> Self {
        let epoll = Epoll::new().unwrap();
        let this = Self { epoll, events };
        for (fd, token) in this.events.watched() {
            this.add(fd, token);
        }
        this
    }

    fn add(&self, fd: RawFd, token: Token) {
        let event = EpollEvent::new(EventSet::IN, token.get().into());
        self.epoll.ctl(ControlOperation::Add, fd, event).unwrap();
    }

    fn apply(&self, changes: Changes) {
        for unwatched in changes.removed {
            let (fd, event) = (unwatched.as_raw_fd(), EpollEvent::default());
            self.epoll.ctl(ControlOperation::Delete, fd, event).unwrap();
        }
        for (fd, token) in changes.added {
            self.add(fd, token);
        }
    }

    /// Waits for a batch and serves it, in reverse if asked; says how many events it had.
    fn turn(&mut self, timeout: i32, reverse: bool) -> usize {
        let mut ready = [EpollEvent::default(); 16];
        let count = self.epoll.wait(timeout, &mut ready).unwrap();
        let batch = &mut ready[..count];
        if reverse {
            batch.reverse();
        }
        for event in batch {
            let token = Token::from_raw(u32::try_from(event.data()).unwrap());
            let changes = self.events.service(token);
            self.apply(changes);
        }
        count
    }

    fn run(&mut self) {
        while self.turn(0, false) > 0 {}
    }
}

fn watch(vm: &MockVm) -> (vm_synic::Watch, mpsc::Receiver<u64>) {
    let (sender, receiver) = mpsc::channel();
    let watch = vm.manager.watch(move |count| sender.send(count).unwrap());
    (watch.unwrap(), receiver)
}

#[test]
fn loop_of_the_vmms_own_serves_watches_from_before_and_after_it_began() {
    let vm = MockVm::new(Config::new(1), 1);
    let (before, before_counts) = watch(&vm);
    let mut vmm = Loop::new(vm.manager.events().unwrap());
    vmm.run();
    let (after, after_counts) = watch(&vm);
    vmm.run();

    before.fd().write(1).unwrap();
    after.fd().write(2).unwrap();
    vmm.run();

    assert_eq!(before_counts.try_iter().collect::<Vec<_>>(), [1]);
    assert_eq!(after_counts.try_iter().collect::<Vec<_>>(), [2]);
}

#[test]
fn loop_that_began_late_finds_what_was_signalled_before() {
    let vm = MockVm::new(Config::new(1), 1);
    let (early, counts) = watch(&vm);
    early.fd().write(9).unwrap();
    let mut vmm = Loop::new(vm.manager.events().unwrap());
    vmm.run();
    assert_eq!(counts.try_iter().collect::<Vec<_>>(), [9]);
}

#[test]
fn stale_event_of_a_batch_is_ignored_after_its_watch_was_replaced() {
    let vm = MockVm::new(Config::new(1), 1);
    let mut vmm = Loop::new(vm.manager.events().unwrap());
    let (old, old_counts) = watch(&vm);
    vmm.run();
    let duplicate = old.fd().try_clone().unwrap();
    // A batch of two: the old one's event, and word that another takes its place. Nothing tells
    // epoll's copy of the first that it is stale.
    duplicate.write(1).unwrap();
    drop(old);
    let (new, counts) = watch(&vm);
    new.fd().write(1).unwrap();

    assert_eq!(vmm.turn(0, true), 2);

    assert_eq!(old_counts.try_iter().count(), 0);
    assert_eq!(counts.try_iter().count(), 0, "its own event is yet to come");
    vmm.run();
    assert_eq!(counts.try_iter().collect::<Vec<_>>(), [1]);
}

#[test]
fn token_of_nobody_changes_nothing() {
    let vm = MockVm::new(Config::new(1), 1);
    let mut events = vm.manager.events().unwrap();
    for raw in [1, 0xFF, 0x100, 0x1_0000, u32::MAX] {
        let Changes { added, removed } = events.service(Token::from_raw(raw));
        assert!(added.is_empty() && removed.is_empty(), "{raw:#x}");
    }
    assert!(events.take_faults().is_empty());
}

#[test]
fn loop_on_another_thread_serves_until_the_watch_is_dropped() {
    const SIGNALS: u64 = 1000;
    let vm = MockVm::new(Config::new(1), 1);
    let mut vmm = Loop::new(vm.manager.events().unwrap());
    let (watch, counts) = watch(&vm);
    let server = std::thread::spawn(move || {
        while vmm.events.watched().count() < 2 {
            vmm.turn(-1, false);
        }
        while vmm.events.watched().count() == 2 {
            vmm.turn(-1, false);
        }
        vmm.events.take_faults().len()
    });

    for _ in 0..SIGNALS {
        watch.fd().write(1).unwrap();
    }
    let mut served = 0;
    while served < SIGNALS {
        served += counts.recv().unwrap();
    }
    drop(watch);

    assert_eq!(server.join().unwrap(), 0);
    assert_eq!(served, SIGNALS);
    assert!(counts.recv().is_err(), "the sink is gone with its watch");
}
