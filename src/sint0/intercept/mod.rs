// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! Intercept messages: a VP of a child partition has stopped, and why.
//!
//! Their layouts differ by architecture, and one type number means one layout on each.

mod arm64;
mod x64;
mod x64_header;
mod x64_layout;

use super::wire::Wire;
use crate::abi::SintIndex;

pub use arm64::{Arm64Header, Arm64Intercept, Arm64Memory, Arm64Reset, Arm64SintDeliverable};
pub use x64::X64Intercept;
pub use x64_header::{
    X64ExceptionInfo, X64ExecutionState, X64GpaAttributeRequest, X64Header, X64Instruction,
    X64MemoryAccess, X64PortAccess, X64Segment,
};
pub use x64_layout::{
    X64Cpuid, X64Exception, X64GpaAttribute, X64Hypercall, X64InterruptionDeliverable,
    X64InvalidVpRegister, X64IoPort, X64Memory, X64Msr, X64SevVmgexit, X64SintDeliverable, X64Sipi,
    X64UnsupportedFeature,
};

/// What a VP was doing when it was stopped (`hv_intercept_access_type`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Reading.
    Read,
    /// Writing.
    Write,
    /// Fetching an instruction.
    Execute,
    /// A number without a meaning.
    Other(u8),
}

impl From<u8> for Access {
    fn from(value: u8) -> Self {
        match value {
            0 => Self::Read,
            1 => Self::Write,
            2 => Self::Execute,
            other => Self::Other(other),
        }
    }
}

impl Wire for Access {
    const SIZE: usize = 1;

    fn read(bytes: &[u8], at: usize) -> Option<Self> {
        u8::read(bytes, at).map(Self::from)
    }
}

/// The part of an array that its count field says is in use; all of it where the count is too high.
fn in_use<T>(array: &[T], count: u8) -> &[T] {
    array.get(..usize::from(count)).unwrap_or(array)
}

/// The SINTs of a 16-bit set, ascending.
fn sints_in(set: u16) -> impl Iterator<Item = SintIndex> {
    SintIndex::all().filter(move |sint| set & sint.bit() != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn count_above_the_array_means_all_of_it() {
        assert_eq!(in_use(&[1, 2, 3], 2), [1, 2]);
        assert_eq!(in_use(&[1, 2, 3], 4), [1, 2, 3]);
    }

    #[test]
    fn sint_set_lists_both_ends() {
        assert!(sints_in(0x8005).map(SintIndex::get).eq([0, 2, 15]));
    }

    #[test]
    fn access_without_a_meaning_keeps_its_number() {
        assert_eq!(Access::from(2), Access::Execute);
        assert_eq!(Access::from(3), Access::Other(3));
    }
}
