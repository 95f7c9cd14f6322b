// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! The bus as the guest sees it: a message comes in, the state changes, answers go out.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use vm_synic::{PortBusy, VpIndex};

use super::channel::{Bus, Channel, Kind, Served};
use super::gpadl::Gpadls;
use super::outbox::Outbox;
use super::protocol::{GuestMessage, HostMessage, Version};
use super::report::{Mistake, VmbusReport};
use super::signal::Wiring;
use crate::memory::Memory;

mod requests;
mod saved;

pub use saved::SavedBus;

/// A guest's connection to the bus, or the lack of one.
pub struct Connection {
    bus: Bus,
    outbox: Outbox,
    gpadls: Gpadls,
    contact: Option<Contact>,
    /// By relid.
    channels: BTreeMap<u32, Channel>,
    last_relid: u32,
}

/// What guest and host have agreed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Contact {
    version: Version,
    /// The guest has asked for offers.
    offers: bool,
    /// The heartbeat is to be offered again once the guest has released it.
    reoffer: bool,
}

impl Connection {
    /// No connection yet.
    pub fn new(wiring: Wiring, memory: Memory) -> Self {
        Self {
            outbox: Outbox::new(wiring.manager.clone()),
            gpadls: Gpadls::new(memory.clone()),
            bus: Bus {
                wiring,
                memory,
                report: VmbusReport::default(),
                buffer: Vec::new(),
            },
            contact: None,
            channels: BTreeMap::new(),
            last_relid: 0,
        }
    }

    /// What was seen.
    pub fn report(&self) -> &VmbusReport {
        &self.bus.report
    }

    /// The guest has posted a message. [`PortBusy`]: it must take some answers first.
    pub fn receive(&mut self, payload: &[u8]) -> Result<(), PortBusy> {
        let message = GuestMessage::parse(payload);
        // A new kernel must get through, whatever the old one has left.
        let is_new = matches!(
            message,
            Ok(GuestMessage::InitiateContact { .. } | GuestMessage::Unload)
        );
        if self.outbox.is_full() && !is_new {
            self.bus.report.messages.pushed_back += 1;
            return Err(PortBusy);
        }
        self.bus.report.messages.received += 1;
        if let Err(mistake) = message.and_then(|message| self.handle(message)) {
            self.bus.report.count(mistake);
        }
        Ok(())
    }

    /// The SINT takes messages again.
    pub fn writable(&mut self) {
        self.outbox.flush(&mut self.bus.report.messages);
    }

    /// The guest has signalled a channel.
    pub fn signalled(&mut self, relid: u32) {
        let Some(channel) = self.channels.get_mut(&relid) else {
            return;
        };
        match channel.serve(&mut self.bus) {
            Ok(Served::Idle | Served::Blocked | Served::More) => {}
            Ok(Served::Finished) => self.rescind(relid),
            // The signal was under way when the channel was closed.
            Err(Mistake::NotOpen) => {}
            Err(mistake) => self.give_up(relid, mistake),
        }
    }

    /// A period of the heartbeat has passed.
    pub fn tick(&mut self) {
        let mut spoilt = Vec::new();
        for (relid, channel) in &mut self.channels {
            if let Err(mistake) = channel.tick(&mut self.bus) {
                spoilt.push((*relid, mistake));
            }
        }
        for (relid, mistake) in spoilt {
            self.give_up(relid, mistake);
        }
    }

    /// Rescinds the heartbeat, to be offered anew once the guest has released it. False: it is not
    /// there to be rescinded.
    pub fn rescind_and_reoffer(&mut self) -> bool {
        let is_heartbeat =
            |channel: &Channel| channel.kind() == Kind::Heartbeat && !channel.is_rescinded();
        let mut channels = self.channels.iter();
        let found = channels.find(|(_, channel)| is_heartbeat(channel));
        let Some((relid, contact)) = found.map(|(relid, _)| *relid).zip(self.contact.as_mut())
        else {
            return false;
        };
        contact.reoffer = true;
        self.rescind(relid);
        true
    }

