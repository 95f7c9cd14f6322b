// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! The heartbeat device, which Linux's `hv_utils` answers.
//!
//! Packets are a pipe header {u32 1, u32 bytes that follow}, an integration component header {u16
//! x 2 framework version, u16 type, u16 x 2 message version, u16 size, u32 status, u8 transaction,
//! u8 flags, u16} and a body; the guest answers by the same packet, changed. First the versions
//! are agreed on (Linux `vmbus_prep_negotiate_resp`): {u16 framework versions, u16 message
//! versions, u32, {u16 major, u16 minor} each}. Then a heartbeat is {u64 sequence, 32 bytes}, and
//! its answer has the next number (Linux `heartbeat_onchannelcallback`).

use serde::{Deserialize, Serialize};

use super::channel::{Bus, Rings, Served};
use super::report::{HeartbeatReport, Mistake};
use super::ring::Written;

/// The device, of one opening of its channel.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Heartbeat {
    /// Both sides speak the same version.
    agreed: bool,
    /// The request that the guest has not answered yet.
    waiting: bool,
    transaction: u8,
    sequence: u64,
}

impl Heartbeat {
    /// The channel is open: proposes the versions that Linux knows.
    pub fn open(&mut self, rings: &mut Rings) -> Result<(), Mistake> {
        let versions: [u16; 8] = [3, 0, 1, 0, 3, 0, 1, 0];
        let mut body = vec![2, 0, 2, 0, 0, 0, 0, 0];
        body.extend(versions.map(u16::to_le_bytes).as_flattened());
        self.ask(rings, NEGOTIATE, &body)?;
        Ok(())
    }

    /// A period has passed: asks for a heartbeat, unless the guest has not answered yet.
    pub fn tick(&mut self, rings: &mut Rings, report: &mut HeartbeatReport) -> Result<(), Mistake> {
        let mut body = [0; 40];
        if let Some(sequence) = body.first_chunk_mut() {
            *sequence = self.sequence.wrapping_add(1).to_le_bytes();
        }
        if !self.agreed || self.waiting || !self.ask(rings, HEARTBEAT, &body)? {
            report.missed += 1;
            return Ok(());
        }
        self.sequence = self.sequence.wrapping_add(1);
        report.sent += 1;
        Ok(())
    }

    /// Takes the guest's answers.
    pub fn serve(&mut self, rings: &mut Rings, bus: &mut Bus) -> Result<Served, Mistake> {
        // There is one request at a time: a second answer is a mistake, so this ends.
        while let Some(transaction) = rings.receive(&mut bus.buffer)? {
            self.receive(transaction, &bus.buffer, &mut bus.report.heartbeat)?;
        }
        Ok(Served::Idle)
    }

    fn receive(
        &mut self,
        transaction: u64,
        payload: &[u8],
        report: &mut HeartbeatReport,
    ) -> Result<(), Mistake> {
        let answer = Answer::parse(payload).ok_or(Mistake::BadPacket)?;
        let is_expected = self.waiting
            && transaction == u64::from(self.transaction)
            && answer.transaction == self.transaction
            && answer.flags & RESPONSE != 0;
        match (is_expected, self.agreed, answer.message_type) {
            (true, false, NEGOTIATE) if answer.agrees() => {
                self.agreed = true;
                report.negotiated += 1;
            }
            (true, true, HEARTBEAT) if answer.sequence() == Some(self.sequence.wrapping_add(1)) => {
                self.sequence = self.sequence.wrapping_add(1);
                report.answered += 1;
                report.last_sequence = self.sequence;
            }
            _ => return Err(Mistake::BadPacket),
        }
        self.waiting = false;
        Ok(())
    }

    /// Sends a request; false where the ring is full.
    fn ask(&mut self, rings: &mut Rings, message_type: u16, body: &[u8]) -> Result<bool, Mistake> {
        let transaction = self.transaction.wrapping_add(1);
        let packet = request(message_type, transaction, body);
        if rings.send(transaction.into(), &packet)? == Written::Full {
            return Ok(false);
        }
        self.transaction = transaction;
        self.waiting = true;
        Ok(true)
    }
}

fn request(message_type: u16, transaction: u8, body: &[u8]) -> Vec<u8> {
    let mut packet = Vec::with_capacity(PIPE_HEADER + HEADER + body.len());
    let size = [1, (HEADER + body.len()) as u32].map(u32::to_le_bytes);
    packet.extend(size.as_flattened());
    let header = [3, 0, message_type, 3, 0, body.len() as u16, 0, 0];
    packet.extend(header.map(u16::to_le_bytes).as_flattened());
    packet.extend([transaction, TRANSACTION | REQUEST, 0, 0]);
    packet.extend(body);
    packet
}

/// What matters of an answer.
struct Answer<'a> {
    message_type: u16,
    transaction: u8,
    flags: u8,
    body: &'a [u8],
}

impl<'a> Answer<'a> {
    fn parse(payload: &'a [u8]) -> Option<Self> {
        let (header, body) = payload.get(PIPE_HEADER..)?.split_at_checked(HEADER)?;
        Some(Self {
            message_type: half(header, 4)?,
            transaction: *header.get(16)?,
            flags: *header.get(17)?,
            body,
        })
    }

    /// Whether the guest has chosen one version of each kind.
    fn agrees(&self) -> bool {
        half(self.body, 0) == Some(1) && half(self.body, 2) == Some(1)
    }

    fn sequence(&self) -> Option<u64> {
        self.body.first_chunk().copied().map(u64::from_le_bytes)
    }
}

fn half(bytes: &[u8], at: usize) -> Option<u16> {
    let bytes = bytes.get(at..)?.first_chunk()?;
    Some(u16::from_le_bytes(*bytes))
}

/// `sizeof(struct vmbuspipe_hdr)`.
const PIPE_HEADER: usize = 8;
/// `sizeof(struct icmsg_hdr)`.
const HEADER: usize = 20;
/// `ICMSGTYPE_NEGOTIATE`.
const NEGOTIATE: u16 = 0;
/// `ICMSGTYPE_HEARTBEAT`.
const HEARTBEAT: u16 = 1;
/// `ICMSGHDRFLAG_TRANSACTION`, `_REQUEST`, `_RESPONSE`.
const TRANSACTION: u8 = 1;
const REQUEST: u8 = 2;
const RESPONSE: u8 = 4;
