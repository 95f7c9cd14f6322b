// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! What Linux's `hv_vmbus` does, on a mock guest.

use std::any::Any;
use std::sync::{Arc, Mutex};

use anyhow::Result;
use vm_memory::GuestMemoryMmap;
use vm_synic::test_utils::{HostCall, MockGuest, MockVm};
use vm_synic::{
    Config, ConnectionId, MessageType, PortHandle, Registration, SintAddr, SintIndex, VpIndex,
};
use vmm_sys_util::epoll::Epoll;
use vmm_sys_util::eventfd::EventFd;

use super::ring::GuestRing;
use crate::vmbus::connection::{Connection, SavedBus};
use crate::vmbus::report::{Mistake, VmbusReport};
use crate::vmbus::signal::{BusHost, Wiring};
use crate::vmbus::worker::{self, Worker};
use crate::vmbus::{listen, lock, ring_when_writable, watched_eventfd};

pub type Kernel = MockGuest<Arc<GuestMemoryMmap>>;

type Listener = Arc<dyn Fn(SintAddr) + Send + Sync>;

/// A host without a hypervisor.
#[derive(Default)]
pub struct TestHost {
    listener: Mutex<Option<Listener>>,
}

impl BusHost for TestHost {
    fn on_writable(&self, listener: Listener) {
        *self.listener.lock().unwrap() = Some(listener);
    }

    fn bind_signal(&self, _: ConnectionId, _: &EventFd) -> Result<Box<dyn Any + Send>> {
        Ok(Box::new(()))
    }
}

/// A bus, and a guest with two VPs of which the first talks.
pub struct Bench {
    pub vm: MockVm,
    pub guest: Kernel,
    pub second: Kernel,
    pub connection: Arc<Mutex<Connection>>,
    host: Arc<TestHost>,
    worker: Worker,
    _ports: Vec<(Registration, PortHandle)>,
}

impl Bench {
    /// Nobody has talked yet.
    pub fn new() -> Self {
        Self::with_queue_depth(64)
    }

    /// The same, with a SynIC that lets so many messages wait.
    pub fn with_queue_depth(queue_depth: u16) -> Self {
        let vm = MockVm::new(config(queue_depth), 2);
        let kernels = [0, 1].map(|vp| kernel(&vm, vp));
        Self::on(vm, kernels)
    }

    /// A bus on a VM whose guest is there already.
    fn on(vm: MockVm, [guest, second]: [Kernel; 2]) -> Self {
        let host = Arc::new(TestHost::default());
        let epoll = Arc::new(Epoll::new().unwrap());
        let bell = Arc::new(watched_eventfd(&epoll, worker::BELL).unwrap());
        let wiring = Wiring {
            manager: vm.manager.clone(),
            host: host.clone(),
            epoll: epoll.clone(),
        };
        let connection = Connection::new(wiring, vm.memory.clone());
        let connection = Arc::new(Mutex::new(connection));
        ring_when_writable(&*host, bell.clone());
        Self {
            guest,
            second,
            worker: Worker::new(connection.clone(), epoll, bell),
            _ports: listen(&vm.manager, &connection).unwrap(),
            vm,
            connection,
            host,
        }
    }

    /// The same guest on another bus and another manager, as after a snapshot. The old ones' ends of all
    /// that they share are lost.
    pub fn moved(self) -> Self {
        let saved = self.saved();
        self.vm.manager.pause();
        let state = self.vm.manager.save().unwrap();
        let vm = self.vm.successor(config(64));
        vm.manager.restore(&state).unwrap();
        let kernels = [self.guest, self.second].map(|guest| guest.under(vm.manager.clone()));
        let bench = Self::on(vm, kernels);
        bench.restore(&saved).unwrap();
        assert_eq!(bench.saved(), saved);
        bench.vm.manager.resume();
        for vp in [0, 1].map(VpIndex::new) {
            bench.vm.manager.pre_run(vp);
        }
        bench
    }

    /// The bus in a saved state.
    pub fn saved(&self) -> SavedBus {
        lock(&self.connection).save()
    }

    /// Puts one back.
    pub fn restore(&self, saved: &SavedBus) -> Result<()> {
        lock(&self.connection).restore(saved)
    }

