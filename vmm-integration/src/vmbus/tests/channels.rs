// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! Open, close, move, rescind, release.

use super::driver::*;
use crate::vmbus::lock;
use crate::vmbus::report::Mistake;
use vm_synic::SintIndex;

fn refused(relid: u32) -> Vec<Vec<u32>> {
    vec![vec![OPEN_RESULT, 0, relid, relid, FAILED]]
}

#[test]
fn channel_when_closed_can_be_opened_again() {
    let mut bench = Bench::offered();
    for _ in 0..3 {
        let link = bench.open(1, 0);
        bench.ask(&[CLOSECHANNEL, 0, 1]);
        assert_eq!(bench.guest.signal(link.connection, 0), Some(0x12));
        let torn_down = bench.ask(&[GPADL_TEARDOWN, 0, 1, 1 + GPADL_BASE]);
        assert_eq!(torn_down, [[GPADL_TORNDOWN, 0, 1 + GPADL_BASE]]);
    }
    let channels = bench.report().channels;
    assert_eq!((channels.opened, channels.closed), (3, 3));
    assert!(bench.report().mistakes.is_empty());
}

#[test]
fn open_of_what_cannot_be_opened_is_refused() {
    let mut bench = Bench::offered();
    bench.lend(1, 5, &[0, 1, 2, 3]);
    bench.ask(&gpadl_header(1, 6, 4, &[0, 1]));
    assert_eq!(bench.ask(&open_channel(2, 5, 0, 2)), refused(2));
    assert_eq!(bench.mistakes(Mistake::NoChannel), 1);
    // No such GPADL, and one that is not whole.
    assert_eq!(bench.ask(&open_channel(1, 4, 0, 2)), refused(1));
    assert_eq!(bench.ask(&open_channel(1, 6, 0, 2)), refused(1));
    assert_eq!(bench.mistakes(Mistake::NoGpadl), 2);
    assert_eq!(bench.ask(&open_channel(1, 5, 2, 2)), refused(1));
    assert_eq!(bench.mistakes(Mistake::NoVp), 1);
    for offset in [0, 1, 3, 4, 5, u32::MAX] {
        assert_eq!(bench.ask(&open_channel(1, 5, 0, offset)), refused(1));
    }
    assert_eq!(bench.mistakes(Mistake::BadRings), 6);
    assert_eq!(bench.report().channels.opened, 0);
}

#[test]
fn open_when_open_is_refused_and_leaves_it_open() {
    let mut bench = Bench::offered();
    let link = bench.open(1, 0);
    assert_eq!(
        bench.ask(&open_channel(1, 1 + GPADL_BASE, 0, 4)),
        refused(1)
    );
    assert_eq!(bench.mistakes(Mistake::CannotOpen), 1);
    assert_eq!(bench.guest.signal(link.connection, 0), Some(0));
}

#[test]
fn open_with_indices_that_cannot_be_is_refused() {
    let mut bench = Bench::offered();
    bench.lend(1, 5, &[0, 1, 2, 3]);
    bench.guest.write_ram(4, &[0xFF; 4]);
    assert_eq!(bench.ask(&open_channel(1, 5, 0, 2)), refused(1));
    assert_eq!(bench.mistakes(Mistake::CorruptRing), 1);
}

#[test]
fn close_of_what_is_not_open_is_counted() {
    let mut bench = Bench::offered();
    bench.ask(&[CLOSECHANNEL, 0, 1]);
    bench.ask(&[CLOSECHANNEL, 0, 2]);
    assert_eq!(bench.mistakes(Mistake::NotOpen), 1);
    assert_eq!(bench.mistakes(Mistake::NoChannel), 1);
}

#[test]
fn modify_moves_the_interrupts_and_is_answered_from_5_3_on() {
    let mut bench = Bench::offered();
    bench.open(1, 0);
    bench.flags();
    let moved = bench.ask(&[MODIFYCHANNEL, 0, 1, 1]);
    assert_eq!(moved, [[MODIFY_RESPONSE, 0, 1, 0]]);
    // At once, in case that the last one was lost with the old VP.
    assert_eq!(bench.second.take_flags(SintIndex::VMBUS), [1]);
    assert!(bench.flags().is_empty());
    assert_eq!(bench.report().channels.moved, 1);
    for (relid, vp) in [(1, 2), (2, 0)] {
        let refused = bench.ask(&[MODIFYCHANNEL, 0, relid, vp]);
        assert_eq!(refused, [[MODIFY_RESPONSE, 0, relid, FAILED]]);
    }
}

#[test]
fn modify_before_5_3_is_not_answered() {
    let mut bench = Bench::connected(V5_2);
    bench.ask(&[REQUESTOFFERS, 0]);
    bench.open(1, 0);
    assert_eq!(bench.ask(&[MODIFYCHANNEL, 0, 1, 1]), Vec::<Vec<u32>>::new());
    assert_eq!(bench.report().channels.moved, 1);
}

#[test]
fn signal_for_a_vp_that_is_off_is_counted_and_made_up_for_by_modify() {
    let mut bench = Bench::offered();
    bench.second.set_scontrol(false);
    bench.lend(1, 5, &[0, 1, 2, 3]);
    bench.ask(&open_channel(1, 5, 1, 2));
    assert_eq!(bench.report().signals_refused, 1);
    bench.ask(&[MODIFYCHANNEL, 0, 1, 0]);
    assert_eq!(bench.flags(), [1]);
}

#[test]
fn rescind_and_reoffer_offers_anew_once_the_guest_has_released() {
    let mut bench = Bench::offered();
    let link = bench.open(1, 0);
    assert!(lock(&bench.connection).rescind_and_reoffer());
    assert_eq!(bench.replies(), [[RESCIND, 0, 1]]);
    assert_eq!(bench.guest.signal(link.connection, 0), Some(0x12));
    assert!(!lock(&bench.connection).rescind_and_reoffer());
    // What Linux does: close, but no teardown for a channel that is rescinded.
    assert_eq!(bench.ask(&[CLOSECHANNEL, 0, 1]), Vec::<Vec<u32>>::new());
    let replies = bench.ask(&[RELID_RELEASED, 0, 1]);
    assert_eq!(types(&replies), [OFFER]);
    assert_eq!(replies[0][46], 2, "a relid of its own");
    bench.open(2, 0);
    assert!(bench.report().mistakes.is_empty());
    assert_eq!(bench.report().channels.rescinded, 1);
}

#[test]
fn rescind_before_there_is_a_channel_does_nothing() {
    let mut bench = Bench::connected(V6_0);
    assert!(!lock(&bench.connection).rescind_and_reoffer());
    assert_eq!(bench.replies(), Vec::<Vec<u32>>::new());
}

#[test]
fn release_of_an_offer_that_was_not_rescinded_ends_it() {
    let mut bench = Bench::offered();
    bench.ask(&[RELID_RELEASED, 0, 1]);
    bench.ask(&[RELID_RELEASED, 0, 1]);
    assert_eq!(bench.mistakes(Mistake::NoChannel), 1);
    assert_eq!(bench.ask(&open_channel(1, 1, 0, 1)), refused(1));
}
