// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! `HvPostMessage`.

use super::*;
use crate::routing::{MessageSink, PortBusy};
use crate::{EventSink, Message, MessageType};
use std::sync::Mutex;

const POST: u64 = POST_MESSAGE as u64;
const CONNECTION: u32 = 1;

/// What a handler was given: VP, connection, type, payload.
type Log = Arc<Mutex<Vec<(VpIndex, u32, u32, Vec<u8>)>>>;

fn recorder() -> (Log, PortSpec) {
    let log = Log::default();
    let into = log.clone();
    let handler = move |message: crate::GuestMessage<'_>| {
        into.lock().unwrap().push((
            message.from,
            message.connection.get(),
            message.message_type.get(),
            message.payload.to_vec(),
        ));
        Ok(())
    };
    (log, PortSpec::Message(MessageSink::Call(Arc::new(handler))))
}

fn to_sint(vp: u32) -> PortSpec {
    let addr = SintAddr::new(VpIndex::new(vp), SintIndex::VMBUS);
    PortSpec::Message(MessageSink::Sint(addr))
}

/// Writes an input block and makes the call.
fn post(guest: &Guest, connection: u32, message_type: u32, payload: &[u8]) -> Option<u64> {
    post_sized(
        guest,
        connection,
        message_type,
        payload.len() as u32,
        payload,
    )
}

fn post_sized(
    guest: &Guest,
    connection: u32,
    message_type: u32,
    size: u32,
    payload: &[u8],
) -> Option<u64> {
    let header = [connection, 0, message_type, size].map(u32::to_le_bytes);
    guest.write(INPUT, header.as_flattened());
    guest.write(INPUT + 16, payload);
    guest.call(POST, INPUT)
}

#[test]
fn post_to_a_handler_gives_it_message_sender_and_connection() {
    let guest = Guest::new(Config::new(1));
    let (log, spec) = recorder();
    let _port = guest.port(CONNECTION, spec);

    assert_eq!(
        post(&guest, CONNECTION, 1, b"hello"),
        answer(HvStatus::Success)
    );
    assert_eq!(
        post(&guest, CONNECTION, 0x7FFF_FFFF, &[7; 240]),
        answer(HvStatus::Success)
    );

    let expected = [
        (VP, CONNECTION, 1, b"hello".to_vec()),
        (VP, CONNECTION, 0x7FFF_FFFF, vec![7; 240]),
    ];
    assert_eq!(log.lock().unwrap()[..], expected);
}

#[test]
fn post_to_a_sint_arrives_in_its_slot_with_the_port_as_sender() {
    let guest = Guest::new(Config::new(1));
    let _port = guest.port(CONNECTION, to_sint(0));

    assert_eq!(
        post(&guest, CONNECTION, 9, b"hello!!!"),
        answer(HvStatus::Success)
    );

    let slot = SIMP + 2 * 256;
    let header = [0, 4, 8, 12].map(|offset| guest.read_u32(slot + offset));
    assert_eq!(header, [9, 8, PORT, 0]);
    assert_eq!(guest.read_u32(slot + 16).to_le_bytes(), *b"hell");
}

