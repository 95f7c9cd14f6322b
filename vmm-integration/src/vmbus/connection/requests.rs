// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! What a connected guest asks for: channels, memory, sockets. Every request that Linux waits for
//! is answered, a bad one by a failure.

use vm_synic::VpIndex;

use super::{Connection, Contact};
use crate::vmbus::channel::{Channel, Kind};
use crate::vmbus::gpadl::{Progress, Spoilt};
use crate::vmbus::protocol::{
    Frames, GpadlHeader, Guid, HostMessage, OpenChannel, Socket, Status, Version,
};
use crate::vmbus::report::Mistake;

impl Connection {
    /// Offers a channel. False: there are too many.
    pub(super) fn offer(&mut self, kind: Kind) -> bool {
        // Relids are used in turn, so that none means two channels within a short time.
        let next = (1..=MAX_RELID).cycle().skip(self.last_relid as usize);
        let mut free = next.take(MAX_RELID as usize);
        let relid = free.find(|relid| !self.channels.contains_key(relid));
        let Some(relid) = relid.filter(|_| self.channels.len() < MAX_CHANNELS) else {
            return false;
        };
        self.last_relid = relid;
        let channel = Channel::new(relid, kind);
        let offer = channel.offer();
        self.channels.insert(relid, channel);
        self.bus.report.channels.offered += 1;
        self.send(HostMessage::Offer(offer));
        true
    }

    pub(super) fn open(&mut self, request: &OpenChannel) -> Result<(), Mistake> {
        let opened = self.try_open(request);
        let status = status(&opened);
        self.send(HostMessage::OpenResult(
            request.relid,
            request.openid,
            status,
        ));
        opened?;
        self.bus.report.channels.opened += 1;
        let channel = self.channels.get_mut(&request.relid);
        let started = channel.map_or(Ok(()), |channel| channel.start(&mut self.bus));
        started.or_else(|mistake| {
            self.give_up(request.relid, mistake);
            Ok(())
        })
    }

    fn try_open(&mut self, request: &OpenChannel) -> Result<(), Mistake> {
        self.check_vp(request.target_vp)?;
        let channel = self.channels.get_mut(&request.relid);
        let channel = channel.ok_or(Mistake::NoChannel)?;
        if !channel.is_offered() {
            return Err(Mistake::CannotOpen);
        }
        let pages = self.gpadls.pages(request.relid, request.gpadl);
        channel.open(&mut self.bus, request, pages.ok_or(Mistake::NoGpadl)?)
    }

    pub(super) fn close(&mut self, relid: u32) -> Result<(), Mistake> {
        let channel = self.channels.get_mut(&relid).ok_or(Mistake::NoChannel)?;
        if channel.is_rescinded() {
            return Ok(());
        }
        if !channel.close() {
            return Err(Mistake::NotOpen);
        }
        self.bus.report.channels.closed += 1;
        // A device can be opened again, a socket cannot; Linux waits for the rescind.
        if let Kind::Echo(_) = channel.kind() {
            self.rescind(relid);
        }
        Ok(())
    }

    /// The guest lends memory to a channel.
    pub(super) fn lend(&mut self, header: &GpadlHeader<'_>) -> Result<(), Mistake> {
        let progress = match self.channels.contains_key(&header.relid) {
            true => self.gpadls.begin(header),
            false => Err(Spoilt {
                relid: Some(header.relid),
                mistake: Mistake::NoChannel,
            }),
        };
        self.answer_gpadl(header.gpadl, progress)
    }

    /// It goes on with that.
    pub(super) fn lend_more(&mut self, gpadl: u32, frames: Frames<'_>) -> Result<(), Mistake> {
        let progress = self.gpadls.extend(gpadl, frames);
        self.answer_gpadl(gpadl, progress)
    }

    fn answer_gpadl(
        &mut self,
        gpadl: u32,
        progress: Result<Progress, Spoilt>,
    ) -> Result<(), Mistake> {
        let (relid, status, result) = match progress {
            Ok(Progress::Partial) => return Ok(()),
            Ok(Progress::Whole(relid)) => (relid, Status::Success, Ok(())),
            Err(spoilt) => match spoilt.relid {
                Some(relid) => (relid, Status::Failed, Err(spoilt.mistake)),
                None => return Err(spoilt.mistake),
            },
        };
        self.send(HostMessage::GpadlCreated(relid, gpadl, status));
        result
    }

    /// Once the guest hears of it, it uses the memory for something else; so rings that are in it
    /// go first.
    pub(super) fn tear_down(&mut self, gpadl: u32) -> Result<(), Mistake> {
        let using = self
            .channels
            .values_mut()
            .filter(|channel| channel.uses(gpadl));
        let closed = using.map(Channel::close).count();
        self.bus.report.channels.closed += closed as u64;
        let removed = self.gpadls.remove(gpadl);
        self.send(HostMessage::GpadlTorndown(gpadl));
        removed.then_some(()).ok_or(Mistake::NoGpadl)
    }

    pub(super) fn release(&mut self, relid: u32) -> Result<(), Mistake> {
        let channel = self.channels.remove(&relid).ok_or(Mistake::NoChannel)?;
        self.gpadls.remove_all_of(relid);
        self.bus.report.channels.released += 1;
        let reoffer = self.contact.as_mut().map(|contact| &mut contact.reoffer);
        if channel.kind() == Kind::Heartbeat && reoffer.is_some_and(std::mem::take) {
            self.offer(Kind::Heartbeat);
        }
        Ok(())
    }

    pub(super) fn modify(
        &mut self,
        contact: Contact,
        relid: u32,
        target_vp: VpIndex,
    ) -> Result<(), Mistake> {
        let modified = self.try_modify(relid, target_vp);
        if contact.version >= Version::V5_3 {
            self.send(HostMessage::ModifyResponse(relid, status(&modified)));
        }
        modified?;
        self.bus.report.channels.moved += 1;
        Ok(())
    }

    fn try_modify(&mut self, relid: u32, target_vp: VpIndex) -> Result<(), Mistake> {
        self.check_vp(target_vp)?;
        let channel = self.channels.get_mut(&relid).ok_or(Mistake::NoChannel)?;
        channel.retarget(&mut self.bus, target_vp)
    }

    pub(super) fn connect_socket(&mut self, socket: Socket) -> Result<(), Mistake> {
        let is_new = |channel: &Channel| match channel.kind() {
            Kind::Echo(other) => other.endpoint != socket.endpoint,
            Kind::Heartbeat => true,
        };
        let is_welcome = socket.service == ECHO_SERVICE && self.channels.values().all(is_new);
        if is_welcome && self.offer(Kind::Echo(socket)) {
            return Ok(());
        }
        self.send(HostMessage::TlConnectRefused(socket));
        Err(Mistake::SocketRefused)
    }
}

fn status(result: &Result<(), Mistake>) -> Status {
    match result {
        Ok(()) => Status::Success,
        Err(_) => Status::Failed,
    }
}

/// Port 5000 of Linux's `AF_VSOCK`.
const ECHO_SERVICE: Guid = Guid::new(
    5000,
    0xfacb,
    0x11e6,
    [0xbd, 0x58, 0x64, 0x00, 0x6a, 0x79, 0x86, 0xd3],
);
/// Event flags end here; 0 is the bus's own.
pub(super) const MAX_RELID: u32 = 2047;
/// The heartbeat, and sockets.
pub(super) const MAX_CHANNELS: usize = 65;
