// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! The echo against Linux's `hyperv_transport.c`.

use super::driver::*;
use super::ring::{FEATURES, PENDING, WRITE};
use crate::vmbus::report::Mistake;

const PORT: u32 = 1025;

/// A socket that is connected, as `hvs_open_connection` leaves it.
pub fn connected() -> (Bench, Link) {
    let mut bench = Bench::offered();
    let relid = bench.connect_socket(PORT);
    let link = bench.open(relid, 0);
    link.upstream.set_field(&bench.guest, FEATURES, 1);
    link.upstream.set_field(&bench.guest, PENDING, 4120);
    (bench, link)
}

pub fn packet(data: &[u8]) -> Vec<u8> {
    let mut packet = bytes(&[1, data.len() as u32]);
    packet.extend(data);
    packet
}

/// A payload that tells its number and its length.
pub fn data(number: u32) -> Vec<u8> {
    let length = number.wrapping_mul(2_654_435_761) % 61 + 1;
    (0..length)
        .map(|i| (number.wrapping_add(i) % 251) as u8)
        .collect()
}

#[test]
fn connect_brings_an_offer_by_which_linux_finds_its_socket() {
    let mut bench = Bench::offered();
    let offers = bench.ask(&tl_connect(PORT, ECHO_PORT));
    let [a, b, c] = VSOCK;
    assert_eq!(offers[0][..2], [OFFER, 0]);
    assert_eq!(
        offers[0][2..10],
        [ECHO_PORT, a, b, c, PORT, a, b, c],
        "class, instance"
    );
    assert_eq!(offers[0][14] & 0xFFFF, 0x2011, "a socket");
    assert_eq!(
        offers[0][15..45],
        [0; 30],
        "a pipe of bytes; the guest connects"
    );
    assert_eq!(offers[0][46..], [2, 1 << 16, 0x1_0002]);
}

#[test]
fn connect_to_a_service_that_is_not_there_is_refused() {
    let mut bench = Bench::offered();
    let [a, b, c] = VSOCK;
    let status = 0xC000_0236;
    for (port, service) in [(PORT, 22), (PORT, ECHO_PORT + 1)] {
        let refused = bench.ask(&tl_connect(port, service));
        assert_eq!(
            refused,
            [[TL_RESULT, 0, port, a, b, c, service, a, b, c, status]]
        );
    }
    assert_eq!(bench.mistakes(Mistake::SocketRefused), 2);
}

#[test]
fn connect_twice_from_one_port_or_too_often_is_refused() {
    let mut bench = Bench::offered();
    for port in 0..64 {
        bench.connect_socket(port);
    }
    assert_eq!(types(&bench.ask(&tl_connect(0, ECHO_PORT))), [TL_RESULT]);
    assert_eq!(types(&bench.ask(&tl_connect(64, ECHO_PORT))), [TL_RESULT]);
    // A channel that the guest releases makes room.
    bench.ask(&[RELID_RELEASED, 0, 7]);
    bench.connect_socket(64);
}

#[test]
fn echo_of_100_000_packets_is_byte_for_byte() {
    let (mut bench, link) = connected();
    let (mut sent, mut received) = (0, 0);
    let mut bytes_sent = 0;
    while received < PACKETS {
        while sent < PACKETS && bench.send(&link, &packet(&data(sent))) {
            bytes_sent += data(sent).len() as u64;
            sent += 1;
        }
        bench.turn();
        // Not always all: the host finds the ring full now and then.
        for _ in 0..received % 500 + 1 {
            let Some(echo) = bench.receive(&link) else {
                break;
            };
            let expected = packet(&data(received));
            assert_eq!(echo[..expected.len()], expected, "packet {received}");
            received += 1;
        }
    }
    let echo = bench.report().echo;
    assert_eq!(
        (echo.packets_in, echo.packets_out),
        (PACKETS.into(), PACKETS.into())
    );
    assert_eq!((echo.bytes_in, echo.bytes_out), (bytes_sent, bytes_sent));
    assert!(echo.blocked > 0, "the test meets back-pressure");
    assert!(bench.report().mistakes.is_empty());
}

#[test]
fn echo_when_the_guest_takes_nothing_back_stops_reading_and_goes_on_by_a_signal() {
    let (mut bench, link) = connected();
    let mut sent = 0;
    loop {
        let before = sent;
        while bench.send(&link, &packet(&[sent as u8; 1000])) {
            sent += 1;
        }
        bench.turn();
        if sent == before {
            break;
        }
    }
    // Both rings are full; the host holds one packet at most.
    let echo = bench.report().echo;
    assert_eq!(echo.packets_in, echo.packets_out + 1);
    assert!(bench.receive(&link).is_some());
    let signalled = bench.report().echo.signals_in;
    for expected in 1..sent {
        bench.turn();
        assert_eq!(bench.receive(&link).unwrap()[8], expected as u8);
    }
    bench.turn();
    assert_eq!(bench.report().echo.packets_out, sent);
    assert!(bench.report().echo.signals_in > signalled);
}