#[test]
fn post_to_a_busy_handler_is_told_to_try_again() {
    let guest = Guest::new(Config::new(1));
    let busy = MessageSink::Call(Arc::new(|_: crate::GuestMessage<'_>| Err(PortBusy)));
    let _port = guest.port(CONNECTION, PortSpec::Message(busy));
    assert_eq!(
        post(&guest, CONNECTION, 1, b""),
        answer(HvStatus::InsufficientBuffers)
    );
}

#[test]
fn post_to_a_sint_whose_queue_is_full_is_told_to_try_again() {
    let guest = Guest::new(Config {
        queue_depth: 1,
        ..Config::new(1)
    });
    let _port = guest.port(CONNECTION, to_sint(0));
    let posts = [1, 2, 3].map(|body| post(&guest, CONNECTION, 1, &[body]));
    let expected = [
        HvStatus::Success,
        HvStatus::Success,
        HvStatus::InsufficientBuffers,
    ];
    assert_eq!(posts, expected.map(answer));
}

#[test]
fn post_to_a_sint_that_is_not_ready_or_not_there_is_refused() {
    let guest = Guest::new(Config::new(2));
    let port = guest.port(CONNECTION, to_sint(0));
    guest.manager.write_msr(VP, 0x4000_0080, 0).unwrap();
    assert_eq!(
        post(&guest, CONNECTION, 1, b""),
        answer(HvStatus::InvalidSynicState)
    );
    drop(port);
    let _port = guest.port(CONNECTION, to_sint(1));
    assert_eq!(
        post(&guest, CONNECTION, 1, b""),
        answer(HvStatus::InvalidVpIndex)
    );
}

#[test]
fn post_with_a_bad_control_word_is_refused() {
    let guest = Guest::new(Config::new(1));
    let (log, spec) = recorder();
    let _port = guest.port(CONNECTION, spec);
    post(&guest, CONNECTION, 1, b"");
    let fast = ("fast", FAST);
    for (what, bits) in BAD_SIMPLE_CONTROLS.into_iter().chain([fast]) {
        let called = guest.call(POST | bits, INPUT);
        assert_eq!(called, answer(HvStatus::InvalidHypercallInput), "{what}");
    }
    assert_eq!(log.lock().unwrap().len(), 1);
}

#[test]
fn post_to_the_hypervisor_below_is_ours_in_a_nested_configuration() {
    let guest = Guest::new(Config {
        nested: true,
        ..Config::new(1)
    });
    let (log, spec) = recorder();
    let _port = guest.port(CONNECTION, spec);
    post(&guest, CONNECTION, 1, b"");
    assert_eq!(guest.call(POST | NESTED, INPUT), answer(HvStatus::Success));
    assert_eq!(log.lock().unwrap().len(), 2);
}

#[test]
fn post_from_a_block_that_is_unaligned_crosses_a_page_or_is_no_ram_is_refused() {
    let guest = Guest::new(Config::new(1));
    let (log, spec) = recorder();
    let _port = guest.port(CONNECTION, spec);
    for block in [0x1004, 0x1001, 0x1FF8, RAM_END, !7, u64::MAX] {
        let called = guest.call(POST, block);
        assert_eq!(called, answer(HvStatus::InvalidAlignment), "{block:#x}");
    }
    assert!(log.lock().unwrap().is_empty());
}

#[test]
fn post_of_a_payload_up_to_the_end_of_the_page_is_taken_and_beyond_refused() {
    let guest = Guest::new(Config::new(1));
    let (_log, spec) = recorder();
    let _port = guest.port(CONNECTION, spec);
    for (block, size, status) in [
        (0x1F00, 240, HvStatus::Success),
        (0x1F08, 240, HvStatus::InvalidAlignment),
        (0x1FF0, 0, HvStatus::Success),
        (0x1FF0, 1, HvStatus::InvalidAlignment),
    ] {
        let header = [CONNECTION, 0, 1, size].map(u32::to_le_bytes);
        guest.write(block, header.as_flattened());
        assert_eq!(guest.call(POST, block), answer(status), "{block:#x}");
    }
}

#[test]
fn post_of_a_bad_type_or_size_is_an_invalid_parameter() {
    let guest = Guest::new(Config::new(1));
    let (log, spec) = recorder();
    let _port = guest.port(CONNECTION, spec);
    for (message_type, size) in [(0, 0), (0x8000_0000, 0), (1, 241), (1, u32::MAX)] {
        let called = post_sized(&guest, CONNECTION, message_type, size, b"");
        let expected = answer(HvStatus::InvalidParameter);
        assert_eq!(called, expected, "type {message_type:#x}, {size} bytes");
    }
    assert!(log.lock().unwrap().is_empty());
}

#[test]
fn post_without_the_privilege_is_denied() {
    let guest = Guest::new(Config {
        may_post_messages: false,
        ..Config::new(1)
    });
    let (_log, spec) = recorder();
    let _port = guest.port(CONNECTION, spec);
    assert_eq!(
        post(&guest, CONNECTION, 1, b""),
        answer(HvStatus::AccessDenied)
    );
}

#[test]
fn post_to_no_connection_is_refused() {
    let guest = Guest::new(Config::new(1));
    let (_log, spec) = recorder();
    let _port = guest.port(CONNECTION, spec);
    // The last one has the low 24 bits of a connection that exists.
    for connection in [2, 0xFF_FFFF, 0x100_0001] {
        let called = post(&guest, connection, 1, b"");
        assert_eq!(
            called,
            answer(HvStatus::InvalidConnectionId),
            "{connection:#x}"
        );
    }
}

#[test]
fn post_to_a_port_that_is_gone_or_takes_events_is_refused() {
    let guest = Guest::new(Config::new(1));
    let (log, spec) = recorder();
    let (port, _connection) = guest.port(CONNECTION, spec);
    drop(port);
    assert_eq!(
        post(&guest, CONNECTION, 1, b""),
        answer(HvStatus::InvalidPortId)
    );
    assert!(log.lock().unwrap().is_empty());

    let sink = EventSink::Call(Arc::new(|_| panic!("a message is not an event")));
    let _port = guest.port(2, PortSpec::Event { sink, flags: 1 });
    assert_eq!(post(&guest, 2, 1, b""), answer(HvStatus::InvalidPortId));
}

#[test]
fn post_from_within_a_handler_of_the_vmm_may_answer_at_once() {
    let guest = Guest::new(Config::new(1));
    let manager = Arc::downgrade(&guest.manager);
    let answering = move |message: crate::GuestMessage<'_>| {
        let reply = Message::new(MessageType::VMBUS, message.payload).map_err(|_| PortBusy)?;
        let manager = manager.upgrade().ok_or(PortBusy)?;
        let to = SintAddr::new(message.from, SintIndex::VMBUS);
        manager.post_message(to, &reply).map_err(|_| PortBusy)?;
        Ok(())
    };
    let _port = guest.port(
        CONNECTION,
        PortSpec::Message(MessageSink::Call(Arc::new(answering))),
    );

    assert_eq!(
        post(&guest, CONNECTION, 1, b"ping"),
        answer(HvStatus::Success)
    );

    assert_eq!(guest.read_u32(SIMP + 2 * 256 + 16).to_le_bytes(), *b"ping");
}