    /// Connected by a version, with no offers yet.
    pub fn connected(version: u32) -> Self {
        let mut bench = Self::new();
        bench.post(&contact(version, 0));
        assert_eq!(bench.replies(), [version_response(version)]);
        bench
    }

    /// Connected, and offered the heartbeat under relid 1.
    pub fn offered() -> Self {
        let mut bench = Self::connected(V5_3);
        bench.post(&[REQUESTOFFERS, 0]);
        let replies = bench.replies();
        assert_eq!(types(&replies), [OFFER, ALLOFFERS]);
        bench
    }

    /// Posts a message as Linux does; gives the status of the hypercall.
    pub fn post(&self, words: &[u32]) -> u64 {
        self.post_bytes(&bytes(words))
    }

    pub fn post_bytes(&self, payload: &[u8]) -> u64 {
        self.guest.post(4, MessageType::VMBUS, payload).unwrap()
    }

    /// The messages that the guest has got, as words.
    pub fn replies(&mut self) -> Vec<Vec<u32>> {
        let mut replies = Vec::new();
        loop {
            let messages = self.guest.take_messages(SintIndex::VMBUS);
            self.turn();
            if messages.is_empty() {
                return replies;
            }
            replies.extend(messages.iter().map(|message| words(message.payload())));
        }
    }

    /// Posts a message and gives the answers.
    pub fn ask(&mut self, words: &[u32]) -> Vec<Vec<u32>> {
        assert_eq!(self.post(words), 0);
        self.replies()
    }

    /// Lets the bus's thread do what there is to do now.
    pub fn turn(&mut self) {
        for call in self.vm.host.take_calls() {
            if let HostCall::Writable(addr) = call {
                let listener = self.host.listener.lock().unwrap().clone();
                listener.unwrap()(addr);
            }
        }
        self.worker.turn(0).unwrap();
    }

    /// A period of the heartbeat passes.
    pub fn tick(&self) {
        lock(&self.connection).tick();
    }

    pub fn report(&self) -> VmbusReport {
        lock(&self.connection).report().clone()
    }

    /// How often a mistake was counted.
    pub fn mistakes(&self, mistake: Mistake) -> u64 {
        let report = self.report();
        report.mistakes.get(&mistake).copied().unwrap_or(0)
    }

    /// Lends pages to the host, by one message.
    pub fn lend(&mut self, relid: u32, gpadl: u32, frames: &[u32]) -> Vec<Vec<u32>> {
        let pages = frames.len() as u32;
        self.ask(&gpadl_header(relid, gpadl, pages, frames))
    }

    /// Opens a channel with rings in the pages from `first` on, as `vmbus_open` does.
    pub fn open(&mut self, relid: u32, first: u32) -> Link {
        // Not in order, so that nobody can take them for contiguous.
        let frames = [0, 5, 2, 7, 4, 1, 6, 3].map(|page| first + page);
        for frame in frames {
            self.guest.write_ram(u64::from(frame) << 12, &[0; 4096]);
        }
        let gpadl = relid + GPADL_BASE;
        assert_eq!(
            self.lend(relid, gpadl, &frames),
            [[GPADL_CREATED, 0, relid, gpadl, 0]]
        );
        let [upstream, downstream] = [&frames[..4], &frames[4..]].map(GuestRing::new);
        let opened = self.ask(&open_channel(relid, gpadl, 0, 4));
        assert_eq!(opened, [[OPEN_RESULT, 0, relid, relid, 0]]);
        Link {
            relid,
            connection: 0x1_0000 | relid,
            upstream,
            downstream,
        }
    }

    /// Connects a socket to the echo service; gives its relid.
    pub fn connect_socket(&mut self, port: u32) -> u32 {
        let replies = self.ask(&tl_connect(port, ECHO_PORT));
        assert_eq!(types(&replies), [OFFER]);
        replies[0][46]
    }

    /// The channels that have signalled the first VP.
    pub fn flags(&self) -> Vec<u16> {
        self.guest.take_flags(SintIndex::VMBUS)
    }

    /// Sends a packet, and signals the host if the protocol asks for it. False: no room.
    pub fn send(&self, link: &Link, payload: &[u8]) -> bool {
        let Some(signal) = link.upstream.write(&self.guest, 0, payload) else {
            return false;
        };
        if signal {
            assert_eq!(self.guest.signal(link.connection, 0), Some(0));
        }
        true
    }

