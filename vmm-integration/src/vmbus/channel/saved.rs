// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! A channel in a saved state.

use serde::{Deserialize, Serialize};
use vm_memory::GuestAddress;
use vm_synic::VpIndex;

use super::{Bus, Channel, Device, Kind, Open, Rings, State};
use crate::vmbus::report::Mistake;
use crate::vmbus::signal::Signal;

/// A channel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SavedChannel {
    /// Its number.
    pub relid: u32,
    kind: Kind,
    state: SavedState,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum SavedState {
    Offered,
    Open(SavedOpen),
    Rescinded,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct SavedOpen {
    gpadl: u32,
    target_vp: VpIndex,
    /// The page of the GPADL at which the host's ring begins.
    downstream_offset: u32,
    /// Where the host goes on in the guest's ring.
    read: u32,
    /// And in its own, and whether it waits for room there.
    write: (u32, bool),
    device: Device,
}

impl Channel {
    /// As it is. What the guest has signalled meanwhile is looked for after the restore.
    pub fn save(&self) -> SavedChannel {
        SavedChannel {
            relid: self.relid,
            kind: self.kind,
            state: match &self.state {
                State::Offered => SavedState::Offered,
                State::Rescinded => SavedState::Rescinded,
                State::Open(open) => SavedState::Open(open.save()),
            },
        }
    }

    /// As it was; `pages` are those of a GPADL of this channel. The bus's thread will look at it.
    pub fn restore<'a>(
        saved: &SavedChannel,
        bus: &Bus,
        pages: impl FnOnce(u32) -> Option<&'a [GuestAddress]>,
    ) -> Result<Self, Mistake> {
        let is_echo = matches!(saved.kind, Kind::Echo(_));
        let state = match &saved.state {
            SavedState::Offered => State::Offered,
            SavedState::Rescinded => State::Rescinded,
            SavedState::Open(open) if is_echo == matches!(open.device, Device::Echo(_)) => {
                let pages = pages(open.gpadl).ok_or(Mistake::NoGpadl)?;
                State::Open(Box::new(Open::restore(open, saved.relid, bus, pages)?))
            }
            SavedState::Open(_) => return Err(Mistake::CannotOpen),
        };
        Ok(Self {
            relid: saved.relid,
            kind: saved.kind,
            state,
        })
    }
}

impl Open {
    fn save(&self) -> SavedOpen {
        let Self {
            gpadl,
            target_vp,
            rings,
            device,
            signal: _, // Made anew.
        } = self;
        SavedOpen {
            gpadl: *gpadl,
            target_vp: *target_vp,
            downstream_offset: rings.offset,
            read: rings.incoming.position(),
            write: rings.outgoing.position(),
            device: device.clone(),
        }
    }

    fn restore(
        saved: &SavedOpen,
        relid: u32,
        bus: &Bus,
        pages: &[GuestAddress],
    ) -> Result<Self, Mistake> {
        let mut rings = Rings::open(&bus.memory, pages, saved.downstream_offset)?;
        rings.incoming.set_position(saved.read)?;
        rings.outgoing.set_position(saved.write)?;
        let mut signal = Signal::new(&bus.wiring, relid).map_err(|e| {
            log::debug!("Cannot wire channel {relid}: {e:#}");
            Mistake::HostFailed
        })?;
        signal.again();
        Ok(Self {
            gpadl: saved.gpadl,
            target_vp: saved.target_vp,
            rings,
            device: saved.device.clone(),
            signal,
        })
    }
}
