// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! What the guest is sent.

use vm_synic::{Message, MessageError, MessageType};

use super::{Guid, MESSAGE_CONNECTION, Socket, Version};

/// A message to the guest.
#[derive(Clone, Copy, Debug)]
pub enum HostMessage {
    /// There is a channel.
    Offer(Offer),
    /// It goes away.
    Rescind(u32),
    /// There are no more offers.
    AllOffersDelivered,
    /// Answers `OPENCHANNEL`: relid, openid.
    OpenResult(u32, u32, Status),
    /// Answers a whole GPADL: relid, handle.
    GpadlCreated(u32, u32, Status),
    /// Answers `GPADL_TEARDOWN`.
    GpadlTorndown(u32),
    /// Answers `INITIATE_CONTACT`; `None`: try another version.
    VersionResponse(Option<Version>),
    /// Answers `UNLOAD`.
    UnloadResponse,
    /// Answers `TL_CONNECT_REQUEST` where no offer does.
    TlConnectRefused(Socket),
    /// Answers `MODIFYCHANNEL`.
    ModifyResponse(u32, Status),
}

/// Whether something worked: 0, or an NTSTATUS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Status {
    /// `STATUS_SUCCESS`.
    Success = 0,
    /// `STATUS_UNSUCCESSFUL`.
    Failed = 0xC000_0001,
}

/// The body of `OFFERCHANNEL`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offer {
    /// What it is (Linux `if_type`).
    pub class: Guid,
    /// Which one it is (Linux `if_instance`).
    pub instance: Guid,
    /// Linux `chn_flags`.
    pub flags: u16,
    /// The first of the user-defined bytes, for a pipe: how it is read. The others are 0, which
    /// says of a socket that the guest connects.
    pub pipe_mode: u32,
    /// Its number in other messages, and its event flag.
    pub relid: u32,
    /// What the guest signals.
    pub connection: u32,
}

impl HostMessage {
    /// As the guest gets it.
    pub fn encode(&self) -> Result<Message, MessageError> {
        let mut bytes = Vec::with_capacity(196);
        bytes.extend(
            [self.message_type(), 0]
                .map(u32::to_le_bytes)
                .as_flattened(),
        );
        match *self {
            Self::Offer(offer) => offer.encode(&mut bytes),
            Self::Rescind(id) | Self::GpadlTorndown(id) => bytes.extend(id.to_le_bytes()),
            Self::OpenResult(relid, id, status) | Self::GpadlCreated(relid, id, status) => {
                put(&mut bytes, [relid, id, status as u32]);
            }
            Self::VersionResponse(version) => put_version(&mut bytes, version),
            Self::TlConnectRefused(socket) => {
                bytes.extend(socket.endpoint.0);
                bytes.extend(socket.service.0);
                put(&mut bytes, [STATUS_CONNECTION_REFUSED]);
            }
            Self::ModifyResponse(relid, status) => put(&mut bytes, [relid, status as u32]),
            Self::AllOffersDelivered | Self::UnloadResponse => {}
        }
        Message::new(MessageType::VMBUS, &bytes)
    }

    fn message_type(&self) -> u32 {
        match self {
            Self::Offer(_) => 1,
            Self::Rescind(_) => 2,
            Self::AllOffersDelivered => 4,
            Self::OpenResult(..) => 6,
            Self::GpadlCreated(..) => 10,
            Self::GpadlTorndown(_) => 12,
            Self::VersionResponse(_) => 15,
            Self::UnloadResponse => 17,
            Self::TlConnectRefused(_) => 23,
            Self::ModifyResponse(..) => 24,
        }
    }
}

impl Offer {
    fn encode(&self, bytes: &mut Vec<u8>) {
        bytes.extend(self.class.0);
        bytes.extend(self.instance.0);
        bytes.extend([0; 16]);
        bytes.extend(self.flags.to_le_bytes());
        bytes.extend([0; 2]);
        bytes.extend(self.pipe_mode.to_le_bytes());
        bytes.extend([0; 116 + 4]);
        bytes.extend(self.relid.to_le_bytes());
        // No monitor page; an interrupt of its own, so that the guest sets no bit for us to find.
        bytes.extend([0, 0, 1, 0]);
        bytes.extend(self.connection.to_le_bytes());
    }
}

/// {u8 supported, u8 state, u16, u32 connection for all that follows}, and from 6.0 on {u32
/// features}, of which we have none.
fn put_version(bytes: &mut Vec<u8>, version: Option<Version>) {
    put(bytes, [version.is_some().into(), MESSAGE_CONNECTION]);
    if version >= Some(Version::V6_0) {
        put(bytes, [0]);
    }
}

fn put<const N: usize>(bytes: &mut Vec<u8>, words: [u32; N]) {
    bytes.extend(words.map(u32::to_le_bytes).as_flattened());
}

/// The NTSTATUS of a service that is not there.
const STATUS_CONNECTION_REFUSED: u32 = 0xC000_0236;
