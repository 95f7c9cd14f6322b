// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! The ports of a guest that is a parent, and their connections, as values.
//!
//! A child is the VMM's to add ([`SynicManager::add_child`]), before or after the restore: what was
//! connected to it waits until it is there.

use super::SynicManager;
use crate::abi::{PartitionId, SintIndex};
use crate::error::Error;
use crate::page::GuestSpace;
use crate::routing::{ChildSpace, DoorbellPort, DoorbellTarget};
use crate::state::{GuestConnectionState, GuestPortState, State};
use crate::sync::lock;
use std::collections::HashSet;
use std::sync::Arc;

impl<AS: GuestSpace> SynicManager<AS> {
    /// Ascending by id.
    pub(super) fn save_guest_ports(&self) -> Vec<GuestPortState> {
        let ids = self.guest_ports.keys().into_iter();
        let ports = ids.filter_map(|id| self.guest_ports.with(id, |port| port.save()));
        let mut ports: Vec<_> = ports.collect();
        ports.sort_unstable_by_key(|port| port.id);
        ports
    }

    /// Ascending by child and id; those of children that were not added again among them.
    pub(super) fn save_guest_connections(&self) -> Vec<GuestConnectionState> {
        let ids = self.children.keys().into_iter();
        let spaces = ids.filter_map(|id| self.children.with(id, Arc::clone));
        let orphans: Vec<_> = lock(&self.orphans).values().cloned().collect();
        let all = spaces.chain(orphans);
        let mut connections: Vec<_> = all.flat_map(|space| space.save()).collect();
        connections.sort_unstable_by_key(|connection| (connection.child, connection.id));
        connections
    }

    /// Puts both back, in place of what there is.
    pub(super) fn restore_guest_ports(&self, state: &State) -> Result<(), Error> {
        self.forget_guest_ports();
        lock(&self.orphans).clear();
        for id in self.children.keys() {
            let _ = self.children.with(id, |space| space.clear());
        }
        for (index, port) in state.guest_ports.iter().enumerate() {
            let port = Arc::new(DoorbellPort::restore(port));
            self.guest_ports
                .update(port.id.get().into(), |there| match there {
                    Some(_) => Err(refusal("guest_ports", index, "the port is there twice")),
                    None => Ok(Some(port)),
                })?;
        }
        for (index, connection) in state.guest_connections.iter().enumerate() {
            let port = self.port_of(connection);
            let refuse = |reason: &str| refusal("guest_connections", index, reason);
            let port = port.ok_or_else(|| refuse("its port is not there, or another child's"))?;
            let (space, most) = (self.space_of(connection.child), self.config.guest_ports);
            let connected = space.connect(connection.id, port, connection.spec, most);
            connected.map_err(|status| refuse(&format!("it cannot be made: {status:?}")))?;
        }
        Ok(())
    }

    /// Before anything is put back.
    pub(super) fn check_guest_ports(&self, state: &State) -> Result<(), Error> {
        let most = self.config.guest_ports as usize;
        let ports = &state.guest_ports;
        if ports.len() > most {
            let reason = format!("{} where {most} may be", ports.len());
            return Err(Error::State {
                field: "guest_ports".into(),
                reason,
            });
        }
        let vps: HashSet<_> = state.vps.iter().map(|vp| vp.index).collect();
        let is_lost = |port: &GuestPortState| port.vp.is_some_and(|vp| !vps.contains(&vp));
        if let Some(index) = ports.iter().position(is_lost) {
            return Err(refusal("guest_ports", index, "its VP is not there"));
        }
        let is_beyond = |at: &GuestConnectionState| at.spec.gpa >> GPA_BITS != 0;
        match state.guest_connections.iter().position(is_beyond) {
            Some(index) => Err(refusal(
                "guest_connections",
                index,
                "no address has so many bits",
            )),
            None => Ok(()),
        }
    }

    /// The connection's own, if it was deleted and the connection is all that is left of it.
    fn port_of(&self, connection: &GuestConnectionState) -> Option<Arc<DoorbellPort>> {
        if connection.port_is_deleted {
            let GuestConnectionState { child, port, .. } = *connection;
            let port = DoorbellPort::new(port, child, DoorbellTarget::AnyVp, SintIndex::DOORBELL);
            port.delete();
            return Some(Arc::new(port));
        }
        let port = self
            .guest_ports
            .with(connection.port.get().into(), Arc::clone);
        port.filter(|port| port.child == connection.child)
    }

    /// Of a child that is there, or is to come.
    fn space_of(&self, id: PartitionId) -> Arc<ChildSpace> {
        let there = self.children.with(id.get(), Arc::clone);
        there.unwrap_or_else(|| {
            let mut orphans = lock(&self.orphans);
            let space = orphans.entry(id);
            space
                .or_insert_with(|| Arc::new(ChildSpace::new(id)))
                .clone()
        })
    }
}

impl DoorbellPort {
    fn save(&self) -> GuestPortState {
        GuestPortState {
            id: self.id,
            child: self.child,
            vp: match self.target {
                DoorbellTarget::Vp(vp) => Some(vp),
                DoorbellTarget::AnyVp => None,
            },
            sint: self.sint,
        }
    }

    fn restore(state: &GuestPortState) -> Self {
        let target = state.vp.map_or(DoorbellTarget::AnyVp, DoorbellTarget::Vp);
        Self::new(state.id, state.child, target, state.sint)
    }
}

fn refusal(list: &str, index: usize, reason: &str) -> Error {
    Error::State {
        field: format!("{list}[{index}]"),
        reason: reason.into(),
    }
}

/// The most that x64 has, as in `HvConnectPort`.
const GPA_BITS: u32 = 52;
