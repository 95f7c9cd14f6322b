// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! The manager's eventfds in a loop of the `event-manager` crate, and what is known to go wrong
//! there.

use event_manager::{EventManager, MutEventSubscriber, SubscriberId, SubscriberOps};
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread;
use vm_synic::test_utils::MockVm;
use vm_synic::{Config, DoorbellSink, DoorbellSpec, Error, SynicEvents, Watch};

/// One test at a time, so that the number of a closed fd is the next one to be given out.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

type Loop = EventManager<SynicEvents>;

struct Vmm {
    vm: MockVm,
    events: Loop,
    id: SubscriberId,
    _alone: MutexGuard<'static, ()>,
}

impl Vmm {
    fn new() -> Self {
        let alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
        let vm = MockVm::new(Config::new(1), 1);
        let mut events = Loop::new().unwrap();
        let id = events.add_subscriber(vm.manager.events().unwrap());
        let mut vmm = Self {
            vm,
            events,
            id,
            _alone: alone,
        };
        vmm.run();
        vmm
    }

    /// A watch that the loop knows of; its counts are sent to the receiver.
    fn watch(&mut self) -> (Watch, mpsc::Receiver<u64>) {
        let watched = watch(&self.vm);
        self.run();
        watched
    }

    /// Handles what is ready, until nothing is.
    fn run(&mut self) {
        for _ in 0..ROUNDS {
            if self.events.run_with_timeout(0).unwrap() == 0 {
                return;
            }
        }
        panic!("an fd is ready for ever");
    }

    fn faults(&mut self) -> Vec<Error> {
        let synic = self.events.subscriber_mut(self.id).unwrap();
        synic.take_faults()
    }
}

const NONE: [u64; 0] = [];
/// More rounds than any test here has things to do.
const ROUNDS: usize = 100;

fn watch(vm: &MockVm) -> (Watch, mpsc::Receiver<u64>) {
    let (sender, receiver) = mpsc::channel();
    let watch = vm.manager.watch(move |count| sender.send(count).unwrap());
    (watch.unwrap(), receiver)
}

fn received(counts: &mpsc::Receiver<u64>) -> Vec<u64> {
    counts.try_iter().collect()
}

#[test]
fn watch_when_signalled_is_served_once_with_its_count() {
    let mut vmm = Vmm::new();
    let (watch, counts) = vmm.watch();
    watch.fd().write(2).unwrap();
    watch.fd().write(3).unwrap();

    let handled = vmm.events.run_with_timeout(0).unwrap();

    assert_eq!(handled, 1);
    assert_eq!(received(&counts), [5]);
    let left = vmm.events.run_with_timeout(0).unwrap();
    assert_eq!(left, 0, "level-triggered: the fd must have been drained");
}

#[test]
fn fd_number_of_a_dropped_watch_when_it_comes_back_serves_the_new_watch() {
    let mut vmm = Vmm::new();
    let (old, old_counts) = vmm.watch();
    let number = old.fd().as_raw_fd();
    drop(old);
    vmm.run();

    let (new, counts) = vmm.watch();
    assert_eq!(new.fd().as_raw_fd(), number, "the premise of this test");
    new.fd().write(1).unwrap();
    vmm.run();

    assert_eq!(received(&counts), [1]);
    assert_eq!(received(&old_counts), NONE);
    assert!(vmm.faults().is_empty(), "FdAlreadyRegistered");
}

#[test]
fn duplicate_of_a_dropped_watch_when_signalled_does_not_reach_the_loop() {
    let mut vmm = Vmm::new();
    let (watch, counts) = vmm.watch();
    let duplicate = watch.fd().try_clone().unwrap();
    drop(watch);
    vmm.run();

    duplicate.write(1).unwrap();

    assert_eq!(vmm.events.run_with_timeout(0).unwrap(), 0);
    assert_eq!(received(&counts), NONE);
}

#[test]
fn duplicate_that_is_signalled_in_the_batch_that_removes_it_does_no_harm() {
    let mut vmm = Vmm::new();
    let (watch, counts) = vmm.watch();
    let duplicate = watch.fd().try_clone().unwrap();
    // The bell rings first, and so the removal comes first in the batch.
    drop(watch);
    duplicate.write(1).unwrap();

    vmm.run();

    assert_eq!(received(&counts), NONE);
    assert!(vmm.faults().is_empty());
}

#[test]
fn event_of_a_removed_watch_is_not_taken_for_its_successors() {
    let mut vmm = Vmm::new();
    let (old, old_counts) = vmm.watch();
    let duplicate = old.fd().try_clone().unwrap();
    // One batch: word that the old one goes and a new one takes its slot, then the old one's event.
    drop(old);
    let (new, counts) = watch(&vmm.vm);
    duplicate.write(7).unwrap();
    vmm.run();
    assert_eq!(received(&counts), NONE);
    assert_eq!(received(&old_counts), NONE);

    new.fd().write(1).unwrap();
    vmm.run();
    assert_eq!(received(&counts), [1]);
}

#[test]
fn event_that_somebody_else_has_read_does_not_block_the_loop() {
    let mut vmm = Vmm::new();
    let (victim, counts) = vmm.watch();
    // Signalled before the victim, so served before it in the same batch.
    let stolen = victim.fd().try_clone().unwrap();
    let thief = vmm
        .vm
        .manager
        .watch(move |_| assert!(stolen.read().is_ok()));
    let thief = thief.unwrap();
    vmm.run();
    thief.fd().write(1).unwrap();
    victim.fd().write(1).unwrap();

    vmm.run();

    assert_eq!(received(&counts), NONE);
    assert!(vmm.faults().is_empty(), "an empty eventfd is no fault");
}

