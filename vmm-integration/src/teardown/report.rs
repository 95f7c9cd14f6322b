// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! Whether a sequence came out as it should, for people and for programs.

use comfy_table::{Table, presets};
use serde_json::{Value, json};
use vm_synic::VpSnapshot;
use vm_synic::abi::Register;
use vm_synic::ownership::{Entry, Owner};

use super::TeardownArgs;
use super::play::{Broken, MEMORY_MIB, Played, Traffic};
use super::sequence::{Expected, Sequence};
use crate::cli::PolicyArg;
use crate::memory::provided_pages;

/// What is not as it should be, in words.
pub fn faults(args: &TeardownArgs, played: &Played) -> Vec<String> {
    let mut faults = Vec::new();
    let expected = args.sequence.expected(args.policy);
    for vp in &played.synic.vps {
        let index = vp.index;
        let found = violations(vp);
        if found != expected {
            faults.push(format!(
                "The violations on {index} are {found:?}, not {expected:?}"
            ));
        }
        let (on, left_on) = (registers_on(vp), args.sequence.left_on(args.policy));
        if on != left_on {
            faults.push(format!("On {index} {on:?} are on, not {left_on:?}"));
        }
        let bases = [vp.plain.simp, vp.plain.siefp, vp.plain.sirbp].map(|value| value & !0xFFF);
        let provided = provided_pages(MEMORY_MIB, index);
        let provided = [provided.simp, provided.siefp, provided.sirbp];
        if args.sequence == Sequence::Root && bases != provided {
            faults.push(format!(
                "{index} has lost pages that were provided: {bases:x?}"
            ));
        }
    }
    let wrong = played.broken.iter().filter(|broken| {
        let took_effect = broken.took_effect();
        took_effect.is_some_and(|took_effect| took_effect != (args.policy == PolicyArg::Observe))
    });
    faults.extend(wrong.map(|Broken { entry, held }| format!("{held:#x} came of {entry}")));
    for (vp, traffic) in played.traffic.iter().enumerate() {
        let fault = |text: &str| format!("VP {vp}: {text}: {traffic:?}");
        faults.extend(traffic_faults(args, traffic).into_iter().map(fault));
    }
    faults
}

fn violations(vp: &VpSnapshot) -> Vec<Expected> {
    let found = |entry: &Entry| {
        let violation = entry.violation?;
        Some(Expected {
            register: entry.register.register,
            kind: violation.kind,
            writer: violation.writer,
            victim: violation.victim?,
        })
    };
    vp.violations.iter().filter_map(found).collect()
}

fn registers_on(vp: &VpSnapshot) -> Vec<Register> {
    vp.plain.view().on().collect()
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
    let ledger = played.synic.vps.iter().flat_map(|vp| &vp.ledger);
    let entries = played.broken.iter().map(|broken| &broken.entry);
    json!({
        "ok": faults.is_empty(),
        "sequence": format!("{:?}", args.sequence),
        "policy": args.policy.to_string(),
        "vcpus": args.vcpus,
        "faults": faults,
        "violations": entries.collect::<Vec<_>>(),
        "read_back": played.broken.iter().map(|broken| broken.held).collect::<Vec<_>>(),
        "ledger": ledger.collect::<Vec<_>>(),
        "traffic": played.traffic,
    })
}

/// As a table and a few lines.
pub fn text(args: &TeardownArgs, played: &Played, faults: &[String]) -> String {
    let mut lines = vec![format!(
        "{:?} on {} VPs, policy {}",
        args.sequence, args.vcpus, args.policy
    )];
    match played.broken.is_empty() {
        true => lines.push("No ownership rule was broken".into()),
        false => lines.push(table(args.policy, &played.broken)),
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

fn table(policy: PolicyArg, broken: &[Broken]) -> String {
    let name = |owner: Option<Owner>| owner.map_or("-", Owner::name).to_owned();
    let mut table = Table::new();
    table.load_preset(presets::UTF8_HORIZONTAL_ONLY);
    table.set_header([
        "ms", "VP", "register", "owner", "writer", "victim", "before", "written", "effect", "rule",
    ]);
    for write in broken {
        let entry = &write.entry;
        let Some(violation) = entry.violation else {
            continue;
        };
        let effect = match write.took_effect() {
            Some(true) => "yes",
            Some(false) if policy == PolicyArg::Fault => "no, #GP",
            Some(false) => "no",
            None => "same value",
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
    use std::sync::Arc;

    use vm_memory::{GuestAddress, GuestMemoryMmap};
    use vm_synic::{Config, Host, Role, SintInterrupt, SynicManager, ViolationPolicy, VpIndex};

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

    /// Before the patch, refused: played without a guest, on VP 0.
    fn played() -> Played {
        let memory = GuestMemoryMmap::<()>::from_ranges(&[(GuestAddress(0), 8 << 20)]).unwrap();
        let mut config = Config::new(1);
        config.role = Role::L1vh;
        config.violations = ViolationPolicy::Refuse;
        let manager = SynicManager::new(config, Arc::new(memory), Arc::new(NoHost));
        let vp = VpIndex::new(0);
        manager.add_vp(vp).unwrap();
        let parts = Sequence::PrePatch.parts();
        let mut broken = Vec::new();
        for write in parts.iter().flat_map(|part| part.writes) {
            let [msr, keep, set] = write.on(0).unwrap();
            let msr = u32::try_from(msr).unwrap();
            let before = manager.read_msr(vp, msr).unwrap();
            manager.write_msr(vp, msr, before & keep | set).unwrap();
            let entry = manager.snapshot().vps[0].ledger.last().unwrap().clone();
            let held = manager.read_msr(vp, msr).unwrap();
            broken.extend(entry.violation.is_some().then_some(Broken { entry, held }));
        }
        Played {
            synic: manager.snapshot(),
            traffic: vec![GOOD],
            broken,
            trace: None,
        }
    }

    struct NoHost;

    impl Host for NoHost {
        fn assert_sint(&self, _: SintInterrupt) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn faults_after(change: impl FnOnce(&mut Played)) -> Vec<String> {
        let mut played = played();
        change(&mut played);
        faults(&args(Sequence::PrePatch, PolicyArg::Refuse), &played)
    }

    #[test]
    fn faults_when_all_is_as_it_should_be_are_none() {
        assert_eq!(faults_after(|_| ()), [""; 0]);
    }

    #[test]
    fn faults_when_a_violation_is_missing_or_another_show_it() {
        let missing = faults_after(|played| played.synic.vps[0].violations.clear());
        let blamed = faults_after(|played| {
            let entry = &mut played.synic.vps[0].violations[0];
            entry.violation.as_mut().unwrap().writer = Some(Owner::VmBus);
        });
        for faults in [missing, blamed] {
            assert_eq!(faults.len(), 1, "{faults:?}");
            assert!(
                faults[0].starts_with("The violations on VP 0"),
                "{faults:?}"
            );
        }
    }

    #[test]
    fn faults_when_a_refused_write_took_effect_name_it() {
        let faults = faults_after(|played| {
            let broken = played.broken.last_mut().unwrap();
            broken.held = broken.entry.after;
        });
        assert_eq!(faults.len(), 1, "{faults:?}");
        assert!(
            faults[0].contains("SCONTROL vmbus 0x1 -> 0x0"),
            "{faults:?}"
        );
    }

    #[test]
    fn faults_when_a_register_is_left_on_name_it() {
        let faults = faults_after(|played| played.synic.vps[0].plain.simp |= 1);
        assert_eq!(faults, ["On VP 0 [Simp] are on, not []"]);
    }

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
