// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! The hypervisor's side: judging a register write by the state before it.
//!
//! A hypervisor sees neither drivers nor intentions, only writes. The rules rest on one
//! observation: a driver masks its own SINTs before anything else on its way out. So while a SINT
//! is unmasked its owner has not begun to leave, and whoever takes something from under it is
//! somebody else, or careless.
//!
//! # VMBus alone
//!
//! A crashing or hibernating Linux switches off VMBus's half on its current VP whatever MSHV does
//! (`hv_crash_handler`, `hv_synic_suspend`): SINT2 masked, SIMP and SIEFP disabled, SCONTROL left
//! on. On an L1VH with MSHV up its messages have nowhere to go from then on, so each of the two
//! pages is reported as [`VmBusLeftFirst`](ViolationKind::VmBusLeftFirst). That includes SIEFP,
//! though doorbells set no flags: MSHV has the page mapped, and what its owner switches off it may
//! free.
//!
//! With [`ViolationPolicy::Refuse`](super::ViolationPolicy::Refuse) both pages stay on where they
//! are. This takes nothing from the guest that it counts on: SINT2 is masked, so VMBus hears no
//! more; what is still written for MSHV goes to pages that a crash kernel does not use and that
//! hibernation keeps; and to enable a page anew, somewhere else, is no violation once VMBus's SINTs
//! are masked, so a crash kernel gets its own. With [`Fault`](super::ViolationPolicy::Fault) the
//! crash handler takes a #GP for each page.
//!
//! SINT0 and SINT5 of a driver that died in a crash stay unmasked, and nobody tells the hypervisor
//! that it is dead. A crash kernel that unloads VMBus is reported as well, until a reset.

use super::{Criterion, Owner, Ownership, Role, Violation, ViolationKind};
use crate::abi::{Bank, PageRegister, Register, RegisterId, SINT_COUNT, Sint, SintIndex};

/// The register values of one bank of one VP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SynicView {
    /// SCONTROL, laid out like [`Scontrol`](crate::abi::Scontrol).
    pub scontrol: u64,
    /// SIMP, laid out like [`PageRegister`].
    pub simp: u64,
    /// SIEFP, likewise.
    pub siefp: u64,
    /// SIRBP, likewise.
    pub sirbp: u64,
    /// SINT0 to SINT15, laid out like [`Sint`].
    pub sints: [u64; SINT_COUNT],
}

impl Default for SynicView {
    /// Everything off: SINTs masked, SCONTROL clear.
    fn default() -> Self {
        Self {
            scontrol: 0,
            simp: 0,
            siefp: 0,
            sirbp: 0,
            sints: [Sint::RESET.into(); SINT_COUNT],
        }
    }
}

impl SynicView {
    /// The registers that are on: enabled, or unmasked.
    pub fn on(&self) -> impl Iterator<Item = Register> + '_ {
        let shared = [
            Register::Scontrol,
            Register::Simp,
            Register::Siefp,
            Register::Sirbp,
        ];
        let all = (shared.into_iter()).chain(SintIndex::all().map(Register::Sint));
        all.filter(|register| {
            let value = self.get(*register);
            value.is_some_and(|value| register.is_on(value))
        })
    }

    /// The value of a register; `None` for those that hold no state of the SynIC.
    pub fn get(&self, register: Register) -> Option<u64> {
        match register {
            Register::Scontrol => Some(self.scontrol),
            Register::Simp => Some(self.simp),
            Register::Siefp => Some(self.siefp),
            Register::Sirbp => Some(self.sirbp),
            Register::Sint(sint) => self.sints.get(sint.index()).copied(),
            // Timers are no driver's: Linux's clock source has them.
            Register::TimerConfig(_) | Register::TimerCount(_) => None,
            Register::VpIndex | Register::Sversion | Register::Eom => None,
        }
    }

    fn is_on(&self, register: Register) -> bool {
        self.get(register)
            .is_some_and(|value| register.is_on(value))
    }
}

/// What the writes of a guest are held against.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    role: Role,
    criterion: Criterion,
    strict_bring_up: bool,
}

impl Rules {
    /// The rules for a partition of this role, whose MSHV driver uses this criterion.
    pub const fn new(role: Role, criterion: Criterion) -> Self {
        Self {
            role,
            criterion,
            strict_bring_up: false,
        }
    }

    /// Whether *no write while off* covers bring-up, too. Off by default: Linux sets SCONTROL
    /// last, so with it every init breaks the rule unless SCONTROL is set at reset.
    #[must_use]
    pub const fn strict_bring_up(self, strict: bool) -> Self {
        Self {
            strict_bring_up: strict,
            ..self
        }
    }

    /// Who is entitled to write a register.
    pub const fn owner(&self, id: RegisterId) -> Option<Owner> {
        Ownership::of(self.role, self.criterion, id).switch
    }

    /// What is wrong with writing `after` to a register, if anything is.
    pub fn judge(
        &self,
        bank: Bank,
        before: &SynicView,
        register: Register,
        after: u64,
    ) -> Option<Violation> {
        let old = before.get(register)?;
        let write = Write {
            rules: self,
            bank,
            before,
            register,
        };
        let (was_on, stays_on) = (register.is_on(old), register.is_on(after));
        match register {
            Register::Scontrol if was_on && !stays_on => write.clears_scontrol(),
            Register::Scontrol => None,
            _ if !before.is_on(Register::Scontrol) => {
                let broken = self.strict_bring_up || tears_down(register, old, after);
                broken.then(|| write.while_off())
            }
            Register::Simp | Register::Siefp if was_on && stays_on => write.rewrites_page(),
            Register::Simp | Register::Siefp if was_on => write.disables_page(),
            Register::Sirbp if was_on && !stays_on => write.disables_ring(),
            _ => None,
        }
    }
}

