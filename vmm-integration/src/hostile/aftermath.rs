// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! Whether the manager still works when the guest is gone: after a reset, a fresh VP brings up its
//! SynIC and gets a message, an event and a doorbell.

use anyhow::{Context, Result, ensure};
use vm_memory::{Bytes, GuestAddress};
use vm_synic::{
    DoorbellTarget, EventFlag, Message, MessageType, PortId, SintAddr, SintIndex, VpIndex,
};

use super::fuzz_protocol::ARENA_GPA;
use crate::memory::Memory;
use crate::vm::Manager;

/// Tries it. No vCPU may run any more.
///
/// # Errors
/// What does not work.
pub fn check(manager: &Manager, memory: &Memory) -> Result<()> {
    manager.reset();
    let vp = VpIndex::new(0);
    manager.remove_vp(vp).context("Cannot unplug VP 0")?;
    manager.add_vp(vp).context("Cannot plug VP 0 in again")?;
    bring_up(manager, vp)?;
    deliver(manager, vp)?;
    manager.pre_run(vp);
    let vmbus = SintIndex::VMBUS.index() as u64 * 256;
    let doorbell = SintIndex::DOORBELL.index() as u64 * 256;
    let found = [
        memory.read_obj::<u32>(GuestAddress(SIMP + vmbus))?,
        memory.read_obj::<u32>(GuestAddress(SIEFP + vmbus))?,
        memory.read_obj::<u32>(GuestAddress(SIRBP + doorbell + 4))?,
    ];
    let expected = [MessageType::VMBUS.get(), 1 << FLAG, PORT];
    ensure!(
        found == expected,
        "A fresh VP found message, flag and ring entry {found:x?}, not {expected:x?}"
    );
    Ok(())
}

fn bring_up(manager: &Manager, vp: VpIndex) -> Result<()> {
    let writes = [
        (0x4000_0083, SIMP | 1),
        (0x4000_0082, SIEFP | 1),
        (0x4000_0085, SIRBP | 1),
        (0x4000_0092, 0xF3),
        (0x4000_0095, 0xF3),
        (0x4000_0080, 1),
    ];
    for (msr, value) in writes {
        let written = manager.write_msr(vp, msr, value);
        written.with_context(|| format!("A fresh VP cannot write {value:#x} to MSR {msr:#x}"))?;
    }
    Ok(())
}

fn deliver(manager: &Manager, vp: VpIndex) -> Result<()> {
    let vmbus = SintAddr::new(vp, SintIndex::VMBUS);
    let flag = EventFlag::new(FLAG).context("Not an event flag")?;
    let message = Message::new(MessageType::VMBUS, b"still here")?;
    let (target, port) = (DoorbellTarget::Vp(vp), PortId::try_from(PORT)?);
    manager.post_message(vmbus, &message)?;
    manager.signal_event(vmbus, flag)?;
    manager.ring_doorbell(target, SintIndex::DOORBELL, port)?;
    Ok(())
}

const SIMP: u64 = ARENA_GPA;
const SIEFP: u64 = ARENA_GPA + 0x1000;
const SIRBP: u64 = ARENA_GPA + 0x2000;
const FLAG: u16 = 7;
const PORT: u32 = 77;
