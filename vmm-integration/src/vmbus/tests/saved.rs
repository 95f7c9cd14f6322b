// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! The bus through saved states.

use serde_json::{Value, json};

use super::driver::*;
use super::socket::{connected, data, packet};
use crate::vmbus::connection::SavedBus;

#[test]
fn echo_through_many_snapshots_loses_and_repeats_nothing() {
    let (mut bench, link) = connected();
    let (mut sent, mut received, mut moves) = (0, 0, 0);
    while received < PACKETS {
        while sent < PACKETS && bench.send(&link, &packet(&data(sent))) {
            sent += 1;
        }
        // In turns: with a signal that nobody has heard yet, with an echo that the ring had no room for,
        // and with all of it done.
        if moves % 3 != 0 {
            bench.turn();
        }
        bench = bench.moved();
        moves += 1;
        assert!(moves < 5000, "packet {received} does not come");
        bench.turn();
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
    assert!(echo.blocked > 0 && moves > 20, "{moves} moves, {echo:?}");
    assert!(bench.report().mistakes.is_empty());
}

#[test]
fn answers_that_wait_for_the_guest_are_there_after_a_snapshot() {
    let bench = Bench::connected(V5_3);
    // The guest does not empty its slot, so that offers wait behind each other.
    bench.post(&[REQUESTOFFERS, 0]);
    let mut bench = bench.moved();
    assert_eq!(types(&bench.replies()), [OFFER, ALLOFFERS]);
}

#[test]
fn channels_of_every_kind_are_as_they_were() {
    let (mut bench, _link) = connected();
    bench.connect_socket(7);
    let rescinded = bench.connect_socket(8);
    bench.open(rescinded, 16);
    bench.ask(&[CLOSECHANNEL, 0, rescinded]);
    let before = bench.saved();
    let bench = bench.moved();
    assert_eq!(bench.saved(), before);
}

/// Changes one place of a saved bus; says how that is refused.
fn refused(path: &str, value: Value) -> String {
    let (bench, _link) = connected();
    let mut saved = json!(bench.saved());
    *saved.pointer_mut(path).expect(path) = value;
    let parsed = serde_json::from_value::<SavedBus>(saved);
    let Ok(saved) = parsed else {
        return parsed.unwrap_err().to_string();
    };
    let restored = bench.restore(&saved);
    assert!(bench.saved() != saved, "nothing of it stays");
    format!("{:#}", restored.unwrap_err())
}

#[test]
fn restore_of_a_bus_that_cannot_be_names_the_field() {
    let open = "/channels/1/state/Open";
    for (path, value, error) in [
        ("/contact/version", json!(7), "contact: version"),
        ("/last_relid", json!(5000), "last_relid: "),
        ("/gpadls/0/pages/1", json!(5), "gpadls[0]: "),
        ("/gpadls/0/pages/1", json!(1u64 << 60), "gpadls[0]: "),
        ("/gpadls/0/total", json!(3), "gpadls[0]: "),
        ("/gpadls/0/total", json!(1 << 30), "gpadls[0]: "),
        ("/channels/1/relid", json!(1), "channels[1]: relid 1"),
        ("/channels/1/relid", json!(0), "channels[1]: relid 0"),
        (&format!("{open}/gpadl"), json!(1), "channels[1]: "),
        (&format!("{open}/read"), json!(3), "channels[1]: "),
        (&format!("{open}/write/0"), json!(1 << 20), "channels[1]: "),
        (
            &format!("{open}/downstream_offset"),
            json!(8),
            "channels[1]: ",
        ),
        (
            &format!("{open}/device"),
            json!({"Heartbeat": {
                "agreed": false, "waiting": false, "transaction": 0, "sequence": 0
            }}),
            "channels[1]: ",
        ),
        ("/channels/1/state", json!("Closed"), "unknown variant"),
    ] {
        let refused = refused(path, value);
        assert!(refused.starts_with(error), "{path}: {refused}");
    }
}

const PACKETS: u32 = 20_000;
