// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! Whether what a job did is a success.

use std::fmt;

use serde_json::Value;

use super::job::{Job, What};
use super::order::Outcome;

/// A job that was run.
#[derive(Debug)]
pub struct Finding {
    /// What was run.
    pub job: Job,
    /// All that came of it.
    pub outcome: Outcome,
    /// Whether that is a success.
    pub verdict: Verdict,
    /// In a few words, what it did.
    pub note: String,
}

/// How a job went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// As it should.
    Passed,
    /// The guest says, or the VMM found, that something is wrong.
    Failed,
    /// The guest says that it had nothing to test.
    Skipped,
    /// It did not end in its time.
    TimedOut,
}

impl Finding {
    /// Judges a job by its own rules.
    pub fn new(job: Job, mut outcome: Outcome) -> Self {
        if prints_report(&job.what) {
            take_report(&mut outcome);
        }
        let (passed, skipped) = match job.what {
            What::Demo { .. }
            | What::Hostile { .. }
            | What::Conformance
            | What::Linux { .. }
            | What::Teardown { .. } => (0, None),
            // QEMU's isa-debug-exit, with the values of "all passed" and "all skipped".
            What::Image { .. } => (1, Some(77)),
        };
        let verdict = match outcome.ended.status {
            Some(status) if status == passed => Verdict::Passed,
            Some(status) if Some(status) == skipped => Verdict::Skipped,
            Some(TIMED_OUT) => Verdict::TimedOut,
            _ => Verdict::Failed,
        };
        let note = match job.what {
            What::Demo { .. } => demo_note(&outcome),
            What::Hostile { .. } => hostile_note(&outcome),
            What::Conformance => conformance_note(&outcome),
            What::Linux { .. } => linux_note(&outcome),
            What::Teardown { .. } => teardown_note(&outcome),
            What::Image { .. } => image_note(&outcome),
        };
        let mut note = note.unwrap_or_default();
        if !outcome.lost.is_empty() {
            let lost = outcome.lost.len();
            note += &format!("; after {lost} lost with the virtual machine, which died or hung");
        }
        Self {
            job,
            outcome,
            verdict,
            note,
        }
    }

    /// Whether it is none that has to be looked into.
    pub fn is_good(&self) -> bool {
        matches!(self.verdict, Verdict::Passed | Verdict::Skipped)
    }

    /// The lines in which a test image gives its results.
    pub fn results(&self) -> impl Iterator<Item = &str> {
        let is_image = matches!(self.job.what, What::Image { .. });
        let lines = self.outcome.output.iter().filter(move |_| is_image);
        lines
            .map(String::as_str)
            .filter(|line| RESULTS.iter().any(|word| line.starts_with(word)))
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Passed => "ok",
            Self::Failed => "FAILED",
            Self::Skipped => "skipped",
            Self::TimedOut => "TIMEOUT",
        })
    }
}

/// Not to a file.
fn prints_report(what: &What) -> bool {
    matches!(
        what,
        What::Demo { .. } | What::Hostile { .. } | What::Conformance | What::Teardown { .. }
    )
}

/// What is printed is the report, of which only the faults are for people.
fn take_report(outcome: &mut Outcome) {
    let Ok(report) = serde_json::from_str::<Value>(&outcome.output.join("\n")) else {
        return;
    };
    let faults = report.get("faults").or_else(|| report.get("failures"));
    let faults = faults.and_then(Value::as_array).into_iter().flatten();
    outcome.output = faults.map(|fault| format!("FAILED: {fault}")).collect();
    outcome.ended.report = Some(report);
}

fn demo_note(outcome: &Outcome) -> Option<String> {
    let report = outcome.ended.report.as_ref()?;
    let number = |name| report.get(name).and_then(Value::as_u64);
    let [messages, flags, doorbells] = ["messages", "flags", "doorbells"].map(number);
    Some(format!(
        "{} messages, {} flags, {} doorbells",
        messages?, flags?, doorbells?
    ))
}

