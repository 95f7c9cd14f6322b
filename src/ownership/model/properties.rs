// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! What holds of each state, and what must be reached.

use super::super::{Owner, Role};
use super::guest::{Cpu, Guest, Life, Plan, Slot, Vp};
use super::parent::Parent;
use super::replay::Task;
use super::spec::Faults;
use stateright::Property;

pub(super) const I1: &str = "I1: MSHV never writes SIMP, SIEFP or SCONTROL";
pub(super) const I2: &str = "I2: nothing is torn down while SCONTROL is off";
pub(super) const I3: &str = "I3: who set SCONTROL clears it, last";
pub(super) const I4: &str = "I4: a SINT is masked before its page or ring goes";
pub(super) const I5: &str = "I5: no page is freed while its register points at it";
pub(super) const I6: &str = "I6: a failed init takes back what it did, and no more";
pub(super) const I7: &str = "I7: MSHV has left a VP before VMBus begins to";
pub(super) const QUIET: &str = "rules: what breaks nothing is not reported";
pub(super) const LOUD: &str = "rules: what breaks something is reported";

/// All properties of a model of this role.
pub(super) fn all(role: Role) -> Vec<Property<Parent>> {
    let mut properties = vec![
        Property::always(I1, |_, guest: &Guest| !guest.faults.has(Faults::I1)),
        Property::always(I2, |_, guest: &Guest| !guest.faults.has(Faults::I2)),
        Property::always(I3, |_, guest: &Guest| !guest.faults.has(Faults::I3)),
        Property::always(I4, |_, guest: &Guest| !guest.faults.has(Faults::I4)),
        Property::always(I5, |_, guest: &Guest| !guest.faults.has(Faults::I5)),
        Property::always(I6, |_, guest: &Guest| !guest.faults.has(Faults::I6)),
        Property::always(I7, |_, guest: &Guest| !guest.faults.has(Faults::I7)),
        Property::always(QUIET, |_, g: &Guest| !g.faults.has(Faults::FALSE_ALARM)),
        Property::always(LOUD, |_, guest: &Guest| !guest.faults.has(Faults::UNSEEN)),
    ];
    properties.extend(reached());
    if role == Role::L1vh {
        properties.extend(reached_on_l1vh());
    }
    properties
}

/// A model that gets nowhere would keep every promise.
fn reached() -> Vec<Property<Parent>> {
    vec![
        Property::sometimes("MSHV runs on all VPs", |_, guest: &Guest| {
            guest.mshv == Life::Loaded && guest.is_up_everywhere(Owner::Mshv)
        }),
        Property::sometimes(
            "a load that failed on one VP leaves another",
            |model: &Parent, guest: &Guest| {
                let goes = |vp: &Vp| vp.job.is_some() && matches!(vp.mshv, Slot::In(_));
                let is_left = guest.mshv == Life::RollingBack && guest.vps.iter().any(goes);
                is_left || model.vps == 1
            },
        ),
        Property::sometimes("a CPU is offline with MSHV loaded", |_, guest: &Guest| {
            let is_offline = |vp: &Vp| vp.cpu == Cpu::Offline;
            guest.mshv == Life::Loaded && guest.vps.iter().any(is_offline)
        }),
        Property::sometimes("an undo or an exit has failed", |_, guest: &Guest| {
            let is_left = |slot: &Slot| matches!(slot, Slot::Left(_));
            let mut vps = guest.vps.iter();
            vps.any(|vp| is_left(&vp.vmbus) || is_left(&vp.mshv))
        }),
        Property::sometimes("kexec has come to the next kernel", |_, guest: &Guest| {
            guest.plan == Plan::NextKernel
        }),
    ]
}

fn reached_on_l1vh() -> Vec<Property<Parent>> {
    vec![
        Property::sometimes("both drivers run on all VPs", |_, guest: &Guest| {
            let is_up = |owner| guest.is_up_everywhere(owner);
            guest.mshv == Life::Loaded && is_up(Owner::VmBus) && is_up(Owner::Mshv)
        }),
        Property::sometimes("MSHV comes back where VMBus refused", |_, guest: &Guest| {
            let is_back = |vp: &Vp| vp.cpu == Cpu::ComingUp && matches!(vp.vmbus, Slot::In(_));
            let is_init = |task: &Task| *task == Task::Init;
            guest.vps.iter().any(is_back) && runs(guest, Owner::Mshv, is_init)
        }),
        Property::sometimes("a reboot has VMBus live", |_, guest: &Guest| {
            guest.plan == Plan::Rebooted && guest.vmbus == Life::Loaded
        }),
        Property::sometimes("a crash under MSHV was reported", |_, guest: &Guest| {
            guest.plan == Plan::Crash && guest.reported
        }),
        Property::sometimes("a crash kernel has a SynIC", |_, guest: &Guest| {
            guest.plan == Plan::CrashKernel && guest.vmbus == Life::Loaded
        }),
    ]
}

fn runs(guest: &Guest, owner: Owner, is_it: fn(&Task) -> bool) -> bool {
    let mut jobs = guest.vps.iter().filter_map(|vp| vp.job.as_ref());
    jobs.any(|job| job.owner == owner && is_it(&job.task))
}