#[test]
fn subscriber_that_was_removed_serves_again_in_its_second_life() {
    let mut vmm = Vmm::new();
    let (before, before_counts) = vmm.watch();
    let synic = vmm.events.remove_subscriber(vmm.id).unwrap();
    before.fd().write(4).unwrap();
    let (between, between_counts) = watch(&vmm.vm);
    between.fd().write(5).unwrap();
    vmm.run();
    assert_eq!(received(&before_counts), NONE, "nobody serves it now");

    vmm.events = Loop::new().unwrap();
    vmm.id = vmm.events.add_subscriber(synic);
    vmm.run();

    assert_eq!(received(&before_counts), [4]);
    assert_eq!(received(&between_counts), [5]);
    assert!(vmm.faults().is_empty());
}

#[test]
fn watch_outlives_the_loop_and_moves_to_the_next_one() {
    let mut vmm = Vmm::new();
    let (kept, counts) = vmm.watch();
    let (dropped, dropped_counts) = vmm.watch();
    let duplicate = dropped.fd().try_clone().unwrap();
    drop(dropped);
    drop(vmm.events.remove_subscriber(vmm.id).unwrap());
    kept.fd().write(1).unwrap();
    duplicate.write(1).unwrap();

    vmm.id = vmm.events.add_subscriber(vmm.vm.manager.events().unwrap());
    vmm.run();

    assert_eq!(received(&counts), [1]);
    assert_eq!(received(&dropped_counts), NONE);
}

/// The container that Firecracker and vmm-reference use.
type Dyn = Arc<Mutex<dyn MutEventSubscriber + Send>>;

#[test]
fn subscriber_in_a_locked_trait_object_serves_sinks_that_call_the_manager() {
    let vmm = Vmm::new();
    let mut events = EventManager::<Dyn>::new().unwrap();
    let manager = vmm.vm.manager.clone();
    let made = Arc::new(Mutex::new(Vec::new()));
    let (sender, counts) = mpsc::channel();
    let own = Arc::new(Mutex::new(None::<Watch>));
    let (keep, itself) = (made.clone(), own.clone());
    let watch = manager.clone().watch(move |count| {
        // A sink may make watches, and drop its own.
        let sender = sender.clone();
        let next = manager.watch(move |more| sender.send(count + more).unwrap());
        keep.lock().unwrap().push(next.unwrap());
        drop(itself.lock().unwrap().take());
    });
    let watch = watch.unwrap();
    let trigger = watch.fd().try_clone().unwrap();
    *own.lock().unwrap() = Some(watch);

    let Vmm {
        vm: _vm,
        events: mut old,
        id,
        _alone,
    } = vmm;
    let synic: Dyn = Arc::new(Mutex::new(old.remove_subscriber(id).unwrap()));
    events.add_subscriber(synic);
    let mut run = || while events.run_with_timeout(0).unwrap() > 0 {};
    run();
    trigger.write(1).unwrap();
    run();
    trigger.write(1).unwrap();
    made.lock().unwrap()[0].fd().write(10).unwrap();
    run();

    assert_eq!(
        made.lock().unwrap().len(),
        1,
        "the first sink was served once"
    );
    assert_eq!(received(&counts), [11]);
}

#[test]
fn doorbell_that_signals_a_watch_reaches_its_sink() {
    let mut vmm = Vmm::new();
    let (watch, counts) = vmm.watch();
    let fd = Arc::new(watch.fd().try_clone().unwrap());
    let spec = DoorbellSpec::at(0xFEE0_0000);
    let doorbell = vmm.vm.manager.add_doorbell(spec, DoorbellSink::Fd(fd));
    let doorbell = doorbell.unwrap();

    let rung = [(); 3].map(|()| vmm.vm.manager.mmio_write(0xFEE0_0000, &[1]));
    drop(doorbell);
    let after = vmm.vm.manager.mmio_write(0xFEE0_0000, &[1]);
    vmm.run();

    assert_eq!((rung, after), ([true; 3], false));
    assert_eq!(received(&counts), [3]);
}

#[test]
fn watches_made_signalled_and_dropped_by_other_threads_lose_no_signal() {
    const EACH: u64 = 200;
    let mut vmm = Vmm::new();
    let total = Arc::new(AtomicU64::new(0));
    let (finished, left) = mpsc::channel();
    let threads = [(); 2].map(|()| {
        let (manager, total, finished) = (vmm.vm.manager.clone(), total.clone(), finished.clone());
        thread::spawn(move || {
            for _ in 0..EACH {
                let (served, wait) = mpsc::channel();
                let total = total.clone();
                let watch = manager.watch(move |count| {
                    total.fetch_add(count, Ordering::SeqCst);
                    served.send(()).unwrap_or_default();
                });
                let watch = watch.unwrap();
                watch.fd().write(1).unwrap();
                wait.recv().unwrap();
            }
            finished.send(()).unwrap();
        })
    });

    for _ in 0..threads.len() {
        while left.try_recv().is_err() {
            vmm.events.run_with_timeout(1).unwrap();
        }
    }
    for thread in threads {
        thread.join().unwrap();
    }
    vmm.run();

    assert_eq!(total.load(Ordering::SeqCst), 2 * EACH);
    assert!(vmm.faults().is_empty());
    let synic = vmm.events.subscriber_mut(vmm.id).unwrap();
    assert_eq!(synic.watched().count(), 1, "only the bell is left");
}
