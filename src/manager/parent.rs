// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! The guest as a parent of partitions: ports of its own, and the doorbells of its children that
//! ring them (TLFS "Partition and VP Communication"; Linux `mshv_register_doorbell`).

use super::SynicManager;
use crate::abi::{Bank, ConnectionId, HvStatus, PartitionId, PortId};
use crate::error::Error;
use crate::page::GuestSpace;
use crate::routing::{ChildSpace, DoorbellPort, DoorbellSpec, DoorbellTarget, Registration};
use crate::sync::lock;
use crate::vp::Vp;
use std::sync::{Arc, OnceLock};

/// A partition of the guest's, known until this is dropped; its doorbells go with it.
///
/// ```
/// # use std::sync::Arc;
/// # use vm_memory::{GuestAddress, GuestMemoryMmap};
/// # use vm_synic::{Config, Host, PartitionId, SintInterrupt, SynicManager};
/// # struct Vmm;
/// # impl Host for Vmm {
/// #     fn assert_sint(&self, _: SintInterrupt) -> std::io::Result<()> { Ok(()) }
/// # }
/// # let ram = GuestMemoryMmap::<()>::from_ranges(&[(GuestAddress(0), 1 << 20)])?;
/// let config = Config { guest_ports: 64, ..Config::new(1) };
/// let synic = SynicManager::new(config, Arc::new(ram), Arc::new(Vmm));
/// // The guest calls HvCreatePartition:
/// let child = synic.add_child(PartitionId::new(7))?;
/// // A VP of that partition writes to an address without RAM:
/// assert!(!child.mmio_write(&synic, 0xF000_0000, &[1]), "there is no doorbell yet");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
#[must_use = "dropping it forgets the partition at once"]
pub struct Child {
    space: Arc<ChildSpace>,
    _registration: Registration,
}

impl Child {
    /// Its id.
    pub fn id(&self) -> PartitionId {
        self.space.id
    }

    /// How many doorbells its parent has connected.
    pub fn doorbells(&self) -> usize {
        self.space.connections()
    }

    /// One of its VPs writes to an address without RAM. True: it rang a doorbell, and the write is
    /// done; the parent will see the port, in its ring or after it. Any thread.
    pub fn mmio_write<AS: GuestSpace>(
        &self,
        parent: &SynicManager<AS>,
        gpa: u64,
        data: &[u8],
    ) -> bool {
        let doorbells = &self.space.doorbells;
        let rung = doorbells.with_match(gpa, data, |port| parent.ring_port(port));
        rung.unwrap_or(false)
    }
}

impl<AS: GuestSpace> SynicManager<AS> {
    /// The guest has created a partition: it may connect its ports to doorbells there. After a
    /// [`restore`](Self::restore), one that it had created before: its doorbells are connected.
    ///
    /// # Errors
    /// [`Error::ChildExists`].
    pub fn add_child(&self, id: PartitionId) -> Result<Child, Error> {
        let orphan = lock(&self.orphans).remove(&id);
        let space = orphan.unwrap_or_else(|| Arc::new(ChildSpace::new(id)));
        self.children.update(id.get(), |there| match there {
            Some(_) => Err(Error::ChildExists(id)),
            None => Ok(Some(space.clone())),
        })?;
        let children = self.children.clone();
        let registration = Registration::new(id.to_string(), move || {
            let _: Result<(), Error> = children.update(id.get(), |_| Ok(None));
        });
        Ok(Child {
            space,
            _registration: registration,
        })
    }

    /// Whether the guest has this partition.
    pub(crate) fn has_child(&self, id: PartitionId) -> bool {
        self.child(id).is_ok()
    }

