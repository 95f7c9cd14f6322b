// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! Judges an L1VH guest, whose VMBus and MSHV drivers share each VP's SynIC, by the ledger.

use vm_synic::abi::Register;
use vm_synic::ownership::{Entry, Owner, ViolationKind};
use vm_synic::{Role, SintIndex};

use super::Scenario;
use super::judge::{Evidence, Rule};

/// For guests of this role, beside those for all.
pub fn rules(role: Role) -> &'static [Rule] {
    match role {
        Role::L1vh => &[
            each_kernel_is_an_l1vh,
            each_vp_was_claimed_in_order,
            mshv_has_left,
            no_rule_was_broken,
            the_driver_was_reloaded,
            the_program_has_succeeded,
        ],
        _ => &[],
    }
}

/// The driver leaves a crash kernel alone.
fn each_kernel_is_an_l1vh(evidence: &Evidence<'_>, faults: &mut Vec<String>) {
    let crashed = usize::from(evidence.scenario == Scenario::Crash);
    let boots = evidence.guest.boots.iter();
    for boot in boots.rev().skip(crashed) {
        if !boot.l1vh {
            faults.push(format!("Kernel {} does not use MSHV", boot.number));
        }
    }
}

/// VMBus first, then MSHV, each in the order of its init (Linux `hv_synic_init`,
/// `mshv_synic_cpu_init`).
fn each_vp_was_claimed_in_order(evidence: &Evidence<'_>, faults: &mut Vec<String>) {
    for vp in &evidence.synic.vps {
        let claims = vp.ledger.iter().filter(|entry| turns_on(entry));
        let claims: Vec<_> = claims
            .map(|entry| (entry.owner, entry.register.register))
            .take(BRING_UP.len())
            .collect();
        let in_order = BRING_UP.map(|(owner, register)| (Some(owner), register));
        if vp.ledger_evicted > 0 {
            faults.push(format!("{} wrote more than its ledger keeps", vp.index));
        } else if claims != in_order {
            faults.push(format!("{} was claimed so: {claims:?}", vp.index));
        }
    }
}

/// By its exit, or in a reboot by its notifier; a crash leaves it as it is.
fn mshv_has_left(evidence: &Evidence<'_>, faults: &mut Vec<String>) {
    if evidence.scenario == Scenario::Crash {
        return;
    }
    for vp in &evidence.synic.vps {
        let view = vp.plain.view();
        let left = MSHV.into_iter().filter(|register| {
            let value = view.get(*register);
            value.is_some_and(|value| register.is_on(value))
        });
        faults.extend(left.map(|register| format!("MSHV has left {register} of {} on", vp.index)));
    }
}

/// A crash takes VMBus away while MSHV is up (Linux `hv_crash_handler`), and that must show.
fn no_rule_was_broken(evidence: &Evidence<'_>, faults: &mut Vec<String>) {
    let crashes = evidence.scenario == Scenario::Crash;
    let all = evidence.synic.vps.iter().flat_map(|vp| &vp.violations);
    let kind = |entry: &Entry| entry.violation.map(|violation| violation.kind);
    let (expected, others): (Vec<_>, Vec<_>) =
        all.partition(|entry| crashes && kind(entry) == Some(ViolationKind::VmBusLeftFirst));
    faults.extend(others.iter().map(|entry| format!("Rule broken: {entry}")));
    if crashes && expected.is_empty() {
        faults.push("VMBus went down before MSHV, and nothing was reported".into());
    }
}

fn the_driver_was_reloaded(evidence: &Evidence<'_>, faults: &mut Vec<String>) {
    let reloads = matches!(evidence.scenario, Scenario::Reload | Scenario::Mshv);
    let cycles: u64 = evidence.guest.boots.iter().map(|b| b.mshv.cycles).sum();
    if reloads && cycles == 0 {
        faults.push("The MSHV driver was not reloaded".into());
    }
}

/// It runs before and after a reload.
fn the_program_has_succeeded(evidence: &Evidence<'_>, faults: &mut Vec<String>) {
    let boots = evidence.guest.boots.iter();
    let statuses: Vec<_> = boots
        .flat_map(|boot| &boot.programs)
        .map(|program| program.status)
        .collect();
    if evidence.scenario == Scenario::Mshv && statuses != [Some(0), Some(0)] {
        faults.push(format!("The program has ended with {statuses:?}"));
    }
}

fn turns_on(entry: &Entry) -> bool {
    let register = entry.register.register;
    !register.is_on(entry.before) && register.is_on(entry.after)
}

const SINT0: Register = Register::Sint(SintIndex::INTERCEPT);
const SINT2: Register = Register::Sint(SintIndex::VMBUS);
const SINT5: Register = Register::Sint(SintIndex::DOORBELL);
const MSHV: [Register; 3] = [SINT0, SINT5, Register::Sirbp];
const BRING_UP: [(Owner, Register); 7] = [
    (Owner::VmBus, Register::Simp),
    (Owner::VmBus, Register::Siefp),
    (Owner::VmBus, SINT2),
    (Owner::VmBus, Register::Scontrol),
    (Owner::Mshv, Register::Sirbp),
    (Owner::Mshv, SINT0),
    (Owner::Mshv, SINT5),
];

#[cfg(test)]
mod tests;
