// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! A paused manager stays paused, even if a VP's thread comes by.

use std::sync::Arc;

use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};
use vm_synic::{
    Config, Host, Message, MessageType, MessageWriter, SintAddr, SintIndex, SintInterrupt,
    SynicManager, VpIndex,
};

struct Quiet;

impl Host for Quiet {
    fn assert_sint(&self, _interrupt: SintInterrupt) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn pre_run_while_paused_writes_nothing_and_after_the_resume_all() {
    let memory = GuestMemoryMmap::<()>::from_ranges(&[(GuestAddress(0), 0x4000)]).unwrap();
    let memory = Arc::new(memory);
    let config = Config {
        message_writer: MessageWriter::VpThread,
        ..Config::new(1)
    };
    let manager = SynicManager::new(config, memory.clone(), Arc::new(Quiet));
    let vp = VpIndex::new(0);
    manager.add_vp(vp).unwrap();
    for (msr, value) in [(0x4000_0083, 0x1001), (0x4000_0092, 0xF3), (0x4000_0080, 1)] {
        manager.write_msr(vp, msr, value).unwrap();
    }
    let vmbus = SintAddr::new(vp, SintIndex::VMBUS);
    let message = Message::new(MessageType::VMBUS, b"later").unwrap();
    let slot = || memory.read_obj::<u32>(GuestAddress(0x1200)).unwrap();
    manager.post_message(vmbus, &message).unwrap();
    manager.pause();
    manager.post_message(vmbus, &message).unwrap();

    manager.pre_run(vp);
    let while_paused = slot();
    manager.resume();
    manager.pre_run(vp);

    assert_eq!((while_paused, slot()), (0, MessageType::VMBUS.get()));
}
