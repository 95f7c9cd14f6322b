// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! `HvSignalEvent`.

use super::*;
use crate::routing::{EventSink, MessageSink};
use std::sync::Mutex;
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

const SIGNAL: u64 = SIGNAL_EVENT as u64;
const CONNECTION: u32 = 1;

fn recorder(flags: u16) -> (Arc<Mutex<Vec<u16>>>, PortSpec) {
    let log = Arc::<Mutex<Vec<u16>>>::default();
    let into = log.clone();
    let sink = EventSink::Call(Arc::new(move |flag| into.lock().unwrap().push(flag)));
    (log, PortSpec::Event { sink, flags })
}

fn to_sint(vp: u32, base: u16, flags: u16) -> PortSpec {
    let addr = SintAddr::new(VpIndex::new(vp), SintIndex::VMBUS);
    let sink = EventSink::Sint { addr, base };
    PortSpec::Event { sink, flags }
}

fn signal(guest: &Guest, connection: u32, flag: u16) -> Option<u64> {
    let input = u64::from(connection) | u64::from(flag) << 32;
    guest.call(SIGNAL | FAST, input)
}

#[test]
fn signal_to_a_handler_gives_it_the_flag_whatever_the_form() {
    let guest = Guest::new(Config::new(1));
    let (log, spec) = recorder(8);
    let _port = guest.port(CONNECTION, spec);

    assert_eq!(signal(&guest, CONNECTION, 7), answer(HvStatus::Success));
    guest.write(INPUT, &(u64::from(CONNECTION) | 3 << 32).to_le_bytes());
    assert_eq!(guest.call(SIGNAL, INPUT), answer(HvStatus::Success));

    assert_eq!(log.lock().unwrap()[..], [7, 3]);
}

#[test]
fn signal_to_an_eventfd_counts() {
    let guest = Guest::new(Config::new(1));
    let fd = Arc::new(EventFd::new(EFD_NONBLOCK).unwrap());
    let sink = EventSink::Fd(fd.clone());
    let _port = guest.port(CONNECTION, PortSpec::Event { sink, flags: 1 });
    assert_eq!(signal(&guest, CONNECTION, 0), answer(HvStatus::Success));
    assert_eq!(signal(&guest, CONNECTION, 0), answer(HvStatus::Success));
    assert_eq!(fd.read().unwrap(), 2);
}

#[test]
fn signal_to_a_sint_sets_the_flag_from_the_ports_base() {
    let guest = Guest::new(Config::new(1));
    let _port = guest.port(CONNECTION, to_sint(0, 64, 8));
    assert_eq!(signal(&guest, CONNECTION, 5), answer(HvStatus::Success));
    assert_eq!(guest.read_u32(SIEFP + 2 * 256 + 8), 1 << 5);
}

#[test]
fn signal_of_a_flag_beyond_the_port_or_the_page_is_an_invalid_parameter() {
    let guest = Guest::new(Config::new(1));
    let port = guest.port(CONNECTION, to_sint(0, 2040, 16));
    assert_eq!(signal(&guest, CONNECTION, 7), answer(HvStatus::Success));
    for flag in [8, 15, 16, u16::MAX] {
        let called = signal(&guest, CONNECTION, flag);
        assert_eq!(called, answer(HvStatus::InvalidParameter), "flag {flag}");
    }
    drop(port);
    let _port = guest.port(CONNECTION, to_sint(0, u16::MAX, u16::MAX));
    assert_eq!(
        signal(&guest, CONNECTION, 1),
        answer(HvStatus::InvalidParameter)
    );
}

