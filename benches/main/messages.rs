// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! Messages into the slot, and through the queue.

use crate::rig::{EOM, Page, Rig, Slot, VMBUS};
use crate::table::{Table, What};
use std::hint::black_box;
use vm_synic::{Message, MessageType};

pub fn rows(table: &mut Table) {
    let long = What::new("post 240 bytes, consume", 1);
    post(table, long.openvmm("57.5 (19.5)"), 240);
    post(table, What::new("post 16 bytes, consume", 1), 16);
    queued(table);
    pair(table);
}

fn post(table: &mut Table, what: What, len: usize) {
    let rig: Rig = Rig::new(1);
    let area = rig.area(VMBUS, Page::Messages);
    let slot = Slot::new(&area);
    let (message, bytes) = message(len);
    let ours = || {
        rig.manager
            .post_message(black_box(VMBUS), black_box(&message))
            .unwrap();
        assert!(!slot.consume());
    };
    let floor = || {
        slot.fill(black_box(&bytes));
        assert!(!slot.consume());
    };
    table.row(what, ours, floor);
}

/// The slot stays full: every message waits for the EOM of the one before it.
fn queued(table: &mut Table) {
    let rig: Rig = Rig::new(1);
    let area = rig.area(VMBUS, Page::Messages);
    let slot = Slot::new(&area);
    let (message, bytes) = message(240);
    let post = || {
        rig.manager
            .post_message(VMBUS, black_box(&message))
            .unwrap()
    };
    let eom = || rig.manager.write_msr(VMBUS.vp, EOM, 0).unwrap();
    post();
    let ours = || {
        post();
        assert!(slot.consume());
        eom();
    };
    let mut waiting = bytes.clone();
    let floor = || {
        waiting.copy_from_slice(black_box(&bytes));
        slot.request_eom();
        assert!(slot.consume());
        slot.fill(black_box(&waiting));
    };
    let what = What::new("post to a full slot, consume, EOM", 1);
    table.row(what, ours, floor);
}

/// Two messages into an empty slot.
fn pair(table: &mut Table) {
    let rig: Rig = Rig::new(1);
    let area = rig.area(VMBUS, Page::Messages);
    let slot = Slot::new(&area);
    let (message, bytes) = message(240);
    let post = || {
        rig.manager
            .post_message(VMBUS, black_box(&message))
            .unwrap()
    };
    let eom = || rig.manager.write_msr(VMBUS.vp, EOM, 0).unwrap();
    let ours = || {
        post();
        post();
        assert!(slot.consume());
        eom();
        assert!(!slot.consume());
    };
    let mut waiting = bytes.clone();
    let floor = || {
        slot.fill(black_box(&bytes));
        waiting.copy_from_slice(black_box(&bytes));
        slot.request_eom();
        assert!(slot.consume());
        slot.fill(black_box(&waiting));
        assert!(!slot.consume());
    };
    let what = What::new("post two, consume, EOM, consume", 2).openvmm("135.2");
    table.row(what, ours, floor);
}

/// A message, and the same as a slot holds it.
pub fn message(len: usize) -> (Message, Vec<u8>) {
    let payload = vec![7; len];
    let mut bytes = vec![1, 0, 0, 0, len as u8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    bytes.extend_from_slice(&payload);
    (Message::new(MessageType::VMBUS, &payload).unwrap(), bytes)
}
