// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! The model: which steps are possible, and what each does.

use super::super::{Criterion, Driver, Owner, Role, Rules, SynicView, ViolationKind};
use super::guest::{Cpu, Guest, Life, Plan, Slot};
use super::replay::{Access, Job, Standing, Task};
use super::spec::{Faults, Written, is_freed_in_use, is_left_changed, is_on};
use crate::abi::{Bank, Register};
use stateright::{Model, Property};
use std::collections::BTreeSet;
use std::sync::Mutex;

/// A partition that MSHV runs in, an L1VH or a root: its drivers and its hypervisor.
pub(super) struct Parent {
    pub role: Role,
    pub vps: usize,
    pub vmbus: Driver,
    pub mshv: Driver,
    pub rules: Rules,
    /// A rule that is switched off.
    pub deaf_to: fn(ViolationKind) -> bool,
    /// Whose exit runs first when a CPU goes down.
    pub leaves_first: Owner,
    /// Accesses that were the first of their job to fail.
    pub failed: Mutex<BTreeSet<Failed>>,
}

/// Whose access, in an init or not, what it was and to which register or its page.
pub(super) type Failed = (&'static str, bool, &'static str, Register);

/// One step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Step {
    /// The next access of what runs on this VP.
    Access(usize),
    /// The same, and it fails.
    Fail(usize),
    /// VMBus does not let the CPU go (EBUSY).
    Refuse(usize),
    Load(Owner),
    Unload(Owner),
    Offline(usize),
    Online(usize),
    /// The reboot notifier is called.
    Shutdown(Plan),
    NextKernel,
    Crash(usize),
}

impl Parent {
    pub fn new(role: Role, vps: usize, criterion: Criterion) -> Self {
        Self {
            role,
            vps,
            vmbus: Driver::new(Owner::VmBus, role, criterion),
            mshv: Driver::new(Owner::Mshv, role, criterion),
            rules: Rules::new(role, criterion),
            deaf_to: |_| false,
            leaves_first: Owner::Mshv,
            failed: Mutex::default(),
        }
    }

    /// Whose SIMP, SIEFP and SCONTROL are.
    fn owns_pages(&self) -> Owner {
        match self.role {
            Role::Root => Owner::Mshv,
            _ => Owner::VmBus,
        }
    }

    fn standing(&self, job: &Job) -> Standing {
        job.standing(match job.owner {
            Owner::VmBus => self.vmbus,
            Owner::Mshv => self.mshv,
        })
    }

    /// The job of a VP, or the one that is due there.
    fn job(&self, guest: &mut Guest, index: usize) -> Option<Job> {
        let job = guest.vps[index].job.take();
        if job.is_some() {
            return job;
        }
        let (owner, claims) = guest.due(&guest.vps[index], self.leaves_first)?;
        let task = claims.map_or(Task::Init, |claims| Task::Exit(claims.clone()));
        Some(begin(guest, index, owner, task))
    }

    fn access(&self, guest: &mut Guest, index: usize, fails: bool) -> Option<()> {
        let mut job = self.job(guest, index)?;
        let standing = self.standing(&job);
        let access = standing.next?;
        if fails {
            self.note_failure(&job, access)?;
            job.refused |= 1 << job.done;
        } else {
            self.take_effect(guest, index, &job, &standing.written, access);
        }
        job.done += 1;
        let standing = self.standing(&job);
        if standing.next.is_some() {
            guest.vps[index].job = Some(job);
        } else {
            end(guest, index, &job, standing);
        }
        Some(())
    }

    /// `None` if the access cannot fail.
    fn note_failure(&self, job: &Job, access: Access) -> Option<()> {
        let (verb, register) = match access {
            Access::Read(register) => ("read", register),
            Access::Write(register, _) => ("write", register),
            Access::Map(page) => ("map", page.register()),
            Access::Allocate(page) => ("allocate", page.register()),
            Access::Release(_) => return None,
        };
        if !job.has_failed() {
            let failed = (job.owner.name(), job.task == Task::Init, verb, register);
            self.failed.lock().unwrap().insert(failed);
        }
        Some(())
    }

