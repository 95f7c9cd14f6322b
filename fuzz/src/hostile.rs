// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! A saved state that somebody has tampered with.

use crate::action::{body, sint};
use crate::op::Op;
use crate::world::World;
use vm_synic::state::{LedgerState, QueueState, RingState, State, SynicState};
use vm_synic::{EventFlag, Message, MessageType, PortId, VpIndex};

impl World {
    /// Changes one thing in the saved state and restores it: it is accepted or refused, and the
    /// manager works on.
    pub fn restore_hostile(&mut self, op: &Op) {
        self.is_orderly = false;
        self.is_forged = true;
        self.touched = u64::MAX;
        self.pause();
        let mut state = self.manager.save().expect("paused");
        tamper(&mut state, op);
        if op.small & 0x80 != 0 {
            self.replace_manager();
        }
        if let Err(error) = self.manager.restore(&state) {
            let _ = error.to_string();
        }
        // A state that is refused at first sight leaves a new manager running.
        self.pause();
        self.manager.save().expect("paused");
        self.resume();
    }
}

fn tamper(state: &mut State, op: &Op) {
    match op.small & 0x7F {
        0 => state.version = op.number,
        1 => state.guest_os_id = op.value,
        2 => state.hypercall = op.value,
        3 => state.vps.reverse(),
        4 => state.vps.extend(state.vps.first().cloned()),
        5 => state.vps.truncate(op.number as usize % 3),
        choice => {
            let count = state.vps.len().max(1);
            let Some(vp) = state.vps.get_mut(usize::from(op.vp) % count) else {
                return;
            };
            match choice {
                6 => vp.index = VpIndex::new(op.number),
                7 => vp.nested = vp.nested.is_none().then(|| vp.plain.clone()),
                8 => tamper_ledger(&mut vp.ledger, op),
                _ => tamper_synic(&mut vp.plain, choice - 9, op),
            }
        }
    }
}

fn tamper_synic(synic: &mut SynicState, choice: u8, op: &Op) {
    let index = usize::from(op.sint % 16);
    match choice % 13 {
        0 => synic.scontrol = op.value,
        1 => synic.siefp = op.value,
        2 => synic.simp = op.value,
        3 => synic.sirbp = op.value,
        4 => synic
            .sints
            .iter_mut()
            .skip(index)
            .take(1)
            .for_each(|sint| *sint = op.value),
        5 => synic.sints.resize(op.number as usize % 33, op.value),
        6 => synic.counters.truncate(index),
        7 => tamper_counters(synic, index, op),
        8 => synic.eoms = op.value,
        9 => synic.queues.push(queue(op)),
        10 => synic.rings.push(ring(op)),
        11 => synic.held_events.extend(held(op)),
        _ => synic.queues.extend(synic.queues.clone()),
    }
}

fn tamper_ledger(ledger: &mut LedgerState, op: &Op) {
    ledger.entries.extend(ledger.entries.clone());
    ledger.violations.extend(ledger.entries.clone());
    ledger.evicted = op.value;
    ledger.violation_count = op.other;
}

/// Counters that are about to overflow.
fn tamper_counters(synic: &mut SynicState, index: usize, op: &Op) {
    let Some(counters) = synic.counters.get_mut(index) else {
        return;
    };
    let (message, ring) = (&mut counters.messages, &mut counters.ring);
    let (event, interrupt) = (&mut counters.events, &mut counters.interrupts);
    let fields = [
        &mut message.posted,
        &mut message.delivered,
        &mut message.queued,
        &mut message.waiting,
        &mut message.busy,
        &mut message.redelivered,
        &mut message.dropped.masked,
        &mut message.dropped.full,
        &mut message.dropped.reset,
        &mut event.fresh,
        &mut event.coalesced,
        &mut event.refused,
        &mut event.held,
        &mut ring.rung,
        &mut ring.entered,
        &mut ring.coalesced,
        &mut ring.held,
        &mut ring.waiting,
        &mut ring.reclaimed,
        &mut ring.forgotten,
        &mut ring.notices,
        &mut ring.ring_empty,
        &mut interrupt.raised,
        &mut interrupt.muted,
        &mut interrupt.failed,
    ];
    for (at, field) in fields.into_iter().enumerate() {
        if op.other >> at & 1 != 0 {
            *field = op.value;
        }
    }
}

fn queue(op: &Op) -> QueueState {
    let message_type = MessageType::new(op.value as u32).unwrap_or(MessageType::VMBUS);
    let message = |number| Message::new(message_type, &body(number)).expect("at most 240 bytes");
    QueueState {
        sint: sint(op),
        messages: (0..u64::from(op.number % 600)).map(message).collect(),
        has_refused: op.other & 1 != 0,
    }
}

fn ring(op: &Op) -> RingState {
    let ports = (0..op.number % 64).filter_map(|port| PortId::new(port + op.value as u32 % 128));
    RingState {
        sint: sint(op),
        head: op.other as u8,
        unread: (op.other >> 8) as u8,
        waiting: ports.collect(),
    }
}

fn held(op: &Op) -> impl Iterator<Item = (vm_synic::SintIndex, EventFlag)> {
    let sint = sint(op);
    let flags = (0..op.number as u16 % 2048).filter_map(EventFlag::new);
    flags.map(move |flag| (sint, flag))
}