fn hostile_note(outcome: &Outcome) -> Option<String> {
    let report = outcome.ended.report.as_ref()?;
    let seed = report.get("seed")?;
    let wait = report.pointer("/witness/longest_wait_ms")?;
    Some(format!("seed {seed}, the witness waited {wait} ms at most"))
}

fn conformance_note(outcome: &Outcome) -> Option<String> {
    let report = outcome.ended.report.as_ref()?;
    let cases = report.get("cases")?.as_u64()?;
    let failures = report.get("failures")?.as_array()?.len();
    Some(format!("{failures} of {cases} cases failed"))
}

fn linux_note(outcome: &Outcome) -> Option<String> {
    let report = outcome.ended.report.as_ref()?;
    let scenario = report.pointer("/scenarios/0")?;
    let mut words = Vec::new();
    if let Some(version) = scenario.pointer("/guest/boots/0/vmbus") {
        words.push(format!("VMBus {}", version.as_str()?));
    }
    let echo = |number| scenario.pointer(&format!("/echo/0/{number}"))?.as_f64();
    if let Some(rate) = echo("packets_per_second") {
        words.push(format!("{rate:.0} packets/s"));
    }
    if let Some(exits) = echo("exits_per_packet") {
        words.push(format!("{exits:.2} exits/packet"));
    }
    words.extend(doorbell_notes(scenario));
    Some(words.join(", "))
}

/// What synic-mshv tells of its last run: `ok ringing: rung=1 seen=1 per_second=2 ...`.
fn doorbell_notes(scenario: &Value) -> Vec<String> {
    let programs = scenario.pointer("/guest/boots/0/programs");
    let programs = programs.and_then(Value::as_array).into_iter().flatten();
    let lines = programs
        .last()
        .and_then(|last| last.get("lines")?.as_array());
    let lines = lines.into_iter().flatten().filter_map(Value::as_str);
    let notes = ["ringing", "overflow"].map(|check| {
        let line = lines.clone().find_map(|line| {
            let (name, fields) = line.strip_prefix("ok ")?.split_once(": ")?;
            (name == check).then_some(fields)
        })?;
        let field = |key: &str| {
            let words = line.split_whitespace().filter_map(|w| w.split_once('='));
            words
                .into_iter()
                .find(|(k, _)| *k == key)
                .map(|(_, value)| value)
        };
        let (rung, seen) = (field("rung")?, field("seen")?);
        let (rate, notices) = (field("per_second")?, field("notices_per_doorbell")?);
        Some(format!(
            "{check}: {rung} doorbells, {seen} seen, {rate}/s, {notices} notices each"
        ))
    });
    notes.into_iter().flatten().collect()
}

fn teardown_note(outcome: &Outcome) -> Option<String> {
    let report = outcome.ended.report.as_ref()?;
    let violations = report.get("violations")?.as_array()?.len();
    let traffic = report.get("traffic")?.as_array()?;
    let sum = |key: &str| -> u64 {
        let counts = traffic.iter().filter_map(|vp| vp.get(key)?.as_u64());
        counts.sum()
    };
    let (accepted, taken, refused) = (sum("accepted"), sum("taken"), sum("refused"));
    Some(format!(
        "{violations} violations; {accepted} messages accepted, {taken} taken, {refused} refused"
    ))
}

fn image_note(outcome: &Outcome) -> Option<String> {
    let count = |word: &str| {
        outcome
            .output
            .iter()
            .filter(|line| line.starts_with(word))
            .count()
    };
    let counts = RESULTS.map(|word| (word, count(word)));
    let words = counts.iter().filter(|(_, count)| *count > 0);
    let words: Vec<_> = words
        .map(|(word, count)| format!("{count} {word}"))
        .collect();
    Some(words.join(", "))
}

/// What lines of kvm-unit-tests begin with.
const RESULTS: [&str; 3] = ["PASS", "FAIL", "SKIP"];
/// synic-vmm's, after timeout(1).
const TIMED_OUT: i32 = 124;