    /// Takes a packet, and signals the host if it waits for the room.
    pub fn receive(&self, link: &Link) -> Option<Vec<u8>> {
        let (_, payload, signal) = link.downstream.read(&self.guest)?;
        if signal {
            assert_eq!(self.guest.signal(link.connection, 0), Some(0));
        }
        Some(payload)
    }
}

/// An open channel, from the guest's side.
pub struct Link {
    pub relid: u32,
    pub connection: u32,
    pub upstream: GuestRing,
    pub downstream: GuestRing,
}

fn config(queue_depth: u16) -> Config {
    Config {
        queue_depth,
        ..Config::new(2)
    }
}

fn kernel(vm: &MockVm, vp: u32) -> Kernel {
    let mut guest = vm.guest(VpIndex::new(vp));
    guest.enable_all();
    guest.unmask(SintIndex::VMBUS, 0xF3);
    guest
}

pub fn contact(version: u32, vp: u32) -> [u32; 10] {
    [INITIATE_CONTACT, 0, version, vp, 2, 0, 0, 0, 0, 0]
}

pub fn version_response(version: u32) -> Vec<u32> {
    let mut response = vec![VERSION_RESPONSE, 0, 1, 4];
    if version >= V6_0 {
        response.push(0);
    }
    response
}

pub fn gpadl_header(relid: u32, gpadl: u32, pages: u32, frames: &[u32]) -> Vec<u32> {
    let sizes = (8 + 8 * pages) | 1 << 16;
    let mut header = vec![GPADL_HEADER, 0, relid, gpadl, sizes, pages * 4096, 0];
    header.extend(frames.iter().flat_map(|frame| [*frame, 0]));
    header
}

pub fn open_channel(relid: u32, gpadl: u32, vp: u32, offset: u32) -> [u32; 37] {
    let mut open = [0; 37];
    open[..7].copy_from_slice(&[OPENCHANNEL, 0, relid, relid, gpadl, vp, offset]);
    open
}

pub fn tl_connect(port: u32, service: u32) -> [u32; 10] {
    let [a, b, c] = VSOCK;
    [TL_CONNECT, 0, port, a, b, c, service, a, b, c]
}

pub fn types(replies: &[Vec<u32>]) -> Vec<u32> {
    replies.iter().map(|reply| reply[0]).collect()
}

pub fn bytes(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

pub fn words(bytes: &[u8]) -> Vec<u32> {
    let words = bytes.chunks_exact(4);
    words
        .map(|word| u32::from_le_bytes(word.try_into().unwrap()))
        .collect()
}

pub const V2_4: u32 = 2 << 16 | 4;
pub const V5_2: u32 = 5 << 16 | 2;
pub const V5_3: u32 = 5 << 16 | 3;
pub const V6_0: u32 = 6 << 16;
pub const ECHO_PORT: u32 = 5000;
/// What follows the port in the GUID of an `AF_VSOCK` address: -facb-11e6-bd58-64006a7986d3.
pub const VSOCK: [u32; 3] = [0x11e6_facb, 0x0064_58bd, 0xd386_796a];
/// GPADL handles are relids above this.
pub const GPADL_BASE: u32 = 0xE1E10;

pub const OFFER: u32 = 1;
pub const RESCIND: u32 = 2;
pub const REQUESTOFFERS: u32 = 3;
pub const ALLOFFERS: u32 = 4;
pub const OPENCHANNEL: u32 = 5;
pub const OPEN_RESULT: u32 = 6;
pub const CLOSECHANNEL: u32 = 7;
pub const GPADL_HEADER: u32 = 8;
pub const GPADL_BODY: u32 = 9;
pub const GPADL_CREATED: u32 = 10;
pub const GPADL_TEARDOWN: u32 = 11;
pub const GPADL_TORNDOWN: u32 = 12;
pub const RELID_RELEASED: u32 = 13;
pub const INITIATE_CONTACT: u32 = 14;
pub const VERSION_RESPONSE: u32 = 15;
pub const UNLOAD: u32 = 16;
pub const UNLOAD_RESPONSE: u32 = 17;
pub const TL_CONNECT: u32 = 21;
pub const MODIFYCHANNEL: u32 = 22;
pub const TL_RESULT: u32 = 23;
pub const MODIFY_RESPONSE: u32 = 24;
pub const FAILED: u32 = 0xC000_0001;