    /// The VM is reset: nothing of the guest's is touched any more.
    pub fn reset(&mut self) {
        self.bus.report.resets += 1;
        self.disconnect();
    }

    fn handle(&mut self, message: GuestMessage<'_>) -> Result<(), Mistake> {
        match (message, self.contact) {
            (GuestMessage::InitiateContact { version, target_vp }, _) => {
                self.connect(version, target_vp)
            }
            // Linux releases relids after it has unloaded (`vmbus_free_channels`).
            (GuestMessage::RelidReleased(_), None) => Ok(()),
            (_, None) => Err(Mistake::NotConnected),
            (GuestMessage::RequestOffers, Some(contact)) => self.offer_all(contact),
            (GuestMessage::OpenChannel(request), _) => self.open(&request),
            (GuestMessage::CloseChannel(relid), _) => self.close(relid),
            (GuestMessage::GpadlHeader(header), _) => self.lend(&header),
            (GuestMessage::GpadlBody { gpadl, frames }, _) => self.lend_more(gpadl, frames),
            (GuestMessage::GpadlTeardown { gpadl, .. }, _) => self.tear_down(gpadl),
            (GuestMessage::RelidReleased(relid), _) => self.release(relid),
            (GuestMessage::ModifyChannel { relid, target_vp }, Some(contact)) => {
                self.modify(contact, relid, target_vp)
            }
            (GuestMessage::TlConnectRequest(socket), _) => self.connect_socket(socket),
            (GuestMessage::Unload, _) => {
                self.unload();
                Ok(())
            }
        }
    }

    /// From any state: after a kexec or a crash it is the first that is heard of a new kernel.
    fn connect(&mut self, version: Version, target_vp: VpIndex) -> Result<(), Mistake> {
        self.bus.report.contacts += 1;
        self.disconnect();
        self.outbox
            .restart(target_vp, &mut self.bus.report.messages);
        if !version.is_supported() {
            self.send(HostMessage::VersionResponse(None));
            return Err(Mistake::UnsupportedVersion);
        }
        self.bus.report.version = Some(version.to_string());
        self.contact = Some(Contact {
            version,
            offers: false,
            reoffer: false,
        });
        self.send(HostMessage::VersionResponse(Some(version)));
        Ok(())
    }

    fn unload(&mut self) {
        self.bus.report.unloads += 1;
        self.disconnect();
        self.send(HostMessage::UnloadResponse);
    }

    fn disconnect(&mut self) {
        self.contact = None;
        let open = self.channels.values().filter(|channel| channel.is_open());
        self.bus.report.channels.dropped += open.count() as u64;
        self.channels.clear();
        self.gpadls.clear();
        self.outbox.clear(&mut self.bus.report.messages);
        self.last_relid = 0;
    }

    fn offer_all(&mut self, contact: Contact) -> Result<(), Mistake> {
        if contact.offers {
            return Err(Mistake::OffersDelivered);
        }
        self.contact = Some(Contact {
            offers: true,
            ..contact
        });
        self.offer(Kind::Heartbeat);
        self.send(HostMessage::AllOffersDelivered);
        Ok(())
    }

    fn give_up(&mut self, relid: u32, mistake: Mistake) {
        log::debug!("Channel {relid} is given up: {mistake}");
        self.bus.report.count(mistake);
        self.rescind(relid);
    }

    fn rescind(&mut self, relid: u32) {
        if let Some(channel) = self.channels.get_mut(&relid) {
            channel.rescind();
            self.bus.report.channels.rescinded += 1;
            self.send(HostMessage::Rescind(relid));
        }
    }

    fn check_vp(&self, vp: VpIndex) -> Result<(), Mistake> {
        let max = self.bus.wiring.manager.config().max_vps;
        (vp.get() < max).then_some(()).ok_or(Mistake::NoVp)
    }

    fn send(&mut self, message: HostMessage) {
        self.outbox.send(message, &mut self.bus.report.messages);
    }
}
