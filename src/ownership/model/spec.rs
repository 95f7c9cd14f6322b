// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! The invariants, said once more without the ownership table: they hold the table to account.
//!
//! For an L1VH, where both drivers share one bank, and for a root, where MSHV has it alone.

use super::super::{Owner, SynicView, Violation, ViolationKind};
use super::replay::{Handle, Job, Task};
use crate::abi::{PageRegister, Register, Scontrol, Sint, SintIndex};

/// What one step broke; a bit each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Faults(u16);

impl Faults {
    pub const NONE: Self = Self(0);
    pub const I1: Self = Self(1 << 1);
    pub const I2: Self = Self(1 << 2);
    pub const I3: Self = Self(1 << 3);
    pub const I4: Self = Self(1 << 4);
    pub const I5: Self = Self(1 << 5);
    pub const I6: Self = Self(1 << 6);
    pub const I7: Self = Self(1 << 7);
    /// The rules report a write that breaks nothing.
    pub const FALSE_ALARM: Self = Self(1 << 8);
    /// The rules say nothing of a write that they should see.
    pub const UNSEEN: Self = Self(1 << 9);

    pub fn has(self, fault: Self) -> bool {
        self.0 & fault.0 != 0
    }

    pub fn add_if(&mut self, fault: Self, broken: bool) {
        if broken {
            self.0 |= fault.0;
        }
    }
}

const SINT0: Register = Register::Sint(SintIndex::INTERCEPT);
const SINT2: Register = Register::Sint(SintIndex::VMBUS);
const SINT5: Register = Register::Sint(SintIndex::DOORBELL);
const PAGES: [Register; 3] = [Register::Simp, Register::Siefp, Register::Sirbp];

/// Whether a register enables or unmasks.
pub(super) fn is_on(view: &SynicView, register: Register) -> bool {
    let value = view.get(register).unwrap_or(0);
    match register {
        Register::Scontrol => Scontrol::from(value).enable(),
        Register::Sint(_) => !Sint::from(value).masked(),
        _ => PageRegister::from(value).enabled(),
    }
}

/// Whether something of MSHV's can still be signalled.
pub(super) fn mshv_listens(view: &SynicView) -> bool {
    is_on(view, SINT0) || is_on(view, SINT5)
}

/// One write of a job, before it takes effect.
pub(super) struct Written<'a> {
    pub job: &'a Job,
    /// What the job has written before.
    pub earlier: &'a [Register],
    /// Whose SIMP, SIEFP and SCONTROL are.
    pub owns_pages: Owner,
    pub mshv_is_there: bool,
    pub before: &'a SynicView,
    pub after: &'a SynicView,
    pub register: Register,
    /// The kernel that crashed on this VP, or the one after it, is at work.
    pub crashed: bool,
    pub report: Option<Violation>,
}