#[test]
fn echo_signals_the_guest_only_when_its_ring_was_empty() {
    let (mut bench, link) = connected();
    bench.flags();
    bench.send(&link, &packet(b"one"));
    bench.turn();
    assert_eq!(bench.flags(), [link.relid as u16]);
    bench.send(&link, &packet(b"two"));
    bench.turn();
    assert!(bench.flags().is_empty());
    assert_eq!(bench.report().echo.signals_out, 1);
}

#[test]
fn shutdown_is_answered_after_the_last_echo_and_ends_the_channel() {
    let (mut bench, link) = connected();
    bench.send(&link, &packet(b"last words"));
    bench.send(&link, &packet(&[]));
    bench.turn();
    assert_eq!(bench.replies(), [[RESCIND, 0, link.relid]]);
    // The data is still there after the rescind, as Linux reads it.
    assert_eq!(bench.receive(&link).unwrap()[..18], packet(b"last words"));
    assert_eq!(bench.receive(&link).unwrap(), packet(&[]));
    bench.ask(&[CLOSECHANNEL, 0, link.relid]);
    bench.ask(&[RELID_RELEASED, 0, link.relid]);
    let report = bench.report();
    assert_eq!((report.echo.connections, report.echo.finished), (1, 1));
    assert!(report.mistakes.is_empty());
    // The same port again, and the memory of before.
    let relid = bench.connect_socket(PORT);
    bench.open(relid, 0);
}

#[test]
fn close_without_shutdown_is_answered_by_a_rescind() {
    let (mut bench, link) = connected();
    let replies = bench.ask(&[CLOSECHANNEL, 0, link.relid]);
    assert_eq!(replies, [[RESCIND, 0, link.relid]]);
    bench.ask(&[GPADL_TEARDOWN, 0, link.relid, link.relid + GPADL_BASE]);
    bench.ask(&[RELID_RELEASED, 0, link.relid]);
    assert!(bench.report().mistakes.is_empty());
}

#[test]
fn sockets_do_not_disturb_each_other() {
    let (mut bench, first) = connected();
    let relid = bench.connect_socket(PORT + 1);
    let second = bench.open(relid, 8);
    bench.send(&first, &packet(b"first"));
    bench.send(&second, &packet(b"second"));
    bench.turn();
    assert_eq!(bench.receive(&second).unwrap()[8..14], *b"second");
    first.upstream.set_field(&bench.guest, WRITE, 3);
    bench.guest.signal(first.connection, 0);
    bench.turn();
    assert_eq!(bench.replies(), [[RESCIND, 0, first.relid]]);
    assert_eq!(bench.mistakes(Mistake::CorruptRing), 1);
    bench.send(&second, &packet(b"still"));
    bench.turn();
    assert_eq!(bench.receive(&second).unwrap()[8..13], *b"still");
}

#[test]
fn packet_that_is_not_of_the_protocol_ends_the_channel() {
    let too_long = bytes(&[1, 9, 0, 0]);
    let beyond_mtu = [bytes(&[1, 16 * 1024 + 8]), vec![0; 9000]].concat();
    let spoilt = [&[][..], &bytes(&[2, 0]), &too_long, &beyond_mtu];
    for payload in spoilt {
        let (mut bench, link) = connected();
        assert!(bench.send(&link, payload));
        bench.turn();
        assert_eq!(bench.replies(), [[RESCIND, 0, link.relid]]);
        let mistakes = bench.report().mistakes;
        assert_eq!(mistakes.get(&Mistake::BadPacket), Some(&1), "{payload:?}");
    }
}

#[test]
fn packet_whose_echo_can_never_fit_ends_the_channel() {
    let mut bench = Bench::offered();
    let relid = bench.connect_socket(PORT);
    bench.lend(relid, 5, &[0, 1, 2, 3, 4]);
    bench.ask(&open_channel(relid, 5, 0, 3));
    let link = Link {
        relid,
        connection: 0x1_0000 | relid,
        upstream: super::ring::GuestRing::new(&[0, 1, 2]),
        downstream: super::ring::GuestRing::new(&[3, 4]),
    };
    assert!(bench.send(&link, &packet(&[0; 4096])));
    bench.turn();
    assert_eq!(bench.replies(), [[RESCIND, 0, relid]]);
}

const PACKETS: u32 = 100_000;
