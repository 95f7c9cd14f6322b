// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! Whether a sequence came out as it should, for people and for programs.

use comfy_table::{Table, presets};
use serde_json::{Value, json};
use vm_synic::VpSnapshot;
use vm_synic::abi::Register;
use vm_synic::ownership::{Entry, Owner, ViolationKind};

use super::TeardownArgs;
use super::play::{Played, Traffic};
use super::sequence::Sequence;
use crate::cli::PolicyArg;

/// What is not as it should be, in words.
pub fn faults(args: &TeardownArgs, played: &Played) -> Vec<String> {
    let mut faults = Vec::new();
    let expected = args.sequence.expected(args.policy);
    for vp in &played.synic.vps {
        let found = violations(vp);
        if found != expected {
            let index = vp.index;
            faults.push(format!(
                "The violations on {index} are {found:?}, not {expected:?}"
            ));
        }
    }
    for (vp, traffic) in played.traffic.iter().enumerate() {
        let fault = |text: &str| format!("VP {vp}: {text}: {traffic:?}");
        faults.extend(traffic_faults(args, traffic).into_iter().map(fault));
    }
    faults
}

fn violations(vp: &VpSnapshot) -> Vec<(Register, ViolationKind)> {
    let entries = vp.violations.iter();
    entries
        .filter_map(|entry| Some((entry.register.register, entry.violation?.kind)))
        .collect()
}

fn traffic_faults(args: &TeardownArgs, traffic: &Traffic) -> Vec<&'static str> {
    let refused_are = |wanted: bool| (traffic.refused > 0) == wanted;
    // Only where the forbidden writes take effect does VMBus lose anything.
    let is_hurt = (args.sequence, args.policy) == (Sequence::PrePatch, PolicyArg::Observe);
    let is_root = args.sequence == Sequence::Root;
    let has_gp = args.policy == PolicyArg::Fault;
    let forbidden = args.sequence.expected(args.policy).len() as u64;
    let checks = [
        (traffic.taken == traffic.accepted, "Messages were lost"),
        (traffic.disorder == 0, "Messages came out of order"),
        (refused_are(is_hurt), "Refused messages"),
        (is_root || traffic.accepted > 0, "No message was accepted"),
        (traffic.seen == traffic.rung, "Doorbells were lost"),
        (!is_root || traffic.rung == 2, "Doorbells were not rung"),
        (
            traffic.faults == if has_gp { forbidden } else { 0 },
            "Writes ended in #GP",
        ),
    ];
    let failed = checks.into_iter().filter(|(holds, _)| !holds);
    failed.map(|(_, text)| text).collect()
}

/// As one JSON object.
pub fn json(args: &TeardownArgs, played: &Played, faults: &[String]) -> Value {
    let entries = |of: fn(&VpSnapshot) -> &Vec<Entry>| -> Vec<_> {
        played.synic.vps.iter().flat_map(of).collect()
    };
    json!({
        "ok": faults.is_empty(),
        "sequence": format!("{:?}", args.sequence),
        "policy": args.policy.to_string(),
        "vcpus": args.vcpus,
        "faults": faults,
        "violations": entries(|vp| &vp.violations),
        "ledger": entries(|vp| &vp.ledger),
        "traffic": played.traffic,
    })
}

/// As a table and a few lines.
pub fn text(args: &TeardownArgs, played: &Played, faults: &[String]) -> String {
    let mut lines = vec![format!(
        "{:?} on {} VPs, policy {}",
        args.sequence, args.vcpus, args.policy
    )];
    let violations = played.synic.vps.iter().flat_map(|vp| &vp.violations);
    let mut violations: Vec<_> = violations.collect();
    violations.sort_by_key(|entry| entry.at);
    match violations.is_empty() {
        true => lines.push("No ownership rule was broken".into()),
        false => lines.push(table(args.policy, &violations)),
    }
    for (vp, traffic) in played.traffic.iter().enumerate() {
        lines.push(of_traffic(vp, traffic));
    }
    lines.extend(faults.iter().map(|fault| format!("FAILED: {fault}")));
    if faults.is_empty() {
        lines.push("OK: as expected".into());
    }
    lines.join("\n")
}

fn table(policy: PolicyArg, violations: &[&Entry]) -> String {
    let name = |owner: Option<Owner>| owner.map_or("-", Owner::name).to_owned();
    let effect = match policy {
        PolicyArg::Observe => "yes",
        PolicyArg::Refuse => "no",
        PolicyArg::Fault => "no, #GP",
    };
    let mut table = Table::new();
    table.load_preset(presets::UTF8_HORIZONTAL_ONLY);
    table.set_header([
        "ms", "VP", "register", "owner", "writer", "victim", "before", "written", "effect", "rule",
    ]);
    for entry in violations {
        let Some(violation) = entry.violation else {
            continue;
        };
        table.add_row([
            format!("{:.1}", entry.at.as_secs_f64() * 1e3),
            entry.vp.get().to_string(),
            entry.register.to_string(),
            name(entry.owner),
            name(violation.writer),
            name(violation.victim),
            format!("{:#x}", entry.before),
            format!("{:#x}", entry.after),
            effect.into(),
            violation.to_string(),
        ]);
    }
    table.to_string()
}

fn of_traffic(vp: usize, traffic: &Traffic) -> String {
    let Traffic {
        accepted,
        refused,
        taken,
        disorder,
        rung,
        seen,
        faults,
    } = traffic;
    format!(
        "VP {vp}: {accepted} messages for VMBus accepted, {refused} refused; {taken} taken, \
         {disorder} out of order; {rung} doorbells rung, {seen} seen; {faults} writes ended in #GP"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(sequence: Sequence, policy: PolicyArg) -> TeardownArgs {
        TeardownArgs {
            sequence,
            policy,
            vcpus: 1,
            json: false,
            trace: None,
            picture: None,
        }
    }

    const GOOD: Traffic = Traffic {
        accepted: 9,
        refused: 0,
        taken: 9,
        disorder: 0,
        rung: 0,
        seen: 0,
        faults: 0,
    };

    #[test]
    fn traffic_faults_when_vmbus_is_hurt_want_refused_messages_and_otherwise_none() {
        let hurt = Traffic { refused: 2, ..GOOD };
        let observe = args(Sequence::PrePatch, PolicyArg::Observe);
        let refuse = args(Sequence::PrePatch, PolicyArg::Refuse);
        assert_eq!(traffic_faults(&observe, &hurt), [""; 0]);
        assert_eq!(traffic_faults(&observe, &GOOD), ["Refused messages"]);
        assert_eq!(traffic_faults(&refuse, &hurt), ["Refused messages"]);
        assert_eq!(traffic_faults(&refuse, &GOOD), [""; 0]);
    }

    #[test]
    fn traffic_faults_when_something_is_lost_or_disordered_say_so() {
        let merged = args(Sequence::Merged, PolicyArg::Fault);
        let lost = Traffic { taken: 8, ..GOOD };
        let disordered = Traffic {
            disorder: 1,
            ..GOOD
        };
        let faulted = Traffic { faults: 1, ..GOOD };
        assert_eq!(traffic_faults(&merged, &lost), ["Messages were lost"]);
        assert_eq!(
            traffic_faults(&merged, &disordered),
            ["Messages came out of order"]
        );
        assert_eq!(traffic_faults(&merged, &faulted), ["Writes ended in #GP"]);
    }
}
