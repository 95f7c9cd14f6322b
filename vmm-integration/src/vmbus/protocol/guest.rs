// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! What a guest posts, parsed once.

use vm_synic::VpIndex;

use super::{Guid, Socket, Version};
use crate::vmbus::report::Mistake;

/// A message from the guest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GuestMessage<'a> {
    /// A kernel begins to talk; `target_vp` is where it listens.
    InitiateContact {
        /// The version that it proposes.
        version: Version,
        /// The VP whose SINT2 takes the host's messages.
        target_vp: VpIndex,
    },
    /// It wants all offers.
    RequestOffers,
    /// It opens a channel.
    OpenChannel(OpenChannel),
    /// It closes one.
    CloseChannel(u32),
    /// It describes memory, or begins to.
    GpadlHeader(GpadlHeader<'a>),
    /// It goes on describing memory.
    GpadlBody {
        /// The GPADL's handle.
        gpadl: u32,
        /// More page frames.
        frames: Frames<'a>,
    },
    /// It takes memory back.
    GpadlTeardown {
        /// The channel that it was for.
        relid: u32,
        /// The GPADL's handle.
        gpadl: u32,
    },
    /// It has forgotten a channel, and its relid is free.
    RelidReleased(u32),
    /// It ends the connection.
    Unload,
    /// It moves a channel's interrupts to another VP.
    ModifyChannel {
        /// The channel.
        relid: u32,
        /// The VP.
        target_vp: VpIndex,
    },
    /// A socket of the guest connects to a service of the host.
    TlConnectRequest(Socket),
}

/// The body of `OPENCHANNEL`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpenChannel {
    /// The channel.
    pub relid: u32,
    /// Names this attempt in the answer.
    pub openid: u32,
    /// The GPADL of both rings.
    pub gpadl: u32,
    /// The VP to be interrupted.
    pub target_vp: VpIndex,
    /// The page of the GPADL at which the host's ring begins.
    pub downstream_offset: u32,
}

/// The body of `GPADL_HEADER`, of its one range.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GpadlHeader<'a> {
    /// The channel that it is for.
    pub relid: u32,
    /// Its handle, chosen by the guest.
    pub gpadl: u32,
    /// Bytes of ranges, in this message and those that follow.
    pub range_bytes: u16,
    /// Number of ranges.
    pub range_count: u16,
    /// Bytes of memory.
    pub byte_count: u32,
    /// Where they begin in the first page.
    pub byte_offset: u32,
    /// The first page frames.
    pub frames: Frames<'a>,
}

/// Page frame numbers as they were posted; bytes after the last whole one are ignored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frames<'a>(&'a [u8]);

impl Frames<'_> {
    /// How many there are.
    pub fn len(self) -> usize {
        self.0.len() / 8
    }

    /// The numbers.
    pub fn iter(self) -> impl Iterator<Item = u64> {
        let words = self.0.chunks_exact(8);
        words.map(|word| word.try_into().map_or(0, u64::from_le_bytes))
    }
}

impl<'a> GuestMessage<'a> {
    /// Parses the payload of a posted message.
    pub fn parse(payload: &'a [u8]) -> Result<Self, Mistake> {
        let mut fields = Fields(payload);
        let message_type = fields.u32()?;
        fields.u32()?;
        fields.message(message_type)
    }
}

/// What is left of a message.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn message(&mut self, message_type: u32) -> Result<GuestMessage<'a>, Mistake> {
        Ok(match message_type {
            REQUESTOFFERS => GuestMessage::RequestOffers,
            OPENCHANNEL => GuestMessage::OpenChannel(self.open_channel()?),
            CLOSECHANNEL => GuestMessage::CloseChannel(self.u32()?),
            GPADL_HEADER => GuestMessage::GpadlHeader(self.gpadl_header()?),
            GPADL_BODY => self.gpadl_body()?,
            GPADL_TEARDOWN => GuestMessage::GpadlTeardown {
                relid: self.u32()?,
                gpadl: self.u32()?,
            },
            RELID_RELEASED => GuestMessage::RelidReleased(self.u32()?),
            INITIATE_CONTACT => self.initiate_contact()?,
            UNLOAD => GuestMessage::Unload,
            TL_CONNECT_REQUEST => GuestMessage::TlConnectRequest(Socket {
                endpoint: self.guid()?,
                service: self.guid()?,
            }),
            MODIFYCHANNEL => GuestMessage::ModifyChannel {
                relid: self.u32()?,
                target_vp: self.vp()?,
            },
            _ => return Err(Mistake::UnknownMessage),
        })
    }

    fn initiate_contact(&mut self) -> Result<GuestMessage<'a>, Mistake> {
        let contact = GuestMessage::InitiateContact {
            version: Version(self.u32()?),
            target_vp: self.vp()?,
        };
        // The interrupt page, or SINT, VTL and features; and the monitor pages: all unused here.
        self.take::<24>()?;
        Ok(contact)
    }

    fn open_channel(&mut self) -> Result<OpenChannel, Mistake> {
        let open = OpenChannel {
            relid: self.u32()?,
            openid: self.u32()?,
            gpadl: self.u32()?,
            target_vp: self.vp()?,
            downstream_offset: self.u32()?,
        };
        self.take::<120>()?;
        Ok(open)
    }

    fn gpadl_header(&mut self) -> Result<GpadlHeader<'a>, Mistake> {
        Ok(GpadlHeader {
            relid: self.u32()?,
            gpadl: self.u32()?,
            range_bytes: u16::from_le_bytes(self.take()?),
            range_count: u16::from_le_bytes(self.take()?),
            byte_count: self.u32()?,
            byte_offset: self.u32()?,
            frames: Frames(self.0),
        })
    }

    fn gpadl_body(&mut self) -> Result<GuestMessage<'a>, Mistake> {
        let _number = self.u32()?;
        Ok(GuestMessage::GpadlBody {
            gpadl: self.u32()?,
            frames: Frames(self.0),
        })
    }

    fn take<const N: usize>(&mut self) -> Result<[u8; N], Mistake> {
        let (taken, rest) = self.0.split_first_chunk().ok_or(Mistake::ShortMessage)?;
        self.0 = rest;
        Ok(*taken)
    }

    fn u32(&mut self) -> Result<u32, Mistake> {
        self.take().map(u32::from_le_bytes)
    }

    fn vp(&mut self) -> Result<VpIndex, Mistake> {
        self.u32().map(VpIndex::new)
    }

    fn guid(&mut self) -> Result<Guid, Mistake> {
        self.take().map(Guid)
    }
}

const REQUESTOFFERS: u32 = 3;
const OPENCHANNEL: u32 = 5;
const CLOSECHANNEL: u32 = 7;
const GPADL_HEADER: u32 = 8;
const GPADL_BODY: u32 = 9;
const GPADL_TEARDOWN: u32 = 11;
const RELID_RELEASED: u32 = 13;
const INITIATE_CONTACT: u32 = 14;
const UNLOAD: u32 = 16;
const TL_CONNECT_REQUEST: u32 = 21;
const MODIFYCHANNEL: u32 = 22;