#[test]
fn signal_to_a_sint_that_is_not_ready_or_not_there_is_refused() {
    let guest = Guest::new(Config::new(2));
    let port = guest.port(CONNECTION, to_sint(0, 0, 1));
    guest.manager.write_msr(VP, 0x4000_0082, 0).unwrap();
    assert_eq!(
        signal(&guest, CONNECTION, 0),
        answer(HvStatus::InvalidSynicState)
    );
    drop(port);
    let _port = guest.port(CONNECTION, to_sint(1, 0, 1));
    assert_eq!(
        signal(&guest, CONNECTION, 0),
        answer(HvStatus::InvalidVpIndex)
    );
}

#[test]
fn signal_with_a_bad_control_word_is_refused() {
    let guest = Guest::new(Config::new(1));
    let (log, spec) = recorder(1);
    let _port = guest.port(CONNECTION, spec);
    for (what, bits) in BAD_SIMPLE_CONTROLS {
        let called = guest.call(SIGNAL | FAST | bits, CONNECTION.into());
        assert_eq!(called, answer(HvStatus::InvalidHypercallInput), "{what}");
    }
    assert!(log.lock().unwrap().is_empty());
}

#[test]
fn signal_to_the_hypervisor_below_is_ours_in_a_nested_configuration() {
    let guest = Guest::new(Config {
        nested: true,
        ..Config::new(1)
    });
    let (log, spec) = recorder(1);
    let _port = guest.port(CONNECTION, spec);
    let called = guest.call(SIGNAL | FAST | NESTED, CONNECTION.into());
    assert_eq!(called, answer(HvStatus::Success));
    assert_eq!(log.lock().unwrap()[..], [0]);
}

#[test]
fn signal_from_a_block_that_is_unaligned_or_no_ram_is_refused() {
    let guest = Guest::new(Config::new(1));
    let (_log, spec) = recorder(1);
    let _port = guest.port(CONNECTION, spec);
    for block in [INPUT + 4, INPUT + 1, 0x1FFC, RAM_END, u64::MAX] {
        let called = guest.call(SIGNAL, block);
        assert_eq!(called, answer(HvStatus::InvalidAlignment), "{block:#x}");
    }
    guest.write(0x1FF8, &u64::from(CONNECTION).to_le_bytes());
    assert_eq!(guest.call(SIGNAL, 0x1FF8), answer(HvStatus::Success));
}

#[test]
fn signal_with_reserved_bits_in_its_input_is_refused() {
    let guest = Guest::new(Config::new(1));
    let (log, spec) = recorder(1);
    let _port = guest.port(CONNECTION, spec);
    for bits in [1 << 48, 1 << 63, 1 << 24, 1 << 31] {
        let called = guest.call(SIGNAL | FAST, u64::from(CONNECTION) | bits);
        assert_eq!(called, answer(HvStatus::InvalidHypercallInput), "{bits:#x}");
    }
    assert!(log.lock().unwrap().is_empty());
}

#[test]
fn signal_without_the_privilege_is_denied() {
    let guest = Guest::new(Config {
        may_signal_events: false,
        ..Config::new(1)
    });
    let (_log, spec) = recorder(1);
    let _port = guest.port(CONNECTION, spec);
    assert_eq!(
        signal(&guest, CONNECTION, 0),
        answer(HvStatus::AccessDenied)
    );
}

#[test]
fn signal_to_no_connection_or_a_port_that_is_gone_or_takes_messages_is_refused() {
    let guest = Guest::new(Config::new(1));
    assert_eq!(signal(&guest, 2, 0), answer(HvStatus::InvalidConnectionId));
    let (log, spec) = recorder(1);
    let (port, _connection) = guest.port(CONNECTION, spec);
    drop(port);
    assert_eq!(
        signal(&guest, CONNECTION, 0),
        answer(HvStatus::InvalidPortId)
    );
    assert!(log.lock().unwrap().is_empty());

    let handler = |_: crate::GuestMessage<'_>| panic!("an event is not a message");
    let _port = guest.port(2, PortSpec::Message(MessageSink::Call(Arc::new(handler))));
    assert_eq!(signal(&guest, 2, 0), answer(HvStatus::InvalidPortId));
}
