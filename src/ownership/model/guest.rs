// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! The state of the guest: its VPs, its drivers, and what its kernel is about to do.

use super::super::{Claims, Owner, SynicView};
use super::replay::{Handle, Job};
use super::spec::Faults;

/// One guest.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Guest {
    pub vps: Vec<Vp>,
    pub vmbus: Life,
    pub mshv: Life,
    pub plan: Plan,
    /// What the last step broke.
    pub faults: Faults,
    /// Whether the rules reported the last step.
    pub reported: bool,
}

/// One VP, and what its kernel knows of it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Vp {
    pub view: SynicView,
    pub cpu: Cpu,
    pub vmbus: Slot,
    pub mshv: Slot,
    pub job: Option<Job>,
}

/// Whose init is due, or with claims, whose exit.
pub(super) type Due<'a> = (Owner, Option<&'a Claims<Handle>>);

/// Where the CPU is in Linux's hotplug.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Cpu {
    Offline,
    GoingDown,
    ComingUp,
    Online,
}

/// What a driver has on a VP.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Slot {
    Out,
    In(Claims<Handle>),
    /// A failed undo or exit left this; it must be exited again.
    Left(Claims<Handle>),
}

/// A driver's module, for all CPUs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Life {
    Absent,
    Loading,
    Loaded,
    Leaving,
    /// Leaving, because the init of one CPU failed.
    RollingBack,
}

/// What the kernel is about to do with its drivers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Plan {
    Run,
    /// The reboot notifier has MSHV leave; VMBus stays.
    Reboot,
    /// The VM may be reset.
    Rebooted,
    /// The reboot notifier has MSHV leave, then VMBus leaves.
    Kexec,
    /// GUEST_OS_ID is 0, the next kernel has not begun.
    NextKernel,
    /// The crash handler runs on one CPU; the others are stopped.
    Crash,
    /// A crash kernel runs on the CPU that crashed.
    CrashKernel,
}

impl Guest {
    /// Before a kernel boots on registers as they are.
    pub fn boot(views: impl IntoIterator<Item = SynicView>) -> Self {
        let vps = views.into_iter().map(|view| Vp {
            view,
            cpu: Cpu::Online,
            vmbus: Slot::Out,
            mshv: Slot::Out,
            job: None,
        });
        Self {
            vps: vps.collect(),
            vmbus: Life::Absent,
            mshv: Life::Absent,
            plan: Plan::Run,
            faults: Faults::NONE,
            reported: false,
        }
    }

    pub fn life(&self, owner: Owner) -> Life {
        match owner {
            Owner::VmBus => self.vmbus,
            Owner::Mshv => self.mshv,
        }
    }

    pub fn life_mut(&mut self, owner: Owner) -> &mut Life {
        match owner {
            Owner::VmBus => &mut self.vmbus,
            Owner::Mshv => &mut self.mshv,
        }
    }

    pub fn crashed(&self) -> bool {
        matches!(self.plan, Plan::Crash | Plan::CrashKernel)
    }

    /// What is to run next on a VP, an exit with these claims or an init; `None` if all is as it
    /// should be.
    pub fn due<'a>(&self, vp: &'a Vp, leaves_first: Owner) -> Option<Due<'a>> {
        if self.plan == Plan::Crash {
            return None;
        }
        let leaves_last = match leaves_first {
            Owner::Mshv => Owner::VmBus,
            Owner::VmBus => Owner::Mshv,
        };
        let exits = [leaves_first, leaves_last].into_iter();
        let mut exits = exits.filter_map(|owner| match vp.slot(owner) {
            Slot::In(claims) if !self.is_wanted(vp, owner) => Some((owner, claims)),
            Slot::Left(claims) => Some((owner, claims)),
            Slot::In(_) | Slot::Out => None,
        });
        if let Some((owner, claims)) = exits.next() {
            return Some((owner, Some(claims)));
        }
        let mut inits = [Owner::VmBus, Owner::Mshv].into_iter();
        let owner =
            inits.find(|&owner| *vp.slot(owner) == Slot::Out && self.is_wanted(vp, owner))?;
        Some((owner, None))
    }

    fn is_wanted(&self, vp: &Vp, owner: Owner) -> bool {
        matches!(self.life(owner), Life::Loading | Life::Loaded)
            && matches!(vp.cpu, Cpu::Online | Cpu::ComingUp)
    }

    /// Nothing is under way: Linux lets modules load, CPUs come and go, and reboots begin.
    pub fn is_quiet(&self) -> bool {
        let modules = [self.vmbus, self.mshv].into_iter();
        let are_still = |mut lives: std::array::IntoIter<Life, 2>| {
            lives.all(|life| matches!(life, Life::Absent | Life::Loaded))
        };
        let cpus = self.vps.iter();
        let mut cpus = cpus.map(|vp| matches!(vp.cpu, Cpu::Offline | Cpu::Online));
        self.plan == Plan::Run && are_still(modules) && cpus.all(|is_still| is_still)
    }

    /// A driver is on all VPs, and nothing is under way there.
    pub fn is_up_everywhere(&self, owner: Owner) -> bool {
        let is_up = |vp: &Vp| vp.job.is_none() && matches!(vp.slot(owner), Slot::In(_));
        self.vps.iter().all(is_up)
    }

    /// Steps that need no access: what has come to its end, has.
    pub fn settle(&mut self, leaves_first: Owner) {
        for index in 0..self.vps.len() {
            let vp = &self.vps[index];
            if vp.job.is_some() || self.due(vp, leaves_first).is_some() {
                continue;
            }
            self.vps[index].cpu = match vp.cpu {
                Cpu::ComingUp | Cpu::Online => Cpu::Online,
                Cpu::GoingDown | Cpu::Offline => Cpu::Offline,
            };
        }
        for owner in [Owner::Mshv, Owner::VmBus] {
            self.settle_life(owner, leaves_first);
        }
        self.plan = match (self.plan, self.mshv, self.vmbus) {
            (Plan::Reboot, Life::Absent, _) => Plan::Rebooted,
            (Plan::Kexec, Life::Absent, Life::Absent) => Plan::NextKernel,
            (plan, ..) => plan,
        };
        if (self.plan, self.mshv, self.vmbus) == (Plan::Kexec, Life::Absent, Life::Loaded) {
            self.vmbus = Life::Leaving;
        }
    }

    fn settle_life(&mut self, owner: Owner, leaves_first: Owner) {
        let is_done = |vp: &Vp| vp.job.is_none() && self.due(vp, leaves_first).is_none();
        let is_out = |vp: &Vp| vp.job.is_none() && *vp.slot(owner) == Slot::Out;
        let life = match self.life(owner) {
            Life::Loading if self.vps.iter().all(is_done) => Life::Loaded,
            Life::Leaving | Life::RollingBack if self.vps.iter().all(is_out) => Life::Absent,
            life => life,
        };
        *self.life_mut(owner) = life;
    }
}

impl Vp {
    pub fn slot(&self, owner: Owner) -> &Slot {
        match owner {
            Owner::VmBus => &self.vmbus,
            Owner::Mshv => &self.mshv,
        }
    }

    pub fn slot_mut(&mut self, owner: Owner) -> &mut Slot {
        match owner {
            Owner::VmBus => &mut self.vmbus,
            Owner::Mshv => &mut self.mshv,
        }
    }
}