/// One write to a register, before it takes effect.
struct Write<'a> {
    rules: &'a Rules,
    bank: Bank,
    before: &'a SynicView,
    register: Register,
}

impl Write<'_> {
    /// A page of both drivers: its owner masks its SINTs before, so this is the other one.
    fn rewrites_page(&self) -> Option<Violation> {
        let row = self.row(self.register);
        let victim = row.dependant()?;
        let sint = self.unmasked_sint(victim)?;
        row.is_shared().then(|| {
            let kind = ViolationKind::PageRewritten(sint);
            self.violation(kind, Some(other(victim)), Some(victim))
        })
    }

    fn disables_page(&self) -> Option<Violation> {
        let row = self.row(self.register);
        let victim = row.dependant()?;
        let Some(sint) = self.unmasked_sint(victim) else {
            return self.leaves_first(row);
        };
        let writer = if row.is_shared() {
            other(victim)
        } else {
            victim
        };
        let kind = ViolationKind::PageDisabled(sint);
        Some(self.violation(kind, Some(writer), Some(victim)))
    }

    /// The owner's SINTs are masked, so this is the owner itself, on its way out.
    fn leaves_first(&self, row: Ownership) -> Option<Violation> {
        let owner = row.switch.filter(|_| row.is_shared())?;
        let victim = other(owner);
        self.unmasked_sint(victim)?;
        Some(self.violation(ViolationKind::VmBusLeftFirst, Some(owner), Some(victim)))
    }

    /// Of MSHV's SINTs only the doorbells deliver into the ring.
    fn disables_ring(&self) -> Option<Violation> {
        let owner = self.row(self.register).switch?;
        let sint = SintIndex::DOORBELL;
        self.before.is_on(Register::Sint(sint)).then(|| {
            let kind = ViolationKind::PageDisabled(sint);
            self.violation(kind, Some(owner), Some(owner))
        })
    }

    /// The writer's own clean-up is what fails, whoever switched the SynIC off before.
    fn while_off(&self) -> Violation {
        let writer = self.row(self.register).switch;
        self.violation(ViolationKind::WriteWhileOff, writer, writer)
    }

    fn clears_scontrol(&self) -> Option<Violation> {
        use Owner::{Mshv, VmBus};
        use ViolationKind::{OffWhileInUse, VmBusLeftFirst};
        let owner = self.row(Register::Scontrol).switch;
        let (kind, writer, victim) = match (self.uses(VmBus), self.uses(Mshv)) {
            (false, false) => return None,
            (false, true) if owner == Some(VmBus) => (VmBusLeftFirst, owner, Mshv),
            (false, true) => (OffWhileInUse, Some(Mshv), Mshv),
            // Neither has begun to leave, or neither has finished.
            (true, true) => (OffWhileInUse, None, VmBus),
            (true, false) => (OffWhileInUse, Some(self.who_left_vmbus_running()), VmBus),
        };
        Some(self.violation(kind, writer, Some(victim)))
    }

    /// MSHV after its own exit, unless VMBus has begun to leave or MSHV has no access.
    fn who_left_vmbus_running(&self) -> Owner {
        let shared = self.row(Register::Simp).is_shared();
        match self.unmasked_sint(Owner::VmBus) {
            Some(_) if shared => Owner::Mshv,
            _ => Owner::VmBus,
        }
    }

    /// Whether a register other than SCONTROL, which is its to switch, is still on.
    fn uses(&self, owner: Owner) -> bool {
        let pages = [Register::Simp, Register::Siefp, Register::Sirbp];
        let is_used = |register: Register| {
            self.before.is_on(register) && self.row(register).switch == Some(owner)
        };
        self.unmasked_sint(owner).is_some() || pages.into_iter().any(is_used)
    }

    fn unmasked_sint(&self, owner: Owner) -> Option<SintIndex> {
        SintIndex::all().find(|sint| {
            let register = Register::Sint(*sint);
            self.before.is_on(register) && self.row(register).switch == Some(owner)
        })
    }

    fn row(&self, register: Register) -> Ownership {
        Ownership::of(self.rules.role, self.rules.criterion, self.id(register))
    }

    fn id(&self, register: Register) -> RegisterId {
        RegisterId {
            bank: self.bank,
            register,
        }
    }

    fn violation(
        &self,
        kind: ViolationKind,
        writer: Option<Owner>,
        victim: Option<Owner>,
    ) -> Violation {
        Violation {
            kind,
            register: self.id(self.register),
            writer,
            victim,
        }
    }
}

const fn other(owner: Owner) -> Owner {
    match owner {
        Owner::VmBus => Owner::Mshv,
        Owner::Mshv => Owner::VmBus,
    }
}

/// Whether a write can only belong to a clean-up.
///
/// Disabling SIMP or SIEFP is not enough: a root whose init fails takes them back before SCONTROL
/// was ever set. But an address dropped from a page that is disabled already is the second of two
/// clean-ups.
fn tears_down(register: Register, before: u64, after: u64) -> bool {
    let goes_off = register.is_on(before) && !register.is_on(after);
    match register {
        Register::Simp | Register::Siefp => {
            let (before, after) = (PageRegister::from(before), PageRegister::from(after));
            let drops_address = before.page_number() != 0 && after.page_number() == 0;
            !before.enabled() && !after.enabled() && drops_address
        }
        _ => goes_off,
    }
}

#[cfg(test)]
mod linux_tests;
#[cfg(test)]
mod tests;
