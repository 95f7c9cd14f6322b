// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! Who the guest is, who in it drives the SynIC, and how MSHV tells whether VMBus is there.

use crate::abi::Bank;
use std::fmt;

/// What the partition is to its hypervisor (Linux `hv_identify_partition_type`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Role {
    /// A guest: VMBus alone.
    #[default]
    Guest,
    /// An L1VH parent: VMBus and MSHV share the plain registers.
    L1vh,
    /// The root partition: MSHV alone, VMBus does not run.
    Root,
    /// The root of a nested hypervisor: VMBus on the nested registers, MSHV on the plain ones.
    NestedRoot,
}

impl Role {
    /// The bank that a driver uses: VMBus is redirected to the nested registers where there are
    /// any (`hv_get_nested_msr`), MSHV never is (`hv_get_non_nested_msr`).
    pub const fn bank(self, owner: Owner) -> Bank {
        match (self, owner) {
            (Self::NestedRoot, Owner::VmBus) => Bank::Nested,
            _ => Bank::Plain,
        }
    }
}

/// How the MSHV driver decides that VMBus owns the shared registers.
///
/// The two differ on a nested root, and in where the event ring page of an L1VH comes from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Criterion {
    /// `!hv_root_partition()`, as first proposed: "mshv: limit SynIC management to MSHV-owned
    /// resources".
    Seed,
    /// `hv_vmbus_exists()`, as merged in Linux 7.2.
    #[default]
    Linux72,
}

/// A driver of the guest that owns SynIC registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Owner {
    /// `hv_vmbus`.
    VmBus,
    /// `mshv_root`.
    Mshv,
}

impl Owner {
    /// `vmbus` or `mshv`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::VmBus => "vmbus",
            Self::Mshv => "mshv",
        }
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