    fn take_effect(
        &self,
        guest: &mut Guest,
        index: usize,
        job: &Job,
        earlier: &[Register],
        access: Access,
    ) {
        let vp = &guest.vps[index];
        let (register, value) = match access {
            Access::Write(register, value) => (register, value),
            Access::Release(handle) => {
                let is_in_use = is_freed_in_use(&vp.view, handle);
                guest.faults.add_if(Faults::I5, is_in_use);
                return;
            }
            Access::Read(_) | Access::Map(_) | Access::Allocate(_) => return,
        };
        let mut after = vp.view;
        after.set(register, value);
        let report = self.rules.judge(Bank::Plain, &vp.view, register, value);
        let report = report.filter(|report| !(self.deaf_to)(report.kind));
        let written = Written {
            job,
            earlier,
            owns_pages: self.owns_pages(),
            mshv_is_there: vp.mshv != Slot::Out,
            before: &vp.view,
            after: &after,
            register,
            crashed: guest.crashed(),
            report,
        };
        guest.faults = written.faults();
        guest.reported = report.is_some();
        guest.vps[index].view = after;
    }

    fn start(&self, guest: &mut Guest, step: Step) -> Option<()> {
        match step {
            Step::Access(vp) => self.access(guest, vp, false)?,
            Step::Fail(vp) => self.access(guest, vp, true)?,
            Step::Refuse(vp) | Step::Online(vp) => guest.vps[vp].cpu = Cpu::ComingUp,
            Step::Offline(vp) => guest.vps[vp].cpu = Cpu::GoingDown,
            Step::Load(owner) => *guest.life_mut(owner) = Life::Loading,
            Step::Unload(owner) => *guest.life_mut(owner) = Life::Leaving,
            Step::Shutdown(plan) => {
                guest.plan = plan;
                if guest.mshv == Life::Loaded {
                    guest.mshv = Life::Leaving;
                }
            }
            Step::NextKernel => *guest = Guest::boot(guest.vps.iter().map(|vp| vp.view)),
            Step::Crash(vp) => crash(guest, vp),
        }
        Some(())
    }
}

/// One access of an init or exit, and one of its undo. The crash handler sees to no failures.
fn may_fail(job: &Job) -> bool {
    job.task != Task::Crash && job.refused.count_ones() < 2
}

/// The crash kernel has memory of its own.
fn begin(guest: &Guest, index: usize, owner: Owner, task: Task) -> Job {
    let memory = (index as u64 + 1) << 20 | u64::from(guest.crashed()) << 16;
    Job {
        owner,
        task,
        start: guest.vps[index].view,
        done: 0,
        refused: 0,
        memory,
    }
}

/// The other CPUs are stopped where they are, and none of this kernel's code runs again there.
fn crash(guest: &mut Guest, index: usize) {
    let views = guest.vps.iter().enumerate();
    let views = views.map(|(other, vp)| {
        if other == index {
            vp.view
        } else {
            Default::default()
        }
    });
    let mshv_slot = guest.vps[index].mshv.clone();
    let mut crashed = Guest::boot(views.collect::<Vec<_>>());
    crashed.plan = Plan::Crash;
    crashed.vps.iter_mut().for_each(|vp| vp.cpu = Cpu::Offline);
    crashed.vps[index].cpu = Cpu::Online;
    crashed.vps[index].mshv = mshv_slot;
    let job = begin(&crashed, index, Owner::VmBus, Task::Crash);
    crashed.vps[index].job = Some(job);
    *guest = crashed;
}

/// A job is over.
fn end(guest: &mut Guest, index: usize, job: &Job, standing: Standing) {
    let owner = job.owner;
    let vp = &mut guest.vps[index];
    // A second failure was one of the undo, which tries again.
    let is_undone = job.task == Task::Init && job.refused.count_ones() == 1;
    let has_left = standing.claims.is_some() || !standing.held.is_empty();
    let is_changed = has_left || is_left_changed(&job.start, &vp.view);
    guest.faults.add_if(Faults::I6, is_undone && is_changed);
    let keeps_scontrol = is_on(&vp.view, Register::Scontrol);
    let left = job.had_scontrol() && standing.succeeded && keeps_scontrol;
    guest.faults.add_if(Faults::I3, left);

    *vp.slot_mut(owner) = match standing.claims {
        None => Slot::Out,
        Some(claims) if job.task == Task::Init && standing.succeeded => Slot::In(claims),
        Some(claims) => Slot::Left(claims),
    };
    match job.task {
        Task::Init if !standing.succeeded => roll_back(guest, index, owner),
        Task::Init | Task::Exit(_) => {}
        Task::Crash => {
            vp.mshv = Slot::Out;
            guest.plan = Plan::CrashKernel;
            guest.vmbus = Life::Loading;
        }
    }
}

