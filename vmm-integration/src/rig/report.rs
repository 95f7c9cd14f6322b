// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! What was found, for people and for programs.

use std::fmt::Write;

use comfy_table::{Table, presets};
use serde_json::{Value, json};

use super::finding::Finding;

/// As one JSON object.
pub fn json(findings: &[Finding]) -> Value {
    json!({
        "ok": findings.iter().all(Finding::is_good),
        "violations": findings.iter().flat_map(violations).collect::<Vec<_>>(),
        "jobs": findings.iter().map(job_json).collect::<Vec<_>>(),
    })
}

/// The ledger's entries of register writes that broke a rule, each with the job that saw it.
fn violations(finding: &Finding) -> Vec<Value> {
    let Some(report) = &finding.outcome.ended.report else {
        return Vec::new();
    };
    let vps = list_at(report, "/scenarios").flat_map(|scenario| list_at(scenario, "/synic/vps"));
    let of_linux = vps.flat_map(|vp| list_at(vp, "/violations"));
    let entries = of_linux.chain(list_at(report, "/violations"));
    let job = finding.job.to_string();
    let of_job = |entry: &Value| json!({ "job": job, "entry": entry });
    entries.map(of_job).collect()
}

fn list_at<'a>(value: &'a Value, pointer: &str) -> impl Iterator<Item = &'a Value> + use<'a> {
    let list = value.pointer(pointer).and_then(Value::as_array);
    list.into_iter().flatten()
}

/// A row for each job, in Markdown.
pub fn list(findings: &[Finding]) -> String {
    let mut table = markdown([
        "", "backend", "irqchip", "vCPUs", "result", "seconds", "remarks",
    ]);
    for finding in findings {
        table.add_row([
            finding.job.what.to_string(),
            finding.job.setting.backend.into(),
            finding.job.setting.irqchip.into(),
            finding.job.vcpus.to_string(),
            finding.verdict.to_string(),
            format!("{:.1}", finding.outcome.ended.seconds),
            finding.note.clone(),
        ]);
    }
    table.to_string()
}

/// A row for each thing that was run and a column for each way, in Markdown.
pub fn grid(findings: &[Finding]) -> String {
    let way = |f: &Finding| format!("{}, {}", f.job.setting, f.job.vcpus);
    let (mut ways, mut whats) = (Vec::new(), Vec::new());
    for finding in findings {
        add_new(&mut ways, way(finding));
        add_new(&mut whats, finding.job.what.to_string());
    }
    let mut table = markdown([String::new()].into_iter().chain(ways.clone()));
    for what in whats {
        let cells = ways.iter().map(|column| {
            let mut same = findings.iter().filter(|f| f.job.what.to_string() == what);
            same.find(|f| way(f) == *column)
                .map_or_else(String::new, cell)
        });
        table.add_row([what.clone()].into_iter().chain(cells).collect::<Vec<_>>());
    }
    table.to_string()
}

/// What there is to say of those that did not pass, and how many did.
pub fn summary(findings: &[Finding]) -> String {
    let mut text = String::new();
    let bad: Vec<_> = findings
        .iter()
        .filter(|finding| !finding.is_good())
        .collect();
    for finding in &bad {
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "{}: {}\n{}\n",
            finding.verdict,
            finding.job,
            details(finding)
        );
    }
    let seconds: f64 = findings.iter().map(|f| f.outcome.ended.seconds).sum();
    let verdict = if bad.is_empty() { "OK" } else { "FAILED" };
    let (bad, all) = (bad.len(), findings.len());
    text + &format!("{verdict}: {bad} of {all} jobs failed, {seconds:.0} s")
}

/// The guest's console, the VMM's account, and what went wrong outside of both.
fn details(finding: &Finding) -> String {
    let last = |lines: &[String]| {
        let start = lines.len().saturating_sub(LAST_LINES);
        lines.get(start..).unwrap_or_default().to_vec()
    };
    let outcome = &finding.outcome;
    let mut lines = last(&outcome.output);
    lines.extend(last(&outcome.errors));
    lines.extend(outcome.ended.trouble.clone());
    lines
        .iter()
        .map(|line| format!("    {line}"))
        .collect::<Vec<_>>()
        .join("\n")
}

fn job_json(finding: &Finding) -> Value {
    let (job, ended) = (&finding.job, &finding.outcome.ended);
    json!({
        "what": job.what.to_string(),
        "backend": job.setting.backend,
        "irqchip": job.setting.irqchip,
        "vcpus": job.vcpus,
        "result": finding.verdict.to_string(),
        "status": ended.status,
        "seconds": ended.seconds,
        "note": finding.note,
        "results": finding.results().collect::<Vec<_>>(),
        "trouble": ended.trouble,
        "lost": finding.outcome.lost,
        "report": ended.report,
        "output": finding.outcome.output,
        "errors": finding.outcome.errors,
    })
}

fn cell(finding: &Finding) -> String {
    format!("{} {:.0} s", finding.verdict, finding.outcome.ended.seconds)
}

fn add_new(to: &mut Vec<String>, name: String) {
    if !to.contains(&name) {
        to.push(name);
    }
}

fn markdown<T: ToString>(titles: impl IntoIterator<Item = T>) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::ASCII_MARKDOWN);
    table.set_header(
        titles
            .into_iter()
            .map(|title| title.to_string())
            .collect::<Vec<_>>(),
    );
    table
}

const LAST_LINES: usize = 60;

#[cfg(test)]
mod tests {
    use super::super::finding::tests::finding;
    use super::super::job::Setting;
    use super::*;

    fn findings() -> [Finding; 3] {
        let [emulated, full, _] = Setting::ALL;
        [
            finding("/i/a.flat", emulated, &["PASS: one"], 1),
            finding("/i/a.flat", full, &["PASS: one", "FAIL: two"], 3),
            finding("/i/b.flat", full, &[], 77),
        ]
    }

    #[test]
    fn grid_when_a_way_was_not_tried_has_an_empty_cell() {
        let grid = grid(&findings());
        let rows: Vec<Vec<_>> = grid
            .lines()
            .map(|line| line.trim_matches('|').split('|').map(str::trim).collect())
            .collect();
        assert_eq!(rows[0], ["", "emulated split, 2", "kvm full, 2"]);
        assert_eq!(rows[2], ["a", "ok 12 s", "FAILED 12 s"]);
        assert_eq!(rows[3], ["b", "", "skipped 12 s"]);
    }

    #[test]
    fn summary_when_a_job_failed_has_what_it_and_the_vmm_said() {
        let summary = summary(&findings());
        assert!(
            summary.starts_with("FAILED: a, kvm full, 2 vCPUs\n"),
            "{summary}"
        );
        assert!(
            summary.contains("    FAIL: two\n    Error: of the VMM\n"),
            "{summary}"
        );
        assert!(
            summary.ends_with("FAILED: 1 of 3 jobs failed, 37 s"),
            "{summary}"
        );
    }

    #[test]
    fn json_when_a_job_failed_is_not_ok_and_has_the_images_own_lines() {
        let json = json(&findings());
        assert_eq!(json["ok"], false);
        assert_eq!(
            json["jobs"][1]["results"],
            json!(["PASS: one", "FAIL: two"])
        );
    }
}
