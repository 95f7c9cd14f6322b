// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! The guest as a parent: its children's address spaces, and its own ports that their doorbells
//! ring.
//!
//! A child is no more than that here. Whoever runs its VPs passes their writes to addresses
//! without RAM on, and a doorbell becomes a port id in an event ring of the guest.

use super::{Doorbell, DoorbellSpec, DoorbellTarget, Doorbells, Table};
use crate::abi::{ConnectionId, HvStatus, PartitionId, PortId, SintIndex};
use crate::state::GuestConnectionState;
use crate::sync::lock;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

/// A doorbell port that the guest has created (TLFS `HvCreatePort`).
#[derive(Debug)]
pub(crate) struct DoorbellPort {
    pub id: PortId,
    /// The partition that may be connected to it.
    pub child: PartitionId,
    pub target: DoorbellTarget,
    pub sint: SintIndex,
    deleted: AtomicBool,
}

impl DoorbellPort {
    pub fn new(id: PortId, child: PartitionId, target: DoorbellTarget, sint: SintIndex) -> Self {
        Self {
            id,
            child,
            target,
            sint,
            deleted: AtomicBool::new(false),
        }
    }

    /// A connection may outlive its port, and rings nothing then.
    pub fn is_deleted(&self) -> bool {
        // Acquire: pairs with the Release of `delete`. Who rings looks before and after, and who
        // deletes clears the rings after; so no port waits in a ring once it is deleted.
        self.deleted.load(Ordering::Acquire)
    }

    pub fn delete(&self) {
        self.deleted.store(true, Ordering::Release);
    }
}

/// The ports of the guest, by id.
pub(crate) type DoorbellPorts = Table<Arc<DoorbellPort>>;

/// A partition that the guest has created, as far as doorbells go.
#[derive(Debug)]
pub(crate) struct ChildSpace {
    pub id: PartitionId,
    pub doorbells: Doorbells<Arc<DoorbellPort>>,
    /// Locked by hypercalls alone; a doorbell that rings does not look here.
    connections: Mutex<HashMap<ConnectionId, (DoorbellSpec, Arc<DoorbellPort>)>>,
}

impl ChildSpace {
    pub fn new(id: PartitionId) -> Self {
        Self {
            id,
            doorbells: Doorbells::new(),
            connections: Mutex::default(),
        }
    }

    /// Connects a port to writes of the child that `spec` describes, if fewer than `most` are.
    pub fn connect(
        &self,
        id: ConnectionId,
        port: Arc<DoorbellPort>,
        spec: DoorbellSpec,
        most: u32,
    ) -> Result<(), HvStatus> {
        let mut connections = lock(&self.connections);
        if connections.contains_key(&id) {
            return Err(HvStatus::InvalidConnectionId);
        }
        if connections.len() >= most as usize {
            return Err(HvStatus::NoResources);
        }
        let doorbell = Doorbell {
            spec,
            sink: port.clone(),
        };
        let added = self.doorbells.add(doorbell);
        added.map_err(|_| HvStatus::ObjectInUse)?;
        connections.insert(id, (spec, port));
        Ok(())
    }

    pub fn disconnect(&self, id: ConnectionId) -> Result<(), HvStatus> {
        let removed = lock(&self.connections).remove(&id);
        let (spec, _port) = removed.ok_or(HvStatus::InvalidConnectionId)?;
        self.doorbells.remove(&spec);
        Ok(())
    }

    /// Disconnects all.
    pub fn clear(&self) {
        let mut connections = lock(&self.connections);
        let all = connections.drain();
        all.for_each(|(_, (spec, _port))| self.doorbells.remove(&spec));
    }

    /// All connections, in no order.
    pub fn save(&self) -> Vec<GuestConnectionState> {
        let connections = lock(&self.connections);
        let connections = connections.iter();
        let state = |(id, (spec, port)): (&ConnectionId, &(DoorbellSpec, Arc<DoorbellPort>))| {
            GuestConnectionState {
                child: self.id,
                id: *id,
                port: port.id,
                port_is_deleted: port.is_deleted(),
                spec: *spec,
            }
        };
        connections.map(state).collect()
    }

    /// How many connections there are.
    pub fn connections(&self) -> usize {
        lock(&self.connections).len()
    }
}
