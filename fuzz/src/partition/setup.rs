// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! What a partition is made of.

use super::{BYSTANDER, Space, VPS};
use crate::op::HEAD_SIZE;
use std::sync::Arc;
use vm_synic::test_utils::{MshvDouble, RecordingHost};
use vm_synic::{
    Config, EventSink, MessageSink, PortBusy, PortSpec, SintAddr, SynicManager, VpIndex,
    WhenDisabled, WhenMasked,
};

pub fn manager(config: Config, double: &Arc<MshvDouble>) -> Arc<SynicManager<Space>> {
    let host = Arc::new(RecordingHost::default());
    let partition = Arc::new(double.partition());
    SynicManager::of_partition(config, double.vm.memory.clone(), host, partition)
}

pub fn config(head: [u8; HEAD_SIZE]) -> Config {
    let [flags, masked, depth, ..] = head;
    Config {
        when_disabled: [WhenDisabled::Refuse, WhenDisabled::Hold][usize::from(flags & 1)],
        may_post_messages: flags & 2 == 0,
        may_signal_events: flags & 4 == 0,
        timeline_depth: usize::from(flags >> 4),
        when_masked: [WhenMasked::Refuse, WhenMasked::Hold, WhenMasked::Write]
            [usize::from(masked % 3)],
        queue_depth: u16::from(depth % 8),
        ..Config::new(VPS + 1)
    }
}

/// One port of each kind. Those that lead to a SINT lead to one that nobody else uses.
pub fn port(id: u32) -> PortSpec {
    let bystander = SintAddr::new(VpIndex::new(0), BYSTANDER);
    match id {
        1 => PortSpec::Message(MessageSink::Call(Arc::new(|message| {
            assert!(message.message_type.is_guest_defined());
            let is_odd = message.payload.first().is_some_and(|first| first % 2 != 0);
            if is_odd { Err(PortBusy) } else { Ok(()) }
        }))),
        2 => PortSpec::Message(MessageSink::Sint(bystander)),
        3 => PortSpec::Event {
            sink: EventSink::Call(Arc::new(|flag| assert!(flag < 7))),
            flags: 7,
        },
        _ => PortSpec::Event {
            sink: EventSink::Sint {
                addr: bystander,
                base: 2000,
            },
            flags: u16::MAX,
        },
    }
}
