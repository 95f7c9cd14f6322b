// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! Other subscribers of an `event-manager` loop can do harm; the manager's keeps account of it.

use event_manager::{EventManager, EventOps, EventSet, Events, MutEventSubscriber, SubscriberOps};
use std::error::Error as _;
use std::os::fd::AsRawFd;
use std::sync::{Arc, Mutex, mpsc};
use vm_synic::test_utils::MockVm;
use vm_synic::{Config, Error, SynicEvents, Watch};
use vmm_sys_util::eventfd::EventFd;

/// The container that Firecracker and vmm-reference use.
type Dyn = Arc<Mutex<dyn MutEventSubscriber + Send>>;

/// A watch whose counts are sent to the receiver.
fn watch(vm: &MockVm) -> (Watch, mpsc::Receiver<u64>) {
    let (sender, receiver) = mpsc::channel();
    let watch = vm.manager.watch(move |count| sender.send(count).unwrap());
    (watch.unwrap(), receiver)
}

/// A subscriber that meddles with somebody else's fd, as event-manager lets it.
struct Meddler {
    own: EventFd,
    other: i32,
    takes: bool,
}

impl MutEventSubscriber for Meddler {
    fn init(&mut self, ops: &mut EventOps) {
        ops.add(Events::new(&self.own, EventSet::IN)).unwrap();
        if self.takes {
            ops.add(Events::new_raw(self.other, EventSet::IN)).unwrap();
        }
    }

    fn process(&mut self, _events: Events, ops: &mut EventOps) {
        self.own.read().unwrap();
        ops.remove(Events::new_raw(self.other, EventSet::IN))
            .unwrap();
    }
}

/// A loop with the manager's events, a watch, and a meddler with its fd.
fn with_meddler(takes: bool) -> (EventManager<Dyn>, Arc<Mutex<SynicEvents>>, Watch, MockVm) {
    let vm = MockVm::new(Config::new(1), 1);
    let mut events = EventManager::<Dyn>::new().unwrap();
    let (watch, _) = watch(&vm);
    let own = EventFd::new(0).unwrap();
    let trigger = own.try_clone().unwrap();
    let meddler = Meddler {
        own,
        other: watch.fd().as_raw_fd(),
        takes,
    };
    let synic = Arc::new(Mutex::new(vm.manager.events().unwrap()));
    let as_dyn: [Dyn; 2] = [Arc::new(Mutex::new(meddler)), synic.clone()];
    for subscriber in as_dyn {
        events.add_subscriber(subscriber);
    }
    events.run_with_timeout(0).unwrap();
    if !takes {
        trigger.write(1).unwrap();
        events.run_with_timeout(0).unwrap();
    }
    (events, synic, watch, vm)
}

#[test]
fn fault_while_adding_an_fd_is_kept_for_whoever_asks() {
    let (_events, synic, _watch, _vm) = with_meddler(true);

    let faults = synic.lock().unwrap().take_faults();

    let [Error::Event { action, .. }] = &faults[..] else {
        panic!("{faults:?}")
    };
    assert_eq!(*action, "watch an eventfd");
    assert!(faults[0].source().is_some(), "says why");
    assert!(synic.lock().unwrap().take_faults().is_empty(), "told once");
}

#[test]
fn fault_while_removing_an_fd_is_kept_and_the_loop_goes_on() {
    let (mut events, synic, old, vm) = with_meddler(false);
    drop(old);
    events.run_with_timeout(0).unwrap();

    let faults = synic.lock().unwrap().take_faults();
    let [Error::Event { action, .. }] = &faults[..] else {
        panic!("{faults:?}")
    };
    assert_eq!(*action, "stop watching an eventfd");

    let (next, counts) = watch(&vm);
    events.run_with_timeout(0).unwrap();
    next.fd().write(1).unwrap();
    events.run_with_timeout(0).unwrap();
    assert_eq!(counts.try_recv(), Ok(1));
}
