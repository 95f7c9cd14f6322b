// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! Contact, offers, unload, and messages that are none.

use super::driver::*;
use crate::vmbus::lock;
use crate::vmbus::report::Mistake;
use vm_synic::{MessageType, SintIndex};

#[test]
fn contact_with_each_version_that_linux_tries_is_accepted() {
    for (major, minor) in [
        (6, 0),
        (5, 3),
        (5, 2),
        (5, 1),
        (5, 0),
        (4, 1),
        (4, 0),
        (3, 0),
        (2, 4),
    ] {
        let bench = Bench::connected(major << 16 | minor);
        assert_eq!(bench.report().version, Some(format!("{major}.{minor}")));
    }
}

#[test]
fn contact_with_an_unknown_version_is_answered_by_a_refusal() {
    let mut bench = Bench::new();
    let replies = bench.ask(&contact(7 << 16, 0));
    assert_eq!(replies, [[VERSION_RESPONSE, 0, 0, 4]]);
    assert_eq!(bench.mistakes(Mistake::UnsupportedVersion), 1);
    assert_eq!(bench.ask(&[REQUESTOFFERS, 0]), Vec::<Vec<u32>>::new());
    assert_eq!(bench.ask(&contact(V2_4, 0)), [version_response(V2_4)]);
}

#[test]
fn contact_on_the_old_connection_is_accepted() {
    let mut bench = Bench::new();
    let payload = bytes(&contact(V2_4, 0));
    assert_eq!(bench.guest.post(1, MessageType::VMBUS, &payload), Some(0));
    assert_eq!(bench.replies(), [version_response(V2_4)]);
}

#[test]
fn contact_that_names_another_vp_is_answered_there() {
    let mut bench = Bench::new();
    assert_eq!(bench.ask(&contact(V5_3, 1)), Vec::<Vec<u32>>::new());
    let messages = bench.second.take_messages(SintIndex::VMBUS);
    assert_eq!(words(messages[0].payload()), version_response(V5_3));
}

#[test]
fn contact_that_names_no_vp_costs_an_answer_only() {
    let mut bench = Bench::new();
    bench.ask(&contact(V5_3, 77));
    assert_eq!(bench.report().messages.refused, 1);
    assert_eq!(bench.ask(&contact(V5_3, 0)), [version_response(V5_3)]);
}

#[test]
fn request_for_offers_brings_the_heartbeat_as_linux_expects_it() {
    let mut bench = Bench::connected(V5_3);
    let replies = bench.ask(&[REQUESTOFFERS, 0]);
    assert_eq!(types(&replies), [OFFER, ALLOFFERS]);
    let offer = &replies[0];
    // The layout of `struct vmbus_channel_offer_channel`, in words.
    assert_eq!(offer.len(), 196 / 4);
    let class = [0x5716_4f39, 0x4e78_9115, 0x2f38_55ab, 0x2d42_d53b];
    assert_eq!(offer[2..6], class);
    assert_eq!(offer[14], 0x0011, "flags, MMIO");
    assert_eq!(offer[15], 4, "pipe mode");
    assert_eq!(offer[45], 0, "sub-channel index");
    assert_eq!(
        offer[46..],
        [1, 1 << 16, 0x1_0001],
        "relid, dedicated interrupt, connection"
    );
}

#[test]
fn request_for_offers_when_repeated_is_refused() {
    let mut bench = Bench::offered();
    assert_eq!(bench.ask(&[REQUESTOFFERS, 0]), Vec::<Vec<u32>>::new());
    assert_eq!(bench.mistakes(Mistake::OffersDelivered), 1);
}

#[test]
fn unload_then_contact_starts_anew() {
    let mut bench = Bench::offered();
    let link = bench.open(1, 0);
    assert_eq!(bench.ask(&[UNLOAD, 0]), [[UNLOAD_RESPONSE, 0]]);
    // Invalid connection id: nobody hears the old channel.
    assert_eq!(bench.guest.signal(link.connection, 0), Some(0x12));
    // What Linux does after it has unloaded.
    assert_eq!(bench.ask(&[RELID_RELEASED, 0, 1]), Vec::<Vec<u32>>::new());
    assert!(bench.report().mistakes.is_empty());
    bench.ask(&contact(V6_0, 0));
    assert_eq!(types(&bench.ask(&[REQUESTOFFERS, 0])), [OFFER, ALLOFFERS]);
    bench.open(1, 0);
    assert_eq!(bench.report().unloads, 1);
}

#[test]
fn contact_without_unload_drops_what_the_old_kernel_had() {
    let mut bench = Bench::offered();
    let link = bench.open(1, 0);
    bench.ask(&contact(V5_3, 0));
    assert_eq!(bench.guest.signal(link.connection, 0), Some(0x12));
    assert_eq!(types(&bench.ask(&[REQUESTOFFERS, 0])), [OFFER, ALLOFFERS]);
    // The GPADL's handle is free again, and so is its memory.
    bench.open(1, 0);
    let report = bench.report();
    assert!(report.mistakes.is_empty());
    assert_eq!((report.channels.opened, report.channels.dropped), (2, 1));
}

