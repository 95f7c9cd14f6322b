// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! The echo service: a Hyper-V socket that sends back what it gets (Linux `hyperv_transport.c`).
//!
//! A packet is {u32 1, u32 bytes of data} and the data; without data it ends its direction.

use serde::{Deserialize, Serialize};

use super::channel::{Rings, Served};
use super::report::{EchoReport, Mistake};
use super::ring::Written;

/// The service, for one socket.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Echo {
    /// An echo that the guest's ring had no room for.
    unsent: Option<Vec<u8>>,
    /// The guest has ended its direction.
    finished: bool,
}

impl Echo {
    /// Echoes what is there, up to a fair share of the thread's time, and not more than the guest
    /// takes back.
    pub fn serve(
        &mut self,
        rings: &mut Rings,
        buffer: &mut Vec<u8>,
        report: &mut EchoReport,
    ) -> Result<Served, Mistake> {
        let is_flushed = match self.unsent.take() {
            Some(unsent) => self.send(rings, unsent, report)?,
            None => true,
        };
        if !is_flushed {
            return Ok(Served::Blocked);
        }
        for _ in 0..SHARE {
            if self.finished {
                report.finished += 1;
                return Ok(Served::Finished);
            }
            if rings.receive(buffer)?.is_none() {
                return Ok(Served::Idle);
            }
            let echo = self.accept(buffer, report)?;
            if !self.send(rings, echo, report)? {
                report.blocked += 1;
                return Ok(Served::Blocked);
            }
        }
        Ok(Served::More)
    }

    /// Checks a packet; gives its echo.
    fn accept(&mut self, payload: &[u8], report: &mut EchoReport) -> Result<Vec<u8>, Mistake> {
        let (data_type, size) = header(payload).ok_or(Mistake::BadPacket)?;
        let is_sane = data_type == DATA && size <= MTU;
        let echo = payload.get(..HEADER + size as usize).filter(|_| is_sane);
        let echo = echo.ok_or(Mistake::BadPacket)?;
        if size == 0 {
            self.finished = true;
        } else {
            report.packets_in += 1;
            report.bytes_in += u64::from(size);
        }
        Ok(echo.to_vec())
    }

    /// Sends an echo, or keeps it. False: no more now.
    fn send(
        &mut self,
        rings: &mut Rings,
        echo: Vec<u8>,
        report: &mut EchoReport,
    ) -> Result<bool, Mistake> {
        if rings.send(0, &echo)? == Written::Full {
            self.unsent = Some(echo);
            return Ok(false);
        }
        let data = echo.len().saturating_sub(HEADER) as u64;
        report.packets_out += u64::from(data != 0);
        report.bytes_out += data;
        Ok(true)
    }
}

fn header(payload: &[u8]) -> Option<(u32, u32)> {
    let ([a, b, c, d, e, f, g, h], _) = payload.split_first_chunk()?;
    Some((
        u32::from_le_bytes([*a, *b, *c, *d]),
        u32::from_le_bytes([*e, *f, *g, *h]),
    ))
}

/// `sizeof(struct vmpipe_proto_header)`.
const HEADER: usize = 8;
/// The `pkt_type` of data.
const DATA: u32 = 1;
/// `HVS_MTU_SIZE`.
const MTU: u32 = 16 << 10;
/// Packets, before other channels have their turn.
const SHARE: usize = 256;
