// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! What the guest asks for: hypercalls to ports, and writes to doorbells.
//!
//! The floor of both is a lookup in a map of the same size that nobody else can change.

use crate::rig::{Page, Rig, VMBUS, gpa};
use crate::table::{Table, What};
use std::collections::HashMap;
use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use vm_memory::{Bytes, GuestMemoryMmap};
use vm_synic::{
    ConnectionId, DoorbellSink, DoorbellSpec, DoorbellTarget, EventSink, HypercallInput,
    MessageSink, PortHandle, PortId, PortSpec, Registration, SintIndex, SynicManager, VpIndex,
};

type Manager = SynicManager<Arc<GuestMemoryMmap>>;

pub fn rows(table: &mut Table) {
    signal_event(table);
    post_message(table);
    doorbell(table, What::new("doorbell among 1", 0), 1);
    doorbell(table, What::new("doorbell among 100", 0), 100);
    doorbell(table, What::new("doorbell among 10,000", 0), 10_000);
}

fn signal_event(table: &mut Table) {
    let rig: Rig = Rig::new(1);
    let heard = Arc::new(AtomicU64::new(0));
    let handler: Arc<dyn Fn(u16) + Send + Sync> = {
        let heard = heard.clone();
        Arc::new(move |flag| {
            heard.fetch_add(flag.into(), Ordering::Relaxed);
        })
    };
    let sink = EventSink::Call(handler.clone());
    let _ports = ports(&rig.manager, PortSpec::Event { sink, flags: 16 });
    let handlers: HashMap<_, _> = (1..=PORTS).map(|id| (id, handler.clone())).collect();
    let mut id = 0;
    let ours = || {
        id = id % PORTS + 1;
        let input = HypercallInput {
            control: SIGNAL_EVENT_FAST,
            input: u64::from(id) | 3 << 32,
            output: 0,
        };
        let status = rig.manager.hypercall(VMBUS.vp, black_box(input));
        assert_eq!(status, Some(0));
    };
    let mut id = 0;
    let floor = || {
        id = id % PORTS + 1;
        let handler = handlers.get(&black_box(id));
        handler.map(|handler| handler(3)).unwrap();
    };
    let what = What::new("HvSignalEvent, 256 ports", 0).openvmm("29.0");
    table.row(what, ours, floor);
}

fn post_message(table: &mut Table) {
    let rig: Rig = Rig::new(1);
    let heard = Arc::new(AtomicU64::new(0));
    let sink = {
        let heard = heard.clone();
        MessageSink::Call(Arc::new(move |message| {
            heard.fetch_add(message.payload.len() as u64, Ordering::Relaxed);
            Ok(())
        }))
    };
    let _ports = ports(&rig.manager, PortSpec::Message(sink));
    let block = rig.area(VMBUS, Page::Input);
    let block = block.subslice(0, 256).unwrap();
    block.write_obj([77u32, 0, 1, 240], 0).unwrap();
    let input = HypercallInput {
        control: POST_MESSAGE,
        input: gpa(VMBUS.vp, Page::Input) + u64::from(VMBUS.sint.get()) * 256,
        output: 0,
    };
    let ours = || {
        let status = rig.manager.hypercall(VMBUS.vp, black_box(input));
        assert_eq!(status, Some(0));
    };
    let handler = |message: &[u8; 256]| {
        heard.fetch_add(black_box(message)[12].into(), Ordering::Relaxed);
    };
    let handlers: HashMap<_, _> = (1..=PORTS).map(|id| (id, handler)).collect();
    let floor = || {
        let mut message = [0; 256];
        block.copy_to(&mut message);
        let handler = handlers.get(&u32::from(message[0]));
        handler.map(|handler| handler(&message)).unwrap();
    };
    let what = What::new("HvPostMessage of 240 bytes, 256 ports", 0).openvmm("30.7");
    // That figure starts with the message in hand; ours reads it from guest memory.
    table.row(what, ours, floor);
}

/// The doorbells lead to a VP that is not plugged in: what is measured ends where one is found.
fn doorbell(table: &mut Table, what: What, count: u64) {
    let rig: Rig = Rig::new(1);
    let sink = DoorbellSink::Ring {
        target: DoorbellTarget::Vp(VpIndex::new(1)),
        sint: SintIndex::DOORBELL,
        port: PortId::new(1).unwrap(),
    };
    let addresses = |index: u64| 0xFE00_0000 + index * 4;
    let _doorbells: Vec<Registration> = (0..count)
        .map(|index| DoorbellSpec::at(addresses(index)))
        .map(|spec| rig.manager.add_doorbell(spec, sink.clone()).unwrap())
        .collect();
    let map: HashMap<u64, u32> = (0..count).map(|index| (addresses(index), 1)).collect();
    let mut index = 0;
    let ours = || {
        index = (index + STRIDE) % count;
        assert!(rig.manager.mmio_write(black_box(addresses(index)), &[0; 4]));
    };
    let mut index = 0;
    let floor = || {
        index = (index + STRIDE) % count;
        assert_eq!(map.get(&black_box(addresses(index))), Some(&1));
    };
    table.row(what, ours, floor);
}

/// A port, with as many connections as a busy guest has.
pub fn ports(manager: &Manager, spec: PortSpec) -> (PortHandle, Vec<Registration>) {
    let port = manager.create_port(PortId::new(1).unwrap(), spec).unwrap();
    let connections = (1..=PORTS)
        .filter_map(ConnectionId::new)
        .map(|id| manager.connect(id, &port).unwrap())
        .collect();
    (port, connections)
}

pub const PORTS: u32 = 256;
/// Coprime to the sizes of the tables, so that every doorbell has its turn.
const STRIDE: u64 = 37;
const POST_MESSAGE: u64 = 0x5C;
pub const SIGNAL_EVENT_FAST: u64 = 0x1_005D;