#[test]
fn reset_drops_what_the_guest_had_and_tells_nobody() {
    let mut bench = Bench::offered();
    bench.open(1, 0);
    bench.replies();
    bench.flags();
    lock(&bench.connection).reset();
    bench.tick();
    assert_eq!(bench.replies(), Vec::<Vec<u32>>::new());
    assert!(bench.flags().is_empty());
    assert_eq!(bench.report().resets, 1);
}

#[test]
fn message_before_contact_is_counted_and_not_answered() {
    let mut bench = Bench::new();
    for message_type in [REQUESTOFFERS, UNLOAD, CLOSECHANNEL, MODIFYCHANNEL] {
        let replies = bench.ask(&[message_type, 0, 1, 1]);
        assert_eq!(replies, Vec::<Vec<u32>>::new());
    }
    assert_eq!(bench.mistakes(Mistake::NotConnected), 4);
}

#[test]
fn message_when_short_of_its_layout_is_counted() {
    let bench = Bench::offered();
    let whole = [
        &contact(V5_3, 0)[..],
        &open_channel(1, 1, 0, 4),
        &gpadl_header(1, 1, 1, &[])[..],
        &[GPADL_BODY, 0, 0, 1],
        &[GPADL_TEARDOWN, 0, 1, 1],
        &[CLOSECHANNEL, 0, 1],
        &[RELID_RELEASED, 0, 1],
        &[MODIFYCHANNEL, 0, 1, 1],
        &tl_connect(1, ECHO_PORT),
        &[UNLOAD, 0],
    ];
    for message in whole {
        let bytes = bytes(message);
        bench.post_bytes(&bytes[..bytes.len() - 1]);
    }
    bench.post_bytes(&[]);
    assert_eq!(bench.mistakes(Mistake::ShortMessage), 11);
    assert_eq!(bench.report().mistakes.len(), 1);
}

#[test]
fn message_of_a_type_that_guests_do_not_send_is_counted() {
    let mut bench = Bench::offered();
    for message_type in [
        0,
        1,
        2,
        4,
        6,
        10,
        12,
        15,
        17,
        18,
        19,
        20,
        23,
        24,
        25,
        u32::MAX,
    ] {
        bench.ask(&[message_type; 60]);
    }
    assert_eq!(bench.mistakes(Mistake::UnknownMessage), 16);
    // Of another kind altogether (not VMBus's), and ignored.
    bench.guest.post(4, MessageType::new(2).unwrap(), &[14; 40]);
    assert_eq!(bench.report().mistakes.len(), 1);
}

#[test]
fn answers_when_the_guest_takes_none_wait_and_then_arrive_in_order() {
    let mut bench = Bench::with_queue_depth(1);
    bench.ask(&contact(V5_3, 0));
    bench.ask(&[REQUESTOFFERS, 0]);
    // One answer fits the slot, one the queue, 64 wait here; then the guest is pushed back.
    let modify = |vp| [MODIFYCHANNEL, 0, 1, vp];
    let statuses: Vec<_> = (0..70).map(|vp| bench.post(&modify(vp))).collect();
    let accepted = statuses.iter().filter(|status| **status == 0).count();
    assert_eq!(accepted, 66);
    assert_eq!(statuses[accepted..], [0x13; 4], "insufficient buffers");
    assert_eq!(bench.report().messages.pushed_back, 4);
    let replies = bench.replies();
    assert_eq!(replies.len(), accepted);
    assert!(
        types(&replies)
            .iter()
            .all(|reply| *reply == MODIFY_RESPONSE)
    );
    assert_eq!(bench.post(&modify(0)), 0);
}

#[test]
fn contact_when_answers_wait_for_the_old_kernel_gets_through_and_drops_them() {
    let mut bench = Bench::with_queue_depth(1);
    bench.ask(&contact(V5_3, 0));
    while bench.post(&[MODIFYCHANNEL, 0, 9, 0]) == 0 {}
    assert_eq!(bench.post(&contact(V6_0, 1)), 0);
    let messages = bench.second.take_messages(SintIndex::VMBUS);
    assert_eq!(words(messages[0].payload()), version_response(V6_0));
    assert_eq!(bench.report().messages.dropped, 64);
}

#[test]
fn report_when_serialised_names_each_mistake() {
    let mut bench = Bench::offered();
    bench.ask(&[CLOSECHANNEL, 0, 2]);
    let report = serde_json::to_value(bench.report()).unwrap();
    assert_eq!(report["mistakes"], serde_json::json!({ "no_channel": 1 }));
    assert_eq!(report["version"], "5.3");
}