    /// `HvCreatePort`.
    pub(crate) fn create_guest_port(&self, port: DoorbellPort) -> Result<(), HvStatus> {
        self.child(port.child)?;
        if let DoorbellTarget::Vp(vp) = port.target {
            self.vp(vp).ok_or(HvStatus::InvalidVpIndex)?;
        }
        let key = port.id.get().into();
        // Two VPs at once may exceed it by one; it only has to bound what the guest makes us hold.
        let is_full = self.guest_ports.len() >= self.config.guest_ports as usize;
        self.guest_ports.update(key, |there| match there {
            Some(_) => Err(HvStatus::InvalidPortId),
            None if is_full => Err(HvStatus::NoResources),
            None => Ok(Some(Arc::new(port))),
        })
    }

    /// `HvDeletePort`. What waits of it for room in a ring goes along; what is in a ring stays,
    /// since the guest may be reading it (TLFS: messages with the port's identifier may arrive
    /// after its deletion).
    pub(crate) fn delete_guest_port(&self, id: PortId) -> Result<(), HvStatus> {
        let mut deleted = None;
        self.guest_ports.update(id.get().into(), |there| {
            deleted = there;
            deleted
                .as_ref()
                .map(|_| None)
                .ok_or(HvStatus::InvalidPortId)
        })?;
        if let Some(port) = deleted {
            port.delete();
            self.forget_port(&port);
        }
        Ok(())
    }

    /// `HvConnectPort`.
    pub(crate) fn connect_guest_port(
        &self,
        child: PartitionId,
        id: ConnectionId,
        port: PortId,
        spec: DoorbellSpec,
    ) -> Result<(), HvStatus> {
        let space = self.child(child)?;
        let port = self.guest_ports.with(port.get().into(), Arc::clone);
        let port = port.filter(|port| port.child == child);
        let port = port.ok_or(HvStatus::InvalidPortId)?;
        // As many as there can be ports: one port for many connections costs us no less.
        space.connect(id, port, spec, self.config.guest_ports)
    }

    /// `HvDisconnectPort`.
    pub(crate) fn disconnect_guest_port(
        &self,
        child: PartitionId,
        id: ConnectionId,
    ) -> Result<(), HvStatus> {
        self.child(child)?.disconnect(id)
    }

    /// The kernel that has created the ports is gone, and the next one numbers its own from 1.
    pub(super) fn forget_guest_ports(&self) {
        for id in self.guest_ports.keys() {
            if let Some(id) = u32::try_from(id).ok().and_then(PortId::new) {
                // Somebody else may have deleted it meanwhile.
                let _ = self.delete_guest_port(id);
            }
        }
    }

    /// A VP has given its ring page up, which Linux does before it goes offline: ports that any VP may
    /// have go to one that takes them, so that they need not wait for this one's return.
    pub(super) fn hand_stranded_ports_over(&self, vp: &Vp<AS>) {
        let Some(synic) = vp.synic(Bank::Plain) else {
            return;
        };
        for (sint, id) in synic.stranded_ports() {
            let is_any_vps = |port: &Arc<DoorbellPort>| port.target == DoorbellTarget::AnyVp;
            let may_move = self.guest_ports.with(id.get().into(), is_any_vps);
            let other = self.vp_with_ring(id).filter(|_| may_move == Some(true));
            if let Some(other) = other {
                if synic.forget_port(sint, id) {
                    self.ring_on(other, sint, id);
                }
            }
        }
    }

    fn child(&self, id: PartitionId) -> Result<Arc<ChildSpace>, HvStatus> {
        let child = self.children.with(id.get(), Arc::clone);
        child.ok_or(HvStatus::InvalidPartitionId)
    }

    /// False: the port is deleted, or there is no VP; nothing was rung.
    fn ring_port(&self, port: &DoorbellPort) -> bool {
        if port.is_deleted() {
            return false;
        }
        let rung = self.ring_doorbell(port.target, port.sint, port.id);
        if port.is_deleted() {
            self.forget_port(port);
        }
        rung.is_ok()
    }

    fn forget_port(&self, port: &DoorbellPort) {
        for vp in self.vps.iter().filter_map(OnceLock::get) {
            if let Some(synic) = vp.synic(Bank::Plain) {
                synic.forget_port(port.sint, port.id);
            }
        }
    }
}
