// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! Channel messages (Linux `enum vmbus_channel_message_type`): what a guest posts, and what it is
//! sent.
//!
//! Every message begins with {u32 type, u32 0}; all numbers are little-endian. A message may be
//! longer than its layout: later versions append fields.

use std::fmt;

use serde::{Deserialize, Serialize};

mod guest;
mod host;

pub use guest::{Frames, GpadlHeader, GuestMessage, OpenChannel};
pub use host::{HostMessage, Offer, Status};

/// A GUID as it is on the wire.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Guid(pub [u8; 16]);

impl Guid {
    /// From the fields of its text form: the first three are stored little-endian.
    pub const fn new(a: u32, b: u16, c: u16, d: [u8; 8]) -> Self {
        let ([a0, a1, a2, a3], [b0, b1], [c0, c1]) =
            (a.to_le_bytes(), b.to_le_bytes(), c.to_le_bytes());
        let [d0, d1, d2, d3, d4, d5, d6, d7] = d;
        Self([
            a0, a1, a2, a3, b0, b1, c0, c1, d0, d1, d2, d3, d4, d5, d6, d7,
        ])
    }
}

/// The two ends of a Hyper-V socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Socket {
    /// The guest's end.
    pub endpoint: Guid,
    /// The host's end.
    pub service: Guid,
}

/// A protocol version: major in the high half, minor in the low one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Version(pub u32);

impl Version {
    /// The first whose `MODIFYCHANNEL` is answered.
    pub const V5_3: Self = Self::new(5, 3);
    /// The first whose `VERSION_RESPONSE` tells of features.
    pub const V6_0: Self = Self::new(6, 0);

    const fn new(major: u32, minor: u32) -> Self {
        Self(major << 16 | minor)
    }

    /// Whether this host speaks it: all that Linux has tried since 2.4.
    pub fn is_supported(self) -> bool {
        SUPPORTED.contains(&self)
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.0 >> 16, self.0 & 0xFFFF)
    }
}

impl fmt::Debug for Guid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", u128::from_be_bytes(self.0))
    }
}

/// `VMBUS_MESSAGE_CONNECTION_ID_4`: where guests of 5.0 and later post.
pub const MESSAGE_CONNECTION: u32 = 4;
/// `VMBUS_MESSAGE_CONNECTION_ID`: where older ones do.
pub const OLD_MESSAGE_CONNECTION: u32 = 1;

const SUPPORTED: [Version; 9] = [
    Version::V6_0,
    Version::V5_3,
    Version::new(5, 2),
    Version::new(5, 1),
    Version::new(5, 0),
    Version::new(4, 1),
    Version::new(4, 0),
    Version::new(3, 0),
    Version::new(2, 4),
];
