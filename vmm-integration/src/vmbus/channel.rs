// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! A channel, from its offer to its end.

use serde::{Deserialize, Serialize};
use vm_memory::GuestAddress;
use vm_synic::{EventFlag, SintAddr, SintIndex, VpIndex};

use super::echo::Echo;
use super::heartbeat::Heartbeat;
use super::protocol::{Guid, Offer, OpenChannel, Socket};
use super::report::{Mistake, VmbusReport};
use super::ring::{Incoming, Outgoing, Released, Written};
use super::signal::{Signal, Wiring, connection};
use crate::memory::Memory;

mod saved;

pub use saved::SavedChannel;

/// What channels share.
pub struct Bus {
    /// Signals of either direction.
    pub wiring: Wiring,
    /// Where rings are.
    pub memory: Memory,
    /// What is seen.
    pub report: VmbusReport,
    /// A packet on its way.
    pub buffer: Vec<u8>,
}

/// What a channel is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kind {
    /// The heartbeat device.
    Heartbeat,
    /// A socket that is connected to the echo service.
    Echo(Socket),
}

/// A channel that the guest knows of.
pub struct Channel {
    relid: u32,
    kind: Kind,
    state: State,
}

enum State {
    Offered,
    Open(Box<Open>),
    /// Until the guest releases the relid.
    Rescinded,
}

struct Open {
    gpadl: u32,
    target_vp: VpIndex,
    rings: Rings,
    device: Device,
    signal: Signal,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Device {
    Heartbeat(Heartbeat),
    Echo(Echo),
}

/// How a device leaves its rings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Served {
    /// It waits for packets.
    Idle,
    /// It waits for room; packets may be left.
    Blocked,
    /// It has had its share.
    More,
    /// The channel has served its purpose.
    Finished,
}

impl Channel {
    /// A channel that is about to be offered.
    pub fn new(relid: u32, kind: Kind) -> Self {
        Self {
            relid,
            kind,
            state: State::Offered,
        }
    }

    /// What it is for.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// How the guest hears of it.
    pub fn offer(&self) -> Offer {
        let (class, instance, flags, pipe_mode) = match self.kind {
            Kind::Heartbeat => (HEARTBEAT, HEARTBEAT_INSTANCE, DEVICE, PIPE_OF_MESSAGES),
            // By the endpoint, Linux finds the socket that waits (`hvs_open_connection`).
            Kind::Echo(socket) => (socket.service, socket.endpoint, SOCKET, PIPE_OF_BYTES),
        };
        Offer {
            class,
            instance,
            flags,
            pipe_mode,
            relid: self.relid,
            connection: connection(self.relid),
        }
    }

    /// Whether it may be opened.
    pub fn is_offered(&self) -> bool {
        matches!(self.state, State::Offered)
    }

    /// Whether it is open.
    pub fn is_open(&self) -> bool {
        matches!(self.state, State::Open(_))
    }

    /// Whether it has been rescinded.
    pub fn is_rescinded(&self) -> bool {
        matches!(self.state, State::Rescinded)
    }

    /// Whether its rings are in this GPADL.
    pub fn uses(&self, gpadl: u32) -> bool {
        matches!(&self.state, State::Open(open) if open.gpadl == gpadl)
    }

    /// The guest opens it with rings in `pages`.
    pub fn open(
        &mut self,
        bus: &mut Bus,
        request: &OpenChannel,
        pages: &[GuestAddress],
    ) -> Result<(), Mistake> {
        let device = match self.kind {
            Kind::Heartbeat => Device::Heartbeat(Heartbeat::default()),
            Kind::Echo(_) => Device::Echo(Echo::default()),
        };
        let rings = Rings::open(&bus.memory, pages, request.downstream_offset)?;
        let signal = Signal::new(&bus.wiring, self.relid).map_err(|e| {
            log::debug!("Cannot wire channel {}: {e:#}", self.relid);
            Mistake::HostFailed
        })?;
        self.state = State::Open(Box::new(Open {
            gpadl: request.gpadl,
            target_vp: request.target_vp,
            rings,
            device,
            signal,
        }));
        Ok(())
    }

    /// The guest knows that the channel is open: the device may speak.
    pub fn start(&mut self, bus: &mut Bus) -> Result<(), Mistake> {
        let open = self.opened()?;
        match &mut open.device {
            Device::Heartbeat(heartbeat) => heartbeat.open(&mut open.rings)?,
            Device::Echo(_) => bus.report.echo.connections += 1,
        }
        self.signal_guest(bus)
    }

    /// The guest closes it. False: it was not open.
    pub fn close(&mut self) -> bool {
        let was_open = self.is_open();
        if was_open {
            self.state = State::Offered;
        }
        was_open
    }

    /// Nothing of the guest's is touched any more.
    pub fn rescind(&mut self) {
        self.state = State::Rescinded;
    }

    /// The guest wants its interrupts on another VP. It gets one there at once: what was on its
    /// way to the old VP may have been lost.
    pub fn retarget(&mut self, bus: &mut Bus, target_vp: VpIndex) -> Result<(), Mistake> {
        let open = self.opened()?;
        open.target_vp = target_vp;
        open.rings.signal = true;
        self.signal_guest(bus)
    }

