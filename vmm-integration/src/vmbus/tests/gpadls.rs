// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! Memory that the guest lends, or claims to.

use super::driver::*;
use crate::vmbus::report::Mistake;

const HANDLE: u32 = 7;

fn created(status: u32) -> Vec<Vec<u32>> {
    vec![vec![GPADL_CREATED, 0, 1, HANDLE, status]]
}

fn body(gpadl: u32, frames: &[u32]) -> Vec<u32> {
    let mut body = vec![GPADL_BODY, 0, 0, gpadl];
    body.extend(frames.iter().flat_map(|frame| [*frame, 0]));
    body
}

#[test]
fn gpadl_of_one_message_is_created() {
    let mut bench = Bench::offered();
    assert_eq!(bench.lend(1, HANDLE, &[1, 2, 3]), created(0));
}

#[test]
fn gpadl_of_several_messages_is_created_by_the_last() {
    let mut bench = Bench::offered();
    let nothing = Vec::<Vec<u32>>::new();
    let header = gpadl_header(1, HANDLE, 60, &[1; 26]);
    assert_eq!(bench.ask(&header), nothing);
    assert_eq!(bench.ask(&body(HANDLE, &[2; 28])), nothing);
    assert_eq!(bench.ask(&body(HANDLE, &[3; 6])), created(0));
}

#[test]
fn gpadl_with_more_pages_than_announced_is_refused_and_gone() {
    let mut bench = Bench::offered();
    bench.ask(&gpadl_header(1, HANDLE, 30, &[1; 26]));
    assert_eq!(bench.ask(&body(HANDLE, &[1; 5])), created(FAILED));
    bench.ask(&body(HANDLE, &[1; 4]));
    assert_eq!(bench.mistakes(Mistake::BadGpadl), 1);
    assert_eq!(bench.mistakes(Mistake::NoGpadl), 1);
}

#[test]
fn gpadl_that_is_not_ram_is_refused() {
    let mut bench = Bench::offered();
    assert_eq!(bench.lend(1, HANDLE, &[1, 0x10_0000]), created(FAILED));
    // A frame whose address does not exist at all.
    let mut header = gpadl_header(1, HANDLE, 1, &[0]);
    header[7] = u32::MAX;
    header[8] = u32::MAX;
    assert_eq!(bench.ask(&header), created(FAILED));
    assert_eq!(bench.mistakes(Mistake::BadGpadl), 2);
}

#[test]
fn gpadl_that_contradicts_itself_is_refused() {
    let good = gpadl_header(1, HANDLE, 2, &[1, 2]);
    let (pages, bytes, offset) = (4, 5, 6);
    let spoilt = [
        (pages, 8 | 1 << 16),
        (pages, 24 | 2 << 16),
        (pages, 24),
        (bytes, 0),
        (bytes, u32::MAX),
        (bytes, 3 * 4096),
        (offset, 4096),
        (offset, u32::MAX),
    ];
    for (word, value) in spoilt {
        let mut bench = Bench::offered();
        let mut header = good.clone();
        header[word] = value;
        assert_eq!(bench.ask(&header), created(FAILED), "{word}: {value:#x}");
    }
}

#[test]
fn gpadl_under_a_handle_that_is_taken_leaves_the_first_alone() {
    let mut bench = Bench::offered();
    bench.lend(1, HANDLE, &[0, 1, 2, 3]);
    assert_eq!(bench.lend(1, HANDLE, &[9]), created(FAILED));
    let opened = bench.ask(&open_channel(1, HANDLE, 0, 2));
    assert_eq!(opened[0], [OPEN_RESULT, 0, 1, 1, 0]);
}

#[test]
fn gpadl_for_no_channel_is_refused() {
    let mut bench = Bench::offered();
    let refused = bench.lend(9, HANDLE, &[1]);
    assert_eq!(refused, [[GPADL_CREATED, 0, 9, HANDLE, FAILED]]);
    assert_eq!(bench.mistakes(Mistake::NoChannel), 1);
}

#[test]
fn gpadls_beyond_the_limits_are_refused_until_some_are_torn_down() {
    let mut bench = Bench::offered();
    // 8190 pages each, the most that a header's size field can say.
    let announce = |gpadl| gpadl_header(1, gpadl, 8190, &[1; 26]);
    for gpadl in [1, 2] {
        assert_eq!(bench.ask(&announce(gpadl)), Vec::<Vec<u32>>::new());
    }
    assert_eq!(bench.ask(&announce(HANDLE)), created(FAILED));
    assert_eq!(bench.mistakes(Mistake::TooManyGpadls), 1);
    bench.ask(&[GPADL_TEARDOWN, 0, 1, 1]);
    assert_eq!(bench.ask(&announce(HANDLE)), Vec::<Vec<u32>>::new());
}

#[test]
fn gpadls_of_one_page_are_limited_in_number() {
    let mut bench = Bench::offered();
    let statuses: Vec<_> = (0..300)
        .map(|gpadl| bench.lend(1, gpadl, &[1])[0][4])
        .collect();
    assert_eq!(statuses.iter().filter(|status| **status == 0).count(), 256);
}

#[test]
fn teardown_of_what_is_not_there_is_answered_and_counted() {
    let mut bench = Bench::offered();
    let replies = bench.ask(&[GPADL_TEARDOWN, 0, 1, HANDLE]);
    assert_eq!(replies, [[GPADL_TORNDOWN, 0, HANDLE]]);
    assert_eq!(bench.mistakes(Mistake::NoGpadl), 1);
}

#[test]
fn teardown_of_rings_in_use_closes_their_channel_first() {
    let mut bench = Bench::offered();
    let link = bench.open(1, 0);
    bench.ask(&[GPADL_TEARDOWN, 0, 1, 1 + GPADL_BASE]);
    assert_eq!(bench.guest.signal(link.connection, 0), Some(0x12));
    assert_eq!(bench.report().channels.closed, 1);
}
