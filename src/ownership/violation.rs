// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! What a write of the guest did to its other driver.

use super::Owner;
use crate::abi::{RegisterId, SintIndex};
use std::fmt;

/// What to do about a register write that breaks a rule.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum ViolationPolicy {
    /// Let it take effect and record it.
    #[default]
    Observe,
    /// Record it and drop it: the register keeps its value and the guest is not told.
    Refuse,
    /// Record it and fail it: the guest gets #GP.
    Fault,
}

/// A write that broke one of the [rules](super#the-rules).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Violation {
    /// Which rule, and how.
    pub kind: ViolationKind,
    /// The register that was written.
    pub register: RegisterId,
    /// Who probably wrote it; a hypervisor can only conclude that from what is still in use.
    pub writer: Option<Owner>,
    /// Who suffers.
    pub victim: Option<Owner>,
}

/// The ways to break a rule that show in the register writes of a guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub enum ViolationKind {
    /// A page was disabled while this SINT still delivers into it: *mask first*, and where the
    /// page is another driver's, *hands off*.
    PageDisabled(SintIndex),
    /// A page that another driver receives this SINT's messages in was enabled again, or moved:
    /// *hands off*.
    PageRewritten(SintIndex),
    /// A register was written that takes no such write while SCONTROL is off.
    WriteWhileOff,
    /// SCONTROL was cleared while something of the victim's was in use: *last one out*.
    OffWhileInUse,
    /// VMBus switched off SCONTROL, or a page that MSHV maps as well, before MSHV had left: *MSHV
    /// leaves first*. A crashing or hibernating guest does so on purpose.
    VmBusLeftFirst,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let register = self.register;
        let name = |owner: Option<Owner>| owner.map_or("somebody", Owner::name);
        let (writer, victim) = (name(self.writer), name(self.victim));
        match self.kind {
            ViolationKind::PageDisabled(sint) => {
                write!(
                    f,
                    "{writer} disabled {register} while {sint} of {victim} is unmasked"
                )
            }
            ViolationKind::PageRewritten(sint) => {
                write!(
                    f,
                    "{writer} rewrote {register} while {sint} of {victim} is unmasked"
                )
            }
            ViolationKind::WriteWhileOff => {
                write!(f, "{writer} wrote {register} while SCONTROL is off")
            }
            ViolationKind::OffWhileInUse => {
                write!(
                    f,
                    "{writer} cleared {register} while {victim} uses the SynIC"
                )
            }
            ViolationKind::VmBusLeftFirst => {
                write!(
                    f,
                    "{writer} switched {register} off before {victim} had left"
                )
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::abi::Register;

    #[test]
    fn violation_display_names_writer_register_and_victim() {
        let violation = Violation {
            kind: ViolationKind::PageDisabled(SintIndex::VMBUS),
            register: RegisterId::plain(Register::Simp),
            writer: Some(Owner::Mshv),
            victim: Some(Owner::VmBus),
        };
        let text = "mshv disabled SIMP while SINT2 of vmbus is unmasked";
        assert_eq!(violation.to_string(), text);
    }

    #[test]
    fn violation_display_of_the_wrong_order_fits_scontrol_and_pages() {
        for register in [Register::Scontrol, Register::Simp] {
            let violation = Violation {
                kind: ViolationKind::VmBusLeftFirst,
                register: RegisterId::plain(register),
                writer: Some(Owner::VmBus),
                victim: Some(Owner::Mshv),
            };
            let text = format!("vmbus switched {register} off before mshv had left");
            assert_eq!(violation.to_string(), text);
        }
    }

    #[test]
    fn violation_display_of_unknown_writer_says_somebody() {
        let violation = Violation {
            kind: ViolationKind::OffWhileInUse,
            register: RegisterId::plain(Register::Scontrol),
            writer: None,
            victim: Some(Owner::VmBus),
        };
        let text = "somebody cleared SCONTROL while vmbus uses the SynIC";
        assert_eq!(violation.to_string(), text);
    }
}
