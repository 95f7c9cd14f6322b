// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! Who may touch which SynIC register, on both sides of the register interface.
//!
//! Two drivers of one guest kernel share a VP's SynIC. VMBus receives its messages through it; the
//! MSHV driver, where the guest is itself a parent of virtual machines, receives intercepts and
//! doorbells. In an L1VH partition both use the *same* registers, and the hypervisor does not
//! tolerate what used to follow when MSHV left first: it took down the pages and the global enable
//! bit under a running VMBus, whose own clean-up then wrote to a SynIC that was off.
//!
//! Read in this order:
//!
//! | part | side | content |
//! |---|---|---|
//! | [`Ownership`] | both | the table: who switches a register, who maps or allocates its page |
//! | [`Driver`], [`Claims`] | driver | VMBus's and MSHV's init and exit on one VP, generated from the table |
//! | [`Rules`], [`Violation`] | hypervisor | judges one register write by the state before it |
//! | [`Ledger`] | hypervisor | bounded history of writes, and of what broke the rules |
//!
//! # The rules
//! 1. *Hands off*: on L1VH, MSHV leaves SIMP, SIEFP and SCONTROL alone, at init and at exit.
//! 2. *No write while off*: no register is torn down while SCONTROL is off.
//! 3. *Last one out*: who set SCONTROL clears it, as its last write, when nothing is in use.
//! 4. *Mask first*: a SINT is masked before the page or ring it delivers into is disabled.
//! 5. *Free last*: a page is freed only after its register no longer points at it.
//! 6. *Undo your own*: a failed init takes back only what that same call did.
//! 7. *MSHV leaves first*: its exit is complete while VMBus still runs.
//! 8. *Rings remember*: the read position of an event ring outlives a reload of the MSHV driver.
//!
//! The driver side keeps 1 to 7 by construction; 8 concerns the consumer of the ring, which is why
//! [`Claims`] hold the ring page but no read position. The hypervisor side sees 1, 2, 3, 4 and 7
//! in the register writes, and 6 where it breaks 1; what a kernel does with its memory (5, 8) it
//! cannot see. It names what it saw by a [`ViolationKind`]:
//!
//! | write, SCONTROL on unless it says otherwise | while | kind | rule |
//! |---|---|---|---|
//! | SIMP, SIEFP disabled | a SINT of its owner is unmasked | `PageDisabled` | 4; shared: 1 |
//! | SIMP, SIEFP disabled, shared | its owner's SINTs are masked, the other driver's are not | `VmBusLeftFirst` | 7 |
//! | SIMP, SIEFP moved or enabled again, shared | a SINT of its owner is unmasked | `PageRewritten` | 1 |
//! | SIRBP disabled | SINT5 is unmasked | `PageDisabled` | 4 |
//! | SCONTROL cleared by VMBus, which has left | MSHV uses the SynIC | `VmBusLeftFirst` | 7 |
//! | SCONTROL cleared otherwise | something is in use | `OffWhileInUse` | 3 |
//! | a teardown | SCONTROL is off | `WriteWhileOff` | 2 |

mod access;
mod driver;
#[cfg(test)]
mod fake;
mod ledger;
#[cfg(test)]
mod model;
mod role;
mod rules;
mod table;
mod violation;

pub use access::{Action, Failure, SynicAccess, SynicPage};
pub use driver::{Claims, Driver};
pub(crate) use ledger::meaning;
pub use ledger::{Entry, Ledger};
pub use role::{Criterion, Owner, Role};
pub use rules::{Rules, SynicView};
pub use table::{Ownership, PageUse};
pub use violation::{Violation, ViolationKind, ViolationPolicy};
