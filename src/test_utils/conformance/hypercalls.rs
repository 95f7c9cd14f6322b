// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! The guest's hypercalls, and the ports that hear of them.

use super::{Guest, Machine, Named, named};
use crate::abi::{ConnectionId, PortId, SintIndex};
use crate::manager::PortHandle;
use crate::routing::{EventSink, MessageSink, PortBusy, PortSpec, Registration};
use crate::sync::lock;
use std::sync::{Arc, Mutex};

pub(super) fn cases<M: Machine>() -> Vec<Named<M>> {
    named![
        hypercall_that_posts_reaches_its_port_with_all_of_the_message,
        hypercall_that_posts_to_a_busy_port_may_try_again,
        hypercall_that_posts_to_nobody_is_refused,
        hypercall_that_posts_too_much_is_refused,
        hypercall_that_signals_reaches_its_port_with_the_flag,
        hypercall_that_signals_a_flag_beyond_the_port_is_refused,
        hypercall_that_signals_nobody_is_refused,
        hypercall_to_a_deleted_port_is_refused,
        hypercall_that_posts_to_a_sint_arrives_there,
        hypercall_of_another_kind_is_not_the_synics,
    ]
}

/// What ports have heard: VP, number (type or flag) and payload.
type Heard = Arc<Mutex<Vec<(u32, u32, Vec<u8>)>>>;

fn connect<M: Machine>(machine: &M, id: u32, spec: PortSpec) -> (PortHandle, Registration) {
    let port = PortId::new(id).expect("24 bits");
    let port = machine.manager().create_port(port, spec);
    let port = port.expect("the port is new");
    let connection = ConnectionId::new(CONNECTION + id).expect("24 bits");
    let connected = machine.manager().connect(connection, &port);
    (port, connected.expect("the connection is new"))
}

/// A port for messages that takes `room` of them.
fn message_port(heard: &Heard, room: usize) -> PortSpec {
    let heard = heard.clone();
    PortSpec::Message(MessageSink::Call(Arc::new(move |message| {
        let mut heard = lock(&heard);
        if heard.len() == room {
            return Err(PortBusy);
        }
        let message_type = message.message_type.get();
        heard.push((message.from.get(), message_type, message.payload.to_vec()));
        Ok(())
    })))
}

fn event_port(heard: &Heard, flags: u16) -> PortSpec {
    let heard = heard.clone();
    let sink = EventSink::Call(Arc::new(move |flag| {
        lock(&heard).push((0, u32::from(flag), Vec::new()));
    }));
    PortSpec::Event { sink, flags }
}

fn hypercall_that_posts_reaches_its_port_with_all_of_the_message<M: Machine>(machine: &mut M) {
    let guest = Guest::start(machine, 1);
    let heard = Heard::default();
    let _port = connect(machine, 1, message_port(&heard, 9));
    let longest: Vec<u8> = (0..240).collect();
    assert_eq!(guest.post(machine, CONNECTION + 1, &longest), SUCCESS);
    assert_eq!(guest.post(machine, CONNECTION + 1, &[]), SUCCESS);
    assert_eq!(*lock(&heard), [(1, 1, longest), (1, 1, vec![])]);
}

fn hypercall_that_posts_to_a_busy_port_may_try_again<M: Machine>(machine: &mut M) {
    let guest = Guest::start(machine, 0);
    let heard = Heard::default();
    let _port = connect(machine, 1, message_port(&heard, 1));
    assert_eq!(guest.post(machine, CONNECTION + 1, &[1]), SUCCESS);
    assert_eq!(
        guest.post(machine, CONNECTION + 1, &[2]),
        INSUFFICIENT_BUFFERS
    );
    lock(&heard).clear();
    assert_eq!(guest.post(machine, CONNECTION + 1, &[2]), SUCCESS);
    assert_eq!(*lock(&heard), [(0, 1, vec![2])]);
}

fn hypercall_that_posts_to_nobody_is_refused<M: Machine>(machine: &mut M) {
    let guest = Guest::start(machine, 0);
    assert_eq!(guest.post(machine, CONNECTION, &[1]), INVALID_CONNECTION_ID);
}

fn hypercall_that_posts_too_much_is_refused<M: Machine>(machine: &mut M) {
    let guest = Guest::start(machine, 0);
    let heard = Heard::default();
    let _port = connect(machine, 1, message_port(&heard, 9));
    let result = guest.post(machine, CONNECTION + 1, &[0; 241]);
    assert_eq!(result, INVALID_PARAMETER);
    assert_eq!(lock(&heard).len(), 0);
}

fn hypercall_that_signals_reaches_its_port_with_the_flag<M: Machine>(machine: &mut M) {
    let guest = Guest::start(machine, 0);
    let heard = Heard::default();
    let _port = connect(machine, 1, event_port(&heard, 4));
    for flag in [0, 3] {
        assert_eq!(guest.signal(machine, CONNECTION + 1, flag), SUCCESS);
    }
    assert_eq!(*lock(&heard), [(0, 0, vec![]), (0, 3, vec![])]);
}

fn hypercall_that_signals_a_flag_beyond_the_port_is_refused<M: Machine>(machine: &mut M) {
    let guest = Guest::start(machine, 0);
    let heard = Heard::default();
    let _port = connect(machine, 1, event_port(&heard, 4));
    assert_eq!(guest.signal(machine, CONNECTION + 1, 4), INVALID_PARAMETER);
    assert_eq!(lock(&heard).len(), 0);
}

fn hypercall_that_signals_nobody_is_refused<M: Machine>(machine: &mut M) {
    let guest = Guest::start(machine, 0);
    assert_eq!(guest.signal(machine, CONNECTION, 0), INVALID_CONNECTION_ID);
}

fn hypercall_to_a_deleted_port_is_refused<M: Machine>(machine: &mut M) {
    let guest = Guest::start(machine, 0);
    let heard = Heard::default();
    let (port, _connected) = connect(machine, 1, message_port(&heard, 9));
    drop(port);
    assert_eq!(guest.post(machine, CONNECTION + 1, &[1]), INVALID_PORT_ID);
    assert_eq!(lock(&heard).len(), 0);
}

fn hypercall_that_posts_to_a_sint_arrives_there<M: Machine>(machine: &mut M) {
    let [guest, other] = [0, 1].map(|vp| Guest::start(machine, vp));
    let spec = PortSpec::Message(MessageSink::Sint(other.addr()));
    let _port = connect(machine, 1, spec);
    assert_eq!(guest.post(machine, CONNECTION + 1, &[9]), SUCCESS);
    machine.settle();
    let taken = other.take(machine, SintIndex::VMBUS);
    assert_eq!(
        taken.map(|message| message.payload().to_vec()),
        Some(vec![9])
    );
}

fn hypercall_of_another_kind_is_not_the_synics<M: Machine>(machine: &mut M) {
    let guest = Guest::start(machine, 0);
    // A code that the TLFS gives to no call.
    let input = crate::HypercallInput {
        control: 0x7FFF,
        ..Default::default()
    };
    assert_eq!(machine.hypercall(guest.vp, input), INVALID_HYPERCALL_CODE);
}

const CONNECTION: u32 = 0x40;
const SUCCESS: u64 = 0;
const INVALID_HYPERCALL_CODE: u64 = 0x02;
const INVALID_PARAMETER: u64 = 0x05;
const INVALID_PORT_ID: u64 = 0x11;
const INVALID_CONNECTION_ID: u64 = 0x12;
const INSUFFICIENT_BUFFERS: u64 = 0x13;