#[cfg(test)]
pub mod tests {
    use super::super::job::{Setting, images, matrix};
    use super::super::order::Ended;
    use super::*;
    use std::time::Duration;

    /// An image that wrote these lines and ended with this status.
    pub fn finding(name: &str, setting: Setting, output: &[&str], status: i32) -> Finding {
        let what = images(&[name.into()]);
        let jobs = matrix(&what, &[setting], &[2], Duration::from_secs(60));
        let outcome = Outcome {
            output: output.iter().map(|line| line.to_string()).collect(),
            errors: vec!["Error: of the VMM".into()],
            ended: Ended {
                status: Some(status),
                seconds: 12.34,
                ..Ended::default()
            },
            ..Outcome::default()
        };
        Finding::new(jobs.into_iter().next().unwrap(), outcome)
    }

    fn image(output: &[&str], status: i32) -> Finding {
        finding("/i/a.flat", Setting::ALL[0], output, status)
    }

    #[test]
    fn finding_when_an_image_ends_is_judged_by_the_exit_device() {
        let verdicts = [1, 3, 77, 124, 2].map(|status| image(&[], status).verdict);
        let expected = [
            Verdict::Passed,
            Verdict::Failed,
            Verdict::Skipped,
            Verdict::TimedOut,
            Verdict::Failed,
        ];
        assert_eq!(verdicts, expected);
    }

    #[test]
    fn finding_when_an_image_reports_has_its_lines_and_their_number() {
        let finding = image(&["enabling apic", "PASS: a", "FAIL: b", "PASS: c"], 3);
        assert_eq!(
            finding.results().collect::<Vec<_>>(),
            ["PASS: a", "FAIL: b", "PASS: c"]
        );
        assert_eq!(finding.note, "2 PASS, 1 FAIL");
    }

    #[test]
    fn finding_when_the_demo_fails_has_the_faults_of_its_report() {
        let jobs = matrix(
            &[What::Demo { count: 1 }],
            &Setting::ALL[..1],
            &[2],
            Duration::from_secs(1),
        );
        let report = r#"{"messages":1, "flags":2, "doorbells":3, "faults":["lost"]}"#;
        let mut outcome = Outcome::default();
        outcome.output.push(report.into());
        outcome.ended.status = Some(1);
        let finding = Finding::new(jobs[0].clone(), outcome);
        assert_eq!(finding.verdict, Verdict::Failed);
        assert_eq!(finding.note, "1 messages, 2 flags, 3 doorbells");
        assert_eq!(finding.outcome.output, ["FAILED: \"lost\""]);
    }

    #[test]
    fn linux_note_when_there_was_traffic_has_its_rate() {
        let mut outcome = Outcome::default();
        outcome.ended.report = Some(serde_json::json!({ "scenarios": [{
            "guest": { "boots": [{ "vmbus": "5.3" }] },
            "echo": [{ "packets_per_second": 1234.5, "exits_per_packet": 2.0 }],
        }]}));
        let note = linux_note(&outcome);
        assert_eq!(
            note.as_deref(),
            Some("VMBus 5.3, 1234 packets/s, 2.00 exits/packet")
        );
        outcome.ended.report = Some(serde_json::json!({ "scenarios": [] }));
        assert_eq!(linux_note(&outcome), None);
    }

    #[test]
    fn linux_note_when_a_program_rang_doorbells_has_those_of_its_last_run() {
        let line = "ok ringing: rung=8 seen=7 coalesced=1 per_second=9 notices_per_doorbell=0.5";
        let runs = [line.replace("rung=8", "rung=5"), line.into()];
        let programs = runs.map(|line| serde_json::json!({ "lines": ["ok partition", line] }));
        let mut outcome = Outcome::default();
        outcome.ended.report = Some(serde_json::json!({ "scenarios": [{
            "guest": { "boots": [{ "programs": programs }] },
        }]}));
        let note = linux_note(&outcome);
        let expected = "ringing: 8 doorbells, 7 seen, 9/s, 0.5 notices each";
        assert_eq!(note.as_deref(), Some(expected));
    }
}
