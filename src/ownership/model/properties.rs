// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! What holds of each state, and what must be reached.

use super::super::Owner;
use super::guest::{Cpu, Guest, Life, Plan, Slot};
use super::l1vh::L1vh;
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

/// All properties.
pub(super) fn all() -> Vec<Property<L1vh>> {
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
    properties
}

/// A model that gets nowhere would keep every promise.
fn reached() -> Vec<Property<L1vh>> {
    vec![
        Property::sometimes("both drivers run on all VPs", |_, g: &Guest| {
            g.is_all_up() && g.mshv == Life::Loaded
        }),
        Property::sometimes(
            "a load that failed on one VP leaves another",
            |_, g: &Guest| {
                g.mshv == Life::RollingBack
                    && runs(g, Owner::Mshv, |task| matches!(task, Task::Exit(_)))
            },
        ),
        Property::sometimes(
            "a CPU is offline while both drivers are loaded",
            |_, g: &Guest| g.vps.iter().any(|vp| vp.cpu == Cpu::Offline) && g.mshv == Life::Loaded,
        ),
        Property::sometimes(
            "MSHV comes back where VMBus refused to go",
            |_, g: &Guest| {
                let is_back = |vp: &super::guest::Vp| {
                    vp.cpu == Cpu::ComingUp && matches!(vp.vmbus, Slot::In(_))
                };
                g.vps.iter().any(is_back) && runs(g, Owner::Mshv, |task| *task == Task::Init)
            },
        ),
        Property::sometimes("an undo or an exit has failed itself", |_, g: &Guest| {
            let is_left = |slot: &Slot| matches!(slot, Slot::Left(_));
            g.vps
                .iter()
                .any(|vp| is_left(&vp.vmbus) || is_left(&vp.mshv))
        }),
        Property::sometimes("a reboot has begun with VMBus live", |_, g: &Guest| {
            g.plan == Plan::Rebooted && g.vmbus == Life::Loaded
        }),
        Property::sometimes("kexec has come to the next kernel", |_, g: &Guest| {
            g.plan == Plan::NextKernel
        }),
        Property::sometimes("a crash under MSHV was reported", |_, g: &Guest| {
            g.plan == Plan::Crash && g.reported
        }),
        Property::sometimes("a crash kernel has a SynIC", |_, g: &Guest| {
            g.plan == Plan::CrashKernel && g.vmbus == Life::Loaded
        }),
    ]
}

fn runs(guest: &Guest, owner: Owner, is_it: fn(&Task) -> bool) -> bool {
    let mut jobs = guest.vps.iter().filter_map(|vp| vp.job.as_ref());
    jobs.any(|job| job.owner == owner && is_it(&job.task))
}