impl Written<'_> {
    pub fn faults(&self) -> Faults {
        let mut faults = Faults::NONE;
        faults.add_if(Faults::I1, self.is_hands_on());
        faults.add_if(Faults::I2, self.is_teardown_while_off());
        faults.add_if(Faults::I3, self.takes_scontrol());
        faults.add_if(Faults::I4, self.is_unmasked_below());
        faults.add_if(Faults::I6, self.undoes_what_is_not_its_own());
        faults.add_if(Faults::I7, self.is_before_mshv());
        let is_alarm = self.report.is_some_and(|it| !self.may_be_reported(it.kind));
        faults.add_if(Faults::FALSE_ALARM, faults == Faults::NONE && is_alarm);
        faults.add_if(
            Faults::UNSEEN,
            self.must_be_reported() && self.report.is_none(),
        );
        faults
    }

    fn goes_off(&self, register: Register) -> bool {
        self.register == register && is_on(self.before, register) && !is_on(self.after, register)
    }

    fn is_simp_or_siefp(&self) -> bool {
        matches!(self.register, Register::Simp | Register::Siefp)
    }

    fn is_hands_on(&self) -> bool {
        let is_others = self.is_simp_or_siefp() || self.register == Register::Scontrol;
        self.job.owner != self.owns_pages && is_others
    }

    fn is_teardown_while_off(&self) -> bool {
        self.tears_down_while_off() && !self.may_tear_down_while_off()
    }

    fn tears_down_while_off(&self) -> bool {
        let is_off = !is_on(self.before, Register::Scontrol);
        is_off && (self.goes_off(self.register) || self.drops_address())
    }

    /// A crash does not choose its time, and an init that fails before it has set SCONTROL has no
    /// other time to take things back.
    fn may_tear_down_while_off(&self) -> bool {
        let is_before_scontrol = self.job.owner == self.owns_pages && !self.job.had_scontrol();
        self.job.task == Task::Crash || is_before_scontrol
    }

    /// The second clean-up of a page that is disabled already.
    fn drops_address(&self) -> bool {
        let is_still_off = |view| !is_on(view, self.register);
        let has_address =
            |view: &SynicView| view.get(self.register).is_some_and(|it| it >> 12 != 0);
        self.is_simp_or_siefp()
            && is_still_off(self.before)
            && is_still_off(self.after)
            && has_address(self.before)
            && !has_address(self.after)
    }

    fn takes_scontrol(&self) -> bool {
        let is_entitled = self.job.owner == self.owns_pages && self.job.had_scontrol();
        self.goes_off(Register::Scontrol) && (self.is_in_use() || !is_entitled)
    }

    fn is_in_use(&self) -> bool {
        let mut all = PAGES.into_iter().chain([SINT0, SINT2, SINT5]);
        all.any(|register| is_on(self.before, register))
    }

    fn is_unmasked_below(&self) -> bool {
        let owner_listens = match self.owns_pages {
            Owner::VmBus => is_on(self.before, SINT2),
            Owner::Mshv => mshv_listens(self.before),
        };
        let loses_page = self.goes_off(Register::Simp) || self.goes_off(Register::Siefp);
        loses_page && owner_listens || self.goes_off(Register::Sirbp) && is_on(self.before, SINT5)
    }

    fn undoes_what_is_not_its_own(&self) -> bool {
        let is_undo = self.job.task == Task::Init && self.job.has_failed();
        is_undo && !self.earlier.contains(&self.register)
    }

    fn is_before_mshv(&self) -> bool {
        let is_leaving = matches!(self.job.task, Task::Exit(_));
        self.job.owner == Owner::VmBus && is_leaving && self.mshv_is_there
    }

    /// What is reported of a crash, and what the two exemptions from I2 look like from outside.
    fn may_be_reported(&self, kind: ViolationKind) -> bool {
        match kind {
            // A crash kernel cannot tell the hypervisor that the MSHV before it is dead.
            ViolationKind::VmBusLeftFirst => self.crashed && mshv_listens(self.before),
            ViolationKind::WriteWhileOff => self.tears_down_while_off(),
            _ => false,
        }
    }

    /// MSHV enables or moves a page that VMBus receives messages in.
    fn is_page_rewritten(&self) -> bool {
        let stays_on = is_on(self.before, self.register) && is_on(self.after, self.register);
        self.is_hands_on() && self.is_simp_or_siefp() && stays_on && is_on(self.before, SINT2)
    }

    fn must_be_reported(&self) -> bool {
        let is_on_now = is_on(self.before, Register::Scontrol);
        let goes_off = self.goes_off(self.register);
        let page_lost = is_on_now && goes_off && self.is_simp_or_siefp();
        let takes_from_mshv = page_lost && mshv_listens(self.before);
        // A page that goes off while SCONTROL is off may be a root's failed init.
        let is_seen_while_off = self.is_teardown_while_off() && !self.is_simp_or_siefp();
        is_seen_while_off
            || is_on_now && (self.is_unmasked_below() || self.is_page_rewritten())
            || self.goes_off(Register::Scontrol) && self.is_in_use()
            || takes_from_mshv
    }
}

/// Whether a page is freed while its register still points at it, enabled or not.
pub(super) fn is_freed_in_use(view: &SynicView, handle: Handle) -> bool {
    let value = view.get(handle.page.register()).unwrap_or(0);
    handle.is_own && PageRegister::from(value).gpa() == handle.gpa
}

/// Whether a failed init has left the registers other than it found them. What is masked or
/// disabled may have changed in other bits.
pub(super) fn is_left_changed(start: &SynicView, end: &SynicView) -> bool {
    let mut all = PAGES.into_iter();
    let page_changed = all.any(|register| start.get(register) != end.get(register));
    let mut switches = [Register::Scontrol, SINT0, SINT2, SINT5].into_iter();
    page_changed || switches.any(|register| is_on(start, register) != is_on(end, register))
}
