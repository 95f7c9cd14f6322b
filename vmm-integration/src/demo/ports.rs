// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! What the manager is told about the demo: two ports and 129 doorbells for each VP.

use std::any::Any;
use std::sync::Arc;

use anyhow::{Context, Result};
use vm_synic::{
    ConnectionId, DoorbellSink, DoorbellSize, DoorbellSpec, DoorbellTarget, EventSink, MessageSink,
    PortId, PortSpec, SintIndex, VpIndex,
};

use super::inbound::Inbound;
use super::outbound::Script;
use super::plan::Plan;
use super::protocol::{
    FLAGS, MAX_VPS, RING_PORTS, event_connection, message_connection, ring_doorbell, ring_value,
    vmm_doorbell,
};
use crate::vm::Manager;

/// The port id of VP 0's first ring doorbell; the others follow.
pub const FIRST_RING_PORT: u32 = 1;

/// What is registered, as long as this lives, and who takes what comes.
pub struct Ports<'a> {
    manager: &'a Manager,
    script: &'a Script,
    /// For each VP, what it sends.
    pub inbound: Vec<Arc<Inbound>>,
    /// Dropping one unregisters it.
    handles: Vec<Box<dyn Any>>,
}

impl<'a> Ports<'a> {
    /// Registers all that the VPs of `plan` will use.
    ///
    /// # Errors
    /// The host has no more eventfds.
    pub fn register(manager: &'a Manager, plan: &Plan, script: &'a Script) -> Result<Self> {
        let mut ports = Self {
            manager,
            script,
            inbound: Vec::new(),
            handles: Vec::new(),
        };
        for vp in plan.vps() {
            ports
                .register_vp(vp)
                .with_context(|| format!("Cannot register the ports of VP {vp}"))?;
        }
        Ok(ports)
    }

    fn register_vp(&mut self, vp: u32) -> Result<()> {
        let inbound = Arc::new(Inbound::new(vp));
        self.connect_messages(vp, inbound.clone())?;
        self.connect_events(vp, inbound.clone())?;
        self.watch_doorbell(vp, inbound.clone())?;
        for index in 0..RING_PORTS {
            let sink = self.ring_sink(vp, index)?;
            let doorbell = self.manager.add_doorbell(ring_spec(vp, index), sink)?;
            self.handles.push(Box::new(doorbell));
        }
        self.inbound.push(inbound);
        Ok(())
    }

    fn connect_messages(&mut self, vp: u32, inbound: Arc<Inbound>) -> Result<()> {
        let sink = MessageSink::Call(Arc::new(move |message| {
            inbound.message(message.message_type.get(), message.payload)
        }));
        self.connect(message_connection(vp), PortSpec::Message(sink))
    }

    fn connect_events(&mut self, vp: u32, inbound: Arc<Inbound>) -> Result<()> {
        let sink = EventSink::Call(Arc::new(move |flag| inbound.flag(flag.into())));
        let flags = u16::try_from(FLAGS)?;
        self.connect(event_connection(vp), PortSpec::Event { sink, flags })
    }

    /// The doorbell that `vp` rings in the event loop.
    fn watch_doorbell(&mut self, vp: u32, inbound: Arc<Inbound>) -> Result<()> {
        let watch = self.manager.watch(move |rang| inbound.doorbells(rang))?;
        let fd = watch
            .fd()
            .try_clone()
            .context("Cannot duplicate an EventFd")?;
        let spec = DoorbellSpec::at(vmm_doorbell(vp));
        let doorbell = self
            .manager
            .add_doorbell(spec, DoorbellSink::Fd(Arc::new(fd)))?;
        self.handles.push(Box::new((watch, doorbell)));
        Ok(())
    }

    fn ring_sink(&self, vp: u32, index: u64) -> Result<DoorbellSink> {
        let (target, index) = (self.script.ring)(vp, index);
        let port = u64::from(FIRST_RING_PORT) + u64::from(vp) * RING_PORTS + index;
        Ok(DoorbellSink::Ring {
            target: DoorbellTarget::Vp(VpIndex::new(target)),
            sint: SintIndex::DOORBELL,
            port: PortId::try_from(u32::try_from(port)?)?,
        })
    }

    /// Connection ids do for port ids too: they are beyond all ring ports.
    fn connect(&mut self, id: u32, spec: PortSpec) -> Result<()> {
        const { assert!(message_connection(0) > MAX_VPS * RING_PORTS as u32 + FIRST_RING_PORT) };
        let port = self.manager.create_port(PortId::try_from(id)?, spec)?;
        let connection = self.manager.connect(ConnectionId::try_from(id)?, &port)?;
        self.handles.push(Box::new((connection, port)));
        Ok(())
    }
}

/// Odd ports want an exact write; even ports take any.
fn ring_spec(vp: u32, index: u64) -> DoorbellSpec {
    let any = DoorbellSpec::at(ring_doorbell(vp, index));
    match index % 2 {
        0 => any,
        _ => any
            .size(DoorbellSize::Dword)
            .value(ring_value(index).into()),
    }
}
