// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! A partition of /dev/mshv, on a double of its file descriptor that makes no system call: what is
//! measured is all that comes before and after one.
//!
//! The floor is the same request on a block that is filled in already but for what is new in it; of
//! an exit, a lookup in a map of the same size that nobody else can change.

use crate::hypercalls::{PORTS, SIGNAL_EVENT_FAST, ports};
use crate::messages::message;
use crate::rig::{Bell, VMBUS};
use crate::table::{Table, What};
use mshv_bindings::{
    hv_message, hv_message__bindgen_ty_1, mshv_user_ioeventfd, mshv_user_irq_entry, mshv_user_irqfd,
};
use std::collections::HashMap;
use std::hint::black_box;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use vm_memory::{GuestAddress, GuestMemoryMmap};
use vm_synic::backend::mshv::{
    CallError, Hvcall, HypercallAnswer, MshvPartition, PartitionCalls, Served, handle_exit,
};
use vm_synic::{Config, EventFlag, EventSink, PortSpec, Posted, SynicManager};

pub fn rows(table: &mut Table) {
    post(table);
    signal(table);
    exit(table);
}

/// The cheapest hypervisor there can be: it counts what it is asked, and agrees.
#[derive(Default)]
struct Silent(AtomicU64);

impl PartitionCalls for Silent {
    fn hvcall(&self, call: Hvcall<'_>) -> Result<(), CallError> {
        black_box(call.input);
        self.0.fetch_add(1, Ordering::Relaxed);
        if let Some(newly_signaled) = call.output.first_mut() {
            *newly_signaled = 1;
        }
        Ok(())
    }

    fn ioeventfd(&self, _: &mshv_user_ioeventfd) -> Result<(), CallError> {
        unreachable!()
    }

    fn irqfd(&self, _: &mshv_user_irqfd) -> Result<(), CallError> {
        unreachable!()
    }

    fn set_msi_routing(&self, _: &[mshv_user_irq_entry]) -> Result<(), CallError> {
        unreachable!()
    }
}

fn manager() -> Arc<SynicManager<Arc<GuestMemoryMmap>>> {
    let memory = GuestMemoryMmap::from_ranges(&[(GuestAddress(0), 0x1000)]).unwrap();
    let partition = MshvPartition::new(Arc::new(Silent::default()));
    let manager = SynicManager::of_partition(
        Config::new(2),
        Arc::new(memory),
        Arc::new(Bell::new(1)),
        Arc::new(partition),
    );
    manager.add_vp(VMBUS.vp).unwrap();
    manager
}

fn post(table: &mut Table) {
    let manager = manager();
    let (message, bytes) = message(240);
    let ours = || {
        let posted = manager.post_message(black_box(VMBUS), black_box(&message));
        assert_eq!(posted, Ok(Posted::Delivered));
    };
    let calls: &dyn PartitionCalls = &Silent::default();
    let mut block = [0; 280];
    block[16] = VMBUS.sint.get();
    let floor = || {
        block[20..276].copy_from_slice(black_box(&bytes));
        let posted = black_box(calls).hvcall(Hvcall {
            code: POST_MESSAGE_DIRECT,
            reps: 0,
            input: &block,
            output: &mut [],
        });
        assert_eq!(posted, Ok(()));
    };
    table.row(What::new("mshv: post 240 bytes", 0), ours, floor);
}

fn signal(table: &mut Table) {
    let manager = manager();
    let flag = EventFlag::new(5).unwrap();
    let ours = || {
        let fresh = manager.signal_event(black_box(VMBUS), black_box(flag));
        assert_eq!(fresh, Ok(true));
    };
    let calls: &dyn PartitionCalls = &Silent::default();
    let mut block = [0; 16];
    block[13] = VMBUS.sint.get();
    let floor = || {
        block[14] = black_box(5);
        let mut output = [0; 8];
        let signalled = black_box(calls).hvcall(Hvcall {
            code: SIGNAL_EVENT_DIRECT,
            reps: 0,
            input: &block,
            output: &mut output,
        });
        assert_eq!((signalled, output[0]), (Ok(()), 1));
    };
    table.row(What::new("mshv: signal a flag", 0), ours, floor);
}

/// The register page of a VP.
#[derive(Default)]
struct Registers {
    rip: u64,
    rax: u64,
}

impl HypercallAnswer for Registers {
    fn complete(&mut self, rip: u64, rax: u64) -> io::Result<()> {
        *self = Self { rip, rax };
        Ok(())
    }
}

fn exit(table: &mut Table) {
    let manager = manager();
    let heard = Arc::new(AtomicU64::new(0));
    let handler: Arc<dyn Fn(u16) + Send + Sync> = {
        let heard = heard.clone();
        Arc::new(move |flag| {
            heard.fetch_add(flag.into(), Ordering::Relaxed);
        })
    };
    let sink = EventSink::Call(handler.clone());
    let _ports = ports(&manager, PortSpec::Event { sink, flags: 16 });
    let handlers: HashMap<_, _> = (1..=PORTS).map(|id| (id, handler.clone())).collect();
    let ids = || (1..=PORTS).step_by(16).cycle();
    let messages: Vec<_> = ids().take(16).map(signal_event).collect();
    let mut messages = messages.iter().cycle();
    let mut registers = Registers::default();
    let ours = || {
        let message = black_box(messages.next().unwrap());
        let served = handle_exit(&manager, VMBUS.vp, message, &mut registers, |_| 2);
        assert_eq!(served.unwrap(), Served::Done);
        assert_eq!((registers.rip, registers.rax), (RIP + 3, 0));
    };
    let mut ids = ids();
    let mut registers = Registers::default();
    let floor = || {
        let handler = handlers.get(&black_box(ids.next().unwrap()));
        handler.map(|handler| handler(3)).unwrap();
        black_box(&mut registers).complete(RIP + 3, 0).unwrap();
    };
    let what = What::new("mshv: exit of HvSignalEvent, 256 ports", 0);
    table.row(what, ours, floor);
}

/// The exit of a fast HvSignalEvent, flag 3: a VMCALL of 3 bytes in 64-bit mode.
fn signal_event(connection: u32) -> hv_message {
    let mut payload = [0; 30];
    payload[0] = 3 << 32 | 1 << 52;
    payload[3] = RIP;
    payload[7] = SIGNAL_EVENT_FAST;
    payload[8] = u64::from(connection) | 3 << 32;
    let mut message = hv_message {
        u: hv_message__bindgen_ty_1 { payload },
        ..Default::default()
    };
    message.header.message_type = 0x8000_0050;
    message.header.payload_size = 200;
    message
}

const RIP: u64 = 0x1000;
const SIGNAL_EVENT_DIRECT: u16 = 0xC0;
const POST_MESSAGE_DIRECT: u16 = 0xC1;
