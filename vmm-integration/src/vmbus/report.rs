// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! What was seen on the bus.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Counts since the host was made; a guest that reconnects goes on with them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct VmbusReport {
    /// `INITIATE_CONTACT` messages, one for each version that a guest tries.
    pub contacts: u64,
    /// The version that was agreed on last.
    pub version: Option<String>,
    /// `UNLOAD` messages.
    pub unloads: u64,
    /// Times that the VMM has reset the bus.
    pub resets: u64,
    /// Channels.
    pub channels: ChannelReport,
    /// Messages.
    pub messages: MessageReport,
    /// The heartbeat device.
    pub heartbeat: HeartbeatReport,
    /// The echo service.
    pub echo: EchoReport,
    /// Host to guest signals that the guest's SynIC refused.
    pub signals_refused: u64,
    /// What was refused, by kind.
    pub mistakes: BTreeMap<Mistake, u64>,
}

impl VmbusReport {
    pub(super) fn count(&mut self, mistake: Mistake) {
        let count = self.mistakes.entry(mistake).or_default();
        *count = count.wrapping_add(1);
    }
}

/// What became of channels.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChannelReport {
    /// `OFFERCHANNEL` messages.
    pub offered: u64,
    /// Channels that were opened.
    pub opened: u64,
    /// Channels that the guest closed.
    pub closed: u64,
    /// `RESCIND_CHANNELOFFER` messages.
    pub rescinded: u64,
    /// `RELID_RELEASED` messages.
    pub released: u64,
    /// Channels that were open when their connection ended.
    pub dropped: u64,
    /// Channels whose interrupts moved to another VP.
    pub moved: u64,
}

/// Messages of either direction.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MessageReport {
    /// Posted by the guest, good or bad.
    pub received: u64,
    /// Sent back to wait for better times, because the guest does not take its answers.
    pub pushed_back: u64,
    /// Accepted by the SynIC for the guest.
    pub sent: u64,
    /// That had to wait here because the SynIC's queue was full.
    pub waited: u64,
    /// Refused by the SynIC: the guest has switched it off.
    pub refused: u64,
    /// Dropped here because the connection that they belonged to ended.
    pub dropped: u64,
}

/// The heartbeat device.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeartbeatReport {
    /// Version negotiations that ended well.
    pub negotiated: u64,
    /// Heartbeats that were asked for.
    pub sent: u64,
    /// Heartbeats that the guest has answered.
    pub answered: u64,
    /// Periods in which none was asked for because the last one was not answered yet.
    pub missed: u64,
    /// The sequence number of the last answer.
    pub last_sequence: u64,
}

/// The echo service.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EchoReport {
    /// Sockets that were connected.
    pub connections: u64,
    /// Sockets that the guest has shut down in good order.
    pub finished: u64,
    /// Packets with data from the guest.
    pub packets_in: u64,
    /// Packets with data to the guest.
    pub packets_out: u64,
    /// Bytes of data from the guest.
    pub bytes_in: u64,
    /// Bytes of data to the guest.
    pub bytes_out: u64,
    /// Signals from the guest.
    pub signals_in: u64,
    /// Signals to the guest.
    pub signals_out: u64,
    /// Times that the guest's ring had no room for an echo.
    pub blocked: u64,
}

/// What a guest does wrong, or asks too much of.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, thiserror::Error,
)]
#[serde(rename_all = "snake_case")]
pub enum Mistake {
    /// A message ends before its layout does.
    #[error("the message is too short")]
    ShortMessage,
    /// A message of a type that guests do not send.
    #[error("the message's type is unknown")]
    UnknownMessage,
    /// A message that needs a connection when there is none.
    #[error("there is no connection")]
    NotConnected,
    /// A version that this host does not speak. Not a mistake of the guest's.
    #[error("the version is not supported")]
    UnsupportedVersion,
    /// A second request for offers.
    #[error("the offers are delivered already")]
    OffersDelivered,
    /// No channel has this relid.
    #[error("there is no such channel")]
    NoChannel,
    /// The channel is not open.
    #[error("the channel is not open")]
    NotOpen,
    /// The channel is open, or rescinded.
    #[error("the channel cannot be opened now")]
    CannotOpen,
    /// A GPADL that contradicts itself, or names what is not RAM.
    #[error("the GPADL is malformed")]
    BadGpadl,
    /// No GPADL has this handle, or it is for another channel.
    #[error("there is no such GPADL")]
    NoGpadl,
    /// More GPADLs, or more memory in them, than this host allows.
    #[error("there are too many GPADLs")]
    TooManyGpadls,
    /// Rings that are too small, or not where the GPADL is.
    #[error("the rings are malformed")]
    BadRings,
    /// A VP that cannot exist.
    #[error("there is no such VP")]
    NoVp,
    /// A socket for a service that is not there, or one too many.
    #[error("the connection is refused")]
    SocketRefused,
    /// Ring indices that cannot be.
    #[error("the ring is corrupt")]
    CorruptRing,
    /// A packet that is not of its device's protocol.
    #[error("the packet is malformed")]
    BadPacket,
    /// The host could not make what a channel needs. Not a mistake of the guest's.
    #[error("the host cannot serve the channel")]
    HostFailed,
}
