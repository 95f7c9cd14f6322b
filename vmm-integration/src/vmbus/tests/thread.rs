// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! The bus with its own thread.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use super::driver::*;
use crate::vmbus::VmbusHost;
use vm_memory::{GuestAddress, GuestMemoryMmap};
use vm_synic::test_utils::MockGuest;
use vm_synic::{
    Config, Host, MessageType, SintAddr, SintIndex, SintInterrupt, SynicManager, VpIndex,
};

/// Tells the test of each interrupt, so that it can sleep until there is one.
struct Bell(Sender<SintAddr>);

impl Host for Bell {
    fn assert_sint(&self, interrupt: SintInterrupt) -> io::Result<()> {
        let _ = self.0.send(interrupt.addr);
        Ok(())
    }
}

fn start() -> (Arc<VmbusHost>, Kernel, Receiver<SintAddr>) {
    let memory = GuestMemoryMmap::from_ranges(&[(GuestAddress(0), 1 << 20)]);
    let memory = Arc::new(memory.unwrap());
    let (sender, interrupts) = channel();
    let manager = SynicManager::new(Config::new(1), memory.clone(), Arc::new(Bell(sender)));
    manager.add_vp(VpIndex::new(0)).unwrap();
    let host = Arc::<TestHost>::default();
    let period = Duration::from_millis(1);
    let bus = VmbusHost::with_heartbeat(manager.clone(), host, memory.clone(), period).unwrap();
    let heap = 0x8_0000..0x9_0000;
    let mut guest = MockGuest::new(manager, memory, VpIndex::new(0), heap);
    guest.enable_all();
    guest.unmask(SintIndex::VMBUS, 0xF3);
    (bus, guest, interrupts)
}

fn ask(guest: &Kernel, message: &[u32]) -> Vec<u32> {
    let status = guest.post(4, MessageType::VMBUS, &bytes(message));
    assert_eq!(status, Some(0));
    let replies = guest.take_messages(SintIndex::VMBUS);
    replies
        .iter()
        .map(|reply| words(reply.payload())[0])
        .collect()
}

fn connect(guest: &Kernel) {
    assert_eq!(ask(guest, &contact(V6_0, 0)), [VERSION_RESPONSE]);
    assert_eq!(ask(guest, &[REQUESTOFFERS, 0]), [OFFER, ALLOFFERS]);
    assert_eq!(ask(guest, &tl_connect(1, ECHO_PORT)), [OFFER]);
    let pages = gpadl_header(2, 9, 4, &[0, 1, 2, 3]);
    assert_eq!(ask(guest, &pages), [GPADL_CREATED]);
    assert_eq!(ask(guest, &open_channel(2, 9, 0, 2)), [OPEN_RESULT]);
}

#[test]
fn signal_of_the_guest_wakes_the_thread_and_the_echo_wakes_the_guest() {
    let (bus, guest, interrupts) = start();
    connect(&guest);
    let [upstream, downstream] =
        [[0, 1], [2, 3]].map(|frames| super::ring::GuestRing::new(&frames));
    let packet = bytes(&[1, 4, 0xABCD]);
    interrupts.try_iter().for_each(drop);
    for _ in 0..1000 {
        if upstream.write(&guest, 0, &packet).unwrap() {
            assert_eq!(guest.signal(0x1_0002, 0), Some(0));
        }
        while guest.take_flags(SintIndex::VMBUS).is_empty() {
            interrupts.recv().unwrap();
        }
        let (_, echo, _) = downstream.read(&guest).unwrap();
        assert_eq!(echo[..12], packet);
    }
    let echo = bus.report().echo;
    assert_eq!((echo.packets_in, echo.packets_out), (1000, 1000));
    assert_eq!((echo.signals_in, echo.signals_out), (1000, 1000));
}

#[test]
fn heartbeat_when_its_period_has_passed_is_sent() {
    let (bus, guest, interrupts) = start();
    connect(&guest);
    let pages = gpadl_header(1, 8, 4, &[4, 5, 6, 7]);
    assert_eq!(ask(&guest, &pages), [GPADL_CREATED]);
    assert_eq!(ask(&guest, &open_channel(1, 8, 0, 2)), [OPEN_RESULT]);
    let [upstream, downstream] =
        [[4, 5], [6, 7]].map(|frames| super::ring::GuestRing::new(&frames));
    while bus.report().heartbeat.answered < 3 {
        while guest.take_flags(SintIndex::VMBUS).is_empty() {
            interrupts.recv().unwrap();
        }
        let (transaction, mut packet, _) = downstream.read(&guest).unwrap();
        packet[25] = 5;
        // One version of each kind; or the next sequence number.
        match packet[12] {
            0 => packet[28..36].copy_from_slice(&[1, 0, 1, 0, 0, 0, 0, 0]),
            _ => packet[28] += 1,
        }
        if upstream.write(&guest, transaction, &packet).unwrap() {
            guest.signal(0x1_0001, 0);
        }
    }
}

#[test]
fn bus_when_dropped_leaves_the_manager_without_its_ports() {
    let (bus, guest, _interrupts) = start();
    connect(&guest);
    drop(bus);
    let status = guest.post(4, MessageType::VMBUS, &bytes(&contact(V6_0, 0)));
    assert_eq!(status, Some(0x12), "invalid connection id");
}
