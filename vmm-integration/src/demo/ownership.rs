// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! The manager's ledger of register writes, in a few lines.

use vm_synic::ownership::Entry;
use vm_synic::{Snapshot, VpSnapshot};

/// Who wrote what, in order: a line for each time that another owner begins to write, or the same
/// one turns from switching on to switching off. VPs with the same history share their lines, with
/// the times of the first of them.
pub fn timeline(snapshot: &Snapshot) -> Vec<String> {
    let mut groups: Vec<(Vec<Step>, Vec<u32>)> = Vec::new();
    for vp in &snapshot.vps {
        let (steps, index) = (steps(vp), vp.index.get());
        let texts = |steps: &[Step]| {
            steps
                .iter()
                .map(|step| step.text.clone())
                .collect::<Vec<_>>()
        };
        match groups
            .iter_mut()
            .find(|(other, _)| texts(other) == texts(&steps))
        {
            Some((_, vps)) => vps.push(index),
            None => groups.push((steps, vec![index])),
        }
    }
    groups
        .iter()
        .flat_map(|(steps, vps)| lines(steps, vps))
        .collect()
}

/// Some writes of one owner.
struct Step {
    milliseconds: f64,
    /// `vmbus: SIMP on, SIEFP on, SINT2 on, SCONTROL on`
    text: String,
}

fn lines(steps: &[Step], vps: &[u32]) -> Vec<String> {
    let vps: Vec<_> = vps.iter().map(u32::to_string).collect();
    let vps = vps.join(",");
    let line = |step: &Step| format!("VP {vps} {:9.1} ms  {}", step.milliseconds, step.text);
    steps.iter().map(line).collect()
}

fn steps(vp: &VpSnapshot) -> Vec<Step> {
    let runs = vp
        .ledger
        .chunk_by(|one, next| (one.owner, is_on(one)) == (next.owner, is_on(next)));
    runs.filter_map(step).collect()
}

fn step(run: &[Entry]) -> Option<Step> {
    let first = run.first()?;
    let owner = first.owner.map_or("nobody", |owner| owner.name());
    let writes: Vec<_> = run.iter().map(describe).collect();
    Some(Step {
        milliseconds: first.at.as_secs_f64() * 1e3,
        text: format!("{owner}: {}", writes.join(", ")),
    })
}

fn describe(entry: &Entry) -> String {
    let state = if is_on(entry) { "on" } else { "off" };
    let mark = if entry.violation.is_some() {
        " (violation)"
    } else {
        ""
    };
    format!("{} {state}{mark}", entry.register)
}

/// Whether the write left its register on.
fn is_on(entry: &Entry) -> bool {
    entry.register.register.is_on(entry.after)
}