    /// The guest has signalled: serves the rings. [`Served::More`] wakes the bus's thread again.
    pub fn serve(&mut self, bus: &mut Bus) -> Result<Served, Mistake> {
        let open = self.opened()?;
        open.count_signals(&mut bus.report);
        open.rings.incoming.mask()?;
        let mut served = match &mut open.device {
            Device::Heartbeat(heartbeat) => heartbeat.serve(&mut open.rings, bus)?,
            Device::Echo(echo) => {
                echo.serve(&mut open.rings, &mut bus.buffer, &mut bus.report.echo)?
            }
        };
        let released = open.rings.release()?;
        if served == Served::Idle && released.more {
            served = Served::More;
        }
        if served == Served::More {
            open.signal.again();
        }
        self.signal_guest(bus)?;
        Ok(served)
    }

    /// A period of the heartbeat has passed.
    pub fn tick(&mut self, bus: &mut Bus) -> Result<(), Mistake> {
        let State::Open(open) = &mut self.state else {
            return Ok(());
        };
        if let Device::Heartbeat(heartbeat) = &mut open.device {
            heartbeat.tick(&mut open.rings, &mut bus.report.heartbeat)?;
        }
        self.signal_guest(bus)
    }

    /// Signals the guest if anything was done that it must hear of.
    fn signal_guest(&mut self, bus: &mut Bus) -> Result<(), Mistake> {
        let flag = u16::try_from(self.relid).ok().and_then(EventFlag::new);
        let flag = flag.ok_or(Mistake::NoChannel)?;
        let open = self.opened()?;
        if !std::mem::take(&mut open.rings.signal) {
            return Ok(());
        }
        let target = SintAddr::new(open.target_vp, SintIndex::VMBUS);
        if bus.wiring.manager.signal_event(target, flag).is_err() {
            // The guest has switched the VP's SynIC off; it will move the channel.
            bus.report.signals_refused += 1;
        } else if let Device::Echo(_) = open.device {
            bus.report.echo.signals_out += 1;
        }
        Ok(())
    }

    fn opened(&mut self) -> Result<&mut Open, Mistake> {
        match &mut self.state {
            State::Open(open) => Ok(open),
            State::Offered | State::Rescinded => Err(Mistake::NotOpen),
        }
    }
}

impl Open {
    fn count_signals(&mut self, report: &mut VmbusReport) {
        let count = self.signal.take();
        if let Device::Echo(_) = self.device {
            report.echo.signals_in += count;
        }
    }
}

/// Both rings of an open channel.
#[derive(Debug)]
pub struct Rings {
    incoming: Incoming,
    outgoing: Outgoing,
    /// The page at which the outgoing one begins.
    offset: u32,
    /// The guest must be signalled.
    signal: bool,
}

impl Rings {
    /// The guest's ring takes the pages up to `offset`, ours the others.
    fn open(memory: &Memory, pages: &[GuestAddress], offset: u32) -> Result<Self, Mistake> {
        let first = usize::try_from(offset).map_err(|_| Mistake::BadRings)?;
        let halves = pages.split_at_checked(first);
        let (incoming, outgoing) = halves.ok_or(Mistake::BadRings)?;
        Ok(Self {
            incoming: Incoming::open(memory.clone(), incoming)?,
            outgoing: Outgoing::open(memory.clone(), outgoing)?,
            offset,
            signal: false,
        })
    }

    /// Takes the next packet: its transaction.
    pub fn receive(&mut self, buffer: &mut Vec<u8>) -> Result<Option<u64>, Mistake> {
        self.incoming.next(buffer)
    }

    /// Sends a packet if there is room, and else has the guest signal when there is.
    pub fn send(&mut self, transaction: u64, payload: &[u8]) -> Result<Written, Mistake> {
        if !self.outgoing.can_ever_hold(payload.len()) {
            return Err(Mistake::BadPacket);
        }
        let written = self.outgoing.write(transaction, payload)?;
        self.signal |= written == Written::Done { signal: true };
        Ok(written)
    }

    fn release(&mut self) -> Result<Released, Mistake> {
        let released = self.incoming.release()?;
        self.signal |= released.signal;
        Ok(released)
    }
}

const HEARTBEAT: Guid = Guid::new(
    0x5716_4f39,
    0x9115,
    0x4e78,
    [0xab, 0x55, 0x38, 0x2f, 0x3b, 0xd5, 0x42, 0x2d],
);
/// Any that is nobody else's.
const HEARTBEAT_INSTANCE: Guid = Guid::new(0x7379_6e69, 0x6300, 0x4842, [0; 8]);
/// `VMBUS_CHANNEL_ENUMERATE_DEVICE_INTERFACE` and `_NAMED_PIPE_MODE`.
const DEVICE: u16 = 0x0011;
/// And `VMBUS_CHANNEL_TLNPI_PROVIDER_OFFER`.
const SOCKET: u16 = 0x2011;
/// `VMBUS_PIPE_TYPE_BYTE` and `VMBUS_PIPE_TYPE_MESSAGE`.
const PIPE_OF_BYTES: u32 = 0;
const PIPE_OF_MESSAGES: u32 = 4;