/// A failed init takes the CPU down again, or the module from all CPUs.
fn roll_back(guest: &mut Guest, index: usize, owner: Owner) {
    if guest.life(owner) == Life::Loading {
        *guest.life_mut(owner) = Life::RollingBack;
    } else if guest.vps[index].cpu == Cpu::ComingUp {
        guest.vps[index].cpu = Cpu::GoingDown;
    }
}

impl Model for Parent {
    type State = Guest;
    type Action = Step;

    /// SCONTROL is set at reset on Hyper-V, and clear elsewhere. A root is given its pages.
    fn init_states(&self) -> Vec<Guest> {
        let [simp, siefp, sirbp] = match self.role {
            Role::Root => [0xA_1000, 0xA_2000, 0xA_3000],
            _ => [0; 3],
        };
        let at_reset = |scontrol| SynicView {
            scontrol,
            simp,
            siefp,
            sirbp,
            ..Default::default()
        };
        let guest = |scontrol| Guest::boot(vec![at_reset(scontrol); self.vps]);
        vec![guest(0), guest(1)]
    }

    fn actions(&self, guest: &Guest, steps: &mut Vec<Step>) {
        for (index, vp) in guest.vps.iter().enumerate() {
            let due = guest.due(vp, self.leaves_first);
            if vp.job.is_some() || due.is_some() {
                steps.push(Step::Access(index));
                if vp.job.as_ref().is_none_or(may_fail) {
                    steps.push(Step::Fail(index));
                }
            }
            let is_vmbus_to_leave = matches!(due, Some((Owner::VmBus, Some(_))));
            let may_refuse = vp.cpu == Cpu::GoingDown && matches!(vp.vmbus, Slot::In(_));
            if vp.job.is_none() && is_vmbus_to_leave && may_refuse {
                steps.push(Step::Refuse(index));
            }
            let can_crash = !guest.crashed() && guest.vmbus != Life::Absent;
            if can_crash && vp.cpu != Cpu::Offline {
                steps.push(Step::Crash(index));
            }
        }
        if guest.plan == Plan::NextKernel {
            steps.push(Step::NextKernel);
        }
        if guest.is_quiet() {
            self.quiet_actions(guest, steps);
        }
    }

    fn next_state(&self, last: &Guest, step: Step) -> Option<Guest> {
        let mut guest = last.clone();
        (guest.faults, guest.reported) = (Faults::NONE, false);
        self.start(&mut guest, step)?;
        guest.settle(self.leaves_first);
        Some(guest)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        super::properties::all(self.role)
    }
}

impl Parent {
    fn quiet_actions(&self, guest: &Guest, steps: &mut Vec<Step>) {
        let has_vmbus = self.role == Role::L1vh;
        match (guest.vmbus, guest.mshv) {
            (Life::Absent, Life::Absent) if !has_vmbus => steps.push(Step::Load(Owner::Mshv)),
            (Life::Absent, _) if has_vmbus => steps.push(Step::Load(Owner::VmBus)),
            (_, Life::Absent) => {
                steps.extend([Step::Load(Owner::Mshv), Step::Unload(Owner::VmBus)]);
            }
            _ => steps.push(Step::Unload(Owner::Mshv)),
        }
        if guest.vmbus == Life::Loaded || guest.mshv == Life::Loaded {
            let plans = [Plan::Reboot, Plan::Kexec];
            steps.extend(plans.map(Step::Shutdown));
        }
        let online = guest.vps.iter().filter(|vp| vp.cpu == Cpu::Online).count();
        for (index, vp) in guest.vps.iter().enumerate() {
            match vp.cpu {
                // The last CPU never goes; with one VP it stands for another.
                Cpu::Online if online > 1 || self.vps == 1 => steps.push(Step::Offline(index)),
                Cpu::Offline => steps.push(Step::Online(index)),
                _ => {}
            }
        }
    }
}
