// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! The heartbeat against Linux's `hv_util.c`.

use super::driver::*;
use crate::vmbus::report::Mistake;

/// Answers the request that is in the ring as Linux does; gives its type.
fn answer(bench: &mut Bench, link: &Link) -> Option<u16> {
    let (transaction, mut packet, _) = link.downstream.read(&bench.guest)?;
    let message_type = u16::from_le_bytes([packet[12], packet[13]]);
    match message_type {
        0 => {
            assert_eq!(packet.len(), (8 + 20 + 8 + 4 * 4usize).next_multiple_of(8));
            // `vmbus_prep_negotiate_resp` with 3.0 for both.
            packet[18] = 0x10;
            packet[28..36].copy_from_slice(&[1, 0, 1, 0, 0, 0, 0, 0]);
            packet[36..44].copy_from_slice(&[3, 0, 0, 0, 3, 0, 0, 0]);
        }
        _ => packet[28] += 1,
    }
    packet[25] = 1 | 4;
    respond(bench, link, transaction, &packet);
    Some(message_type)
}

fn respond(bench: &mut Bench, link: &Link, transaction: u64, packet: &[u8]) {
    if link
        .upstream
        .write(&bench.guest, transaction, packet)
        .unwrap()
    {
        assert_eq!(bench.guest.signal(link.connection, 0), Some(0));
    }
    bench.turn();
}

#[test]
fn heartbeat_when_answered_rises() {
    let mut bench = Bench::offered();
    let link = bench.open(1, 0);
    assert_eq!(bench.flags(), [1]);
    assert_eq!(answer(&mut bench, &link), Some(0));
    for _ in 0..100 {
        bench.tick();
        assert_eq!(bench.flags(), [1]);
        assert_eq!(answer(&mut bench, &link), Some(1));
    }
    let heartbeat = bench.report().heartbeat;
    assert_eq!(heartbeat.negotiated, 1);
    assert_eq!((heartbeat.sent, heartbeat.answered), (100, 100));
    assert_eq!(heartbeat.last_sequence, 200, "each side counts one further");
    assert_eq!(heartbeat.missed, 0);
}

#[test]
fn heartbeat_when_not_answered_is_not_repeated() {
    let mut bench = Bench::offered();
    let link = bench.open(1, 0);
    bench.tick();
    answer(&mut bench, &link);
    (0..10).for_each(|_| bench.tick());
    let heartbeat = bench.report().heartbeat;
    assert_eq!((heartbeat.sent, heartbeat.missed), (1, 10));
    answer(&mut bench, &link);
    assert_eq!(link.downstream.read(&bench.guest), None);
    assert_eq!(bench.report().heartbeat.answered, 1);
}

#[test]
fn heartbeat_when_the_channel_is_opened_again_negotiates_again() {
    let mut bench = Bench::offered();
    for _ in 0..2 {
        let link = bench.open(1, 0);
        answer(&mut bench, &link);
        bench.tick();
        answer(&mut bench, &link);
        bench.ask(&[CLOSECHANNEL, 0, 1]);
        bench.ask(&[GPADL_TEARDOWN, 0, 1, 1 + GPADL_BASE]);
        bench.tick();
    }
    let heartbeat = bench.report().heartbeat;
    assert_eq!((heartbeat.negotiated, heartbeat.answered), (2, 2));
}

#[test]
fn heartbeat_when_the_answer_is_wrong_is_rescinded() {
    for spoil in [
        |packet: &mut Vec<u8>| packet.truncate(20),
        |packet: &mut Vec<u8>| packet.truncate(28),
        // Not an answer; another transaction; another type; no version that suits.
        |packet: &mut Vec<u8>| packet[25] = 3,
        |packet: &mut Vec<u8>| packet[24] ^= 1,
        |packet: &mut Vec<u8>| packet[12] = 3,
        |packet: &mut Vec<u8>| packet[28] = 0,
    ] {
        let mut bench = Bench::offered();
        let link = bench.open(1, 0);
        let (transaction, mut packet, _) = link.downstream.read(&bench.guest).unwrap();
        packet[25] = 5;
        packet[28..36].copy_from_slice(&[1, 0, 1, 0, 0, 0, 0, 0]);
        spoil(&mut packet);
        respond(&mut bench, &link, transaction, &packet);
        assert_eq!(bench.replies(), [[RESCIND, 0, 1]]);
        assert_eq!(bench.mistakes(Mistake::BadPacket), 1);
    }
}

#[test]
fn heartbeat_when_answered_twice_is_rescinded() {
    let mut bench = Bench::offered();
    let link = bench.open(1, 0);
    let (transaction, mut packet, _) = link.downstream.read(&bench.guest).unwrap();
    packet[25] = 5;
    packet[28..36].copy_from_slice(&[1, 0, 1, 0, 0, 0, 0, 0]);
    respond(&mut bench, &link, transaction, &packet);
    assert_eq!(bench.replies(), Vec::<Vec<u32>>::new());
    respond(&mut bench, &link, transaction, &packet);
    assert_eq!(bench.replies(), [[RESCIND, 0, 1]]);
}

#[test]
fn heartbeat_when_the_ring_is_corrupt_is_rescinded_by_the_next_one() {
    let mut bench = Bench::offered();
    let link = bench.open(1, 0);
    answer(&mut bench, &link);
    link.downstream
        .set_field(&bench.guest, super::ring::READ, u32::MAX);
    bench.tick();
    assert_eq!(bench.replies(), [[RESCIND, 0, 1]]);
    assert_eq!(bench.mistakes(Mistake::CorruptRing), 1);
}
