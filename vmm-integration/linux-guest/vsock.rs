// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! A VMBus socket (`AF_VSOCK`) to the host's echo service.

use std::fs::File;
use std::io::{Read, Write};

use crate::failure::{Failure, OrFail, Result};
use crate::sys;
use crate::vmbus::{self, Channel};
use crate::watchdog::{doing, wait_for};

/// One connection.
#[derive(Debug)]
pub struct Connection {
    socket: File,
    port: u32,
}

impl Connection {
    /// Connects to the echo service, whose channel is then CPU `cpu`'s.
    pub fn open(cpu: usize) -> Result<Self> {
        doing(format!("connecting to port {ECHO_PORT}"));
        let socket = sys::vsock_connect(ECHO_PORT).or_fail("connect", "AF_VSOCK")?;
        let port = sys::vsock_port(&socket).or_fail("connect", "getsockname")?;
        let connection = Self {
            socket: socket.into(),
            port,
        };
        connection.move_to(cpu)?;
        Ok(connection)
    }

    /// Has the host interrupt `cpu` for what it sends.
    pub fn move_to(&self, cpu: usize) -> Result<()> {
        let channel = self.channel();
        if channel.cpu() == Some(cpu) {
            return Ok(());
        }
        let context = format!("channel {} to CPU {cpu}", channel.relid());
        channel.move_to(cpu).or_fail("move", context)
    }

    /// Sends the packets `range` of the stream's pattern.
    pub fn send(&self, range: std::ops::Range<u64>) -> Result<()> {
        for packet in range {
            let sent = (&self.socket).write_all(&pattern(packet));
            sent.or_fail("send", format_args!("packet {packet}"))?;
        }
        Ok(())
    }

    /// Receives as many packets and checks each byte; the result is how often data arrived, which
    /// is once for each packet of the host.
    pub fn receive(&self, range: std::ops::Range<u64>) -> Result<u64> {
        let mut arrivals = 0;
        for packet in range {
            let mut data = [0; PACKET];
            arrivals += self.fill(&mut data, packet)?;
            let expected = pattern(packet);
            if data != expected {
                let detail = format!("packet {packet} is {data:x?}, not {expected:x?}");
                return Err(Failure::new("corrupt", detail));
            }
        }
        Ok(arrivals)
    }

    fn fill(&self, mut data: &mut [u8], packet: u64) -> Result<u64> {
        let mut arrivals = 0;
        while !data.is_empty() {
            let received = (&self.socket).read(data);
            let length = received.or_fail("receive", format_args!("packet {packet}"))?;
            if length == 0 {
                return Err(Failure::new(
                    "closed",
                    format_args!("before packet {packet}"),
                ));
            }
            arrivals += 1;
            data = data.get_mut(length..).unwrap_or_default();
        }
        Ok(arrivals)
    }

    /// Fails what is under way in either direction.
    pub fn abandon(&self) {
        sys::shut_down(&self.socket);
    }

    /// Linux has a socket's channel open before it shows it (`vmbus_device_register`).
    fn channel(&self) -> Channel {
        wait_for("the channel of a socket", || {
            vmbus::of_socket(self.port).filter(|channel| channel.cpu().is_some())
        })
    }
}

/// Differs from its neighbours, from itself shifted, and from what stands in fresh memory.
fn pattern(packet: u64) -> [u8; PACKET] {
    let mixed = (packet + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mut bytes = [0xa5; PACKET];
    bytes[..8].copy_from_slice(&mixed.to_le_bytes());
    bytes[8] = packet as u8;
    bytes
}

/// Bytes in a packet.
pub const PACKET: usize = 10;
const ECHO_PORT: u32 = 5000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pattern_when_packets_are_compared_differs_in_each() {
        let all: std::collections::HashSet<_> = (0..10_000).map(pattern).collect();
        assert_eq!(all.len(), 10_000);
        assert!(!all.contains(&[0; PACKET]));
    }
}
