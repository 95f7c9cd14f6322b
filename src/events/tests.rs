// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! What a loop sees of watches that come and go.

use super::*;
use std::sync::mpsc;

fn half() -> (Arc<WatchList>, SynicEvents) {
    let list = Arc::new(WatchList::default());
    let events = SynicEvents::new(&list).unwrap();
    (list, events)
}

/// A watch whose counts are sent to the receiver.
fn watch(list: &Arc<WatchList>) -> (Watch, mpsc::Receiver<u64>) {
    let (sender, receiver) = mpsc::channel();
    let sink = Box::new(move |count| sender.send(count).unwrap_or_default());
    (list.watch(sink).unwrap(), receiver)
}

#[test]
fn watch_before_the_loop_came_is_heard_by_its_first_word() {
    let list = Arc::new(WatchList::default());
    let (watch, counts) = watch(&list);
    let mut events = SynicEvents::new(&list).unwrap();

    let added = events.service(Token::WORD).added;
    watch.fd().write(3).unwrap();
    let [(fd, token)] = added[..] else {
        panic!("{added:?}")
    };
    assert!(events.service(token).added.is_empty());

    assert_eq!(fd, watch.fd().as_raw_fd());
    assert_eq!(counts.try_recv(), Ok(3));
}

#[test]
fn drop_of_a_watch_hands_the_open_fd_to_the_loop_first() {
    let (list, mut events) = half();
    let (watch, _counts) = watch(&list);
    let added = events.service(Token::WORD).added;
    let fd = watch.fd().as_raw_fd();

    drop(watch);
    let removed = events.service(Token::WORD).removed;

    assert_eq!(removed.len(), 1);
    assert_eq!((removed[0].as_raw_fd(), removed[0].token()), added[0]);
    assert_eq!(removed[0].as_raw_fd(), fd);
    removed[0].fd.write(1).expect("the fd is still open");
}

#[test]
fn stale_token_after_its_slot_was_reused_is_ignored() {
    let (list, mut events) = half();
    let (first, _) = watch(&list);
    let stale = events.service(Token::WORD).added[0].1;
    drop(first);
    drop(events.service(Token::WORD));
    let (second, counts) = watch(&list);
    drop(events.service(Token::WORD));

    second.fd().write(1).unwrap();
    drop(events.service(stale));

    assert_eq!(counts.try_recv(), Err(mpsc::TryRecvError::Empty));
}

#[test]
fn service_of_an_fd_that_was_not_signalled_does_not_block() {
    let (list, mut events) = half();
    let (_watch, counts) = watch(&list);
    let token = events.service(Token::WORD).added[0].1;
    drop(events.service(token));
    assert_eq!(counts.try_recv(), Err(mpsc::TryRecvError::Empty));
}

#[test]
fn watch_dropped_before_the_loop_heard_of_it_is_never_added() {
    let (list, mut events) = half();
    drop(watch(&list).0);
    let changes = events.service(Token::WORD);
    assert!(changes.added.is_empty() && changes.removed.is_empty());
}

#[test]
fn second_loop_is_refused_until_the_first_is_gone() {
    let (list, events) = half();
    assert!(matches!(SynicEvents::new(&list), Err(Error::EventsTaken)));
    drop(events);
    assert!(SynicEvents::new(&list).is_ok());
}

#[test]
fn fail_gives_the_fd_up_and_keeps_the_fault() {
    let (list, mut events) = half();
    let (_watch, _counts) = watch(&list);
    let token = events.service(Token::WORD).added[0].1;

    let changes = events.fail(token, io::ErrorKind::BrokenPipe.into());

    assert_eq!(changes.removed.len(), 1);
    assert_eq!(events.watched().count(), 1, "only the bell is left");
    assert!(matches!(events.take_faults()[..], [Error::Event { .. }]));
}
