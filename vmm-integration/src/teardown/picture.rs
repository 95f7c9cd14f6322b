// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! The ledger of one VP as a picture: a row for each register, a bar while it is on, a column for
//! each write, and a cross where a write broke a rule.

use std::fmt::Write;

use vm_synic::abi::Register;
use vm_synic::ownership::{Entry, Owner};

/// As an SVG document.
pub fn svg(title: &str, entries: &[Entry]) -> String {
    let rows = rows(entries);
    let broken: Vec<_> = entries.iter().filter(|e| e.violation.is_some()).collect();
    let (width, height) = (
        x(entries.len()) + 40,
        y(rows.len()) + 24 + 18 * broken.len(),
    );
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" \
         font-family=\"sans-serif\" font-size=\"13\">\n\
         <rect width=\"{width}\" height=\"{height}\" fill=\"white\"/>\n\
         <text x=\"12\" y=\"24\" font-size=\"16\">{title}</text>\n"
    );
    for (index, row) in rows.iter().enumerate() {
        draw_row(&mut out, index, *row, entries);
    }
    draw_times(&mut out, y(rows.len()), entries);
    for (index, entry) in broken.iter().enumerate() {
        let violation = entry.violation.map(|v| v.to_string()).unwrap_or_default();
        let (number, at) = (index + 1, millis(entry));
        let baseline = y(rows.len()) + 36 + 18 * index;
        text(
            &mut out,
            12,
            baseline,
            &format!("✕{number}  {at} ms: {violation}"),
        );
    }
    out + "</svg>\n"
}

/// The registers that were written, each with its owner, in the order of their first writes.
fn rows(entries: &[Entry]) -> Vec<(Register, Option<Owner>)> {
    let mut rows = Vec::new();
    for entry in entries {
        let row = (entry.register.register, entry.owner);
        if !rows.contains(&row) {
            rows.push(row);
        }
    }
    rows
}

fn draw_row(out: &mut String, index: usize, row: (Register, Option<Owner>), entries: &[Entry]) {
    let (register, owner) = row;
    let (top, color) = (y(index), color(owner));
    let name = owner.map_or("-", Owner::name);
    text(out, 12, top + 15, &format!("{register} ({name})"));
    for (from, to) in bars(register, entries) {
        let (left, width) = (x(from), x(to) - x(from));
        // Writing to a String cannot fail.
        let _ = writeln!(
            out,
            "<rect x=\"{left}\" y=\"{top}\" width=\"{width}\" height=\"20\" fill=\"{color}\"/>"
        );
    }
    let mut number = 0;
    for (column, entry) in entries.iter().enumerate() {
        number += usize::from(entry.violation.is_some());
        if entry.violation.is_some() && entry.register.register == register {
            text(out, x(column), top + 15, &format!("✕{number}"));
        }
    }
}

/// From the column of each write that turned a register on to that of the one that turned it off.
fn bars(register: Register, entries: &[Entry]) -> Vec<(usize, usize)> {
    let (mut bars, mut since) = (Vec::new(), None);
    for (column, entry) in entries.iter().enumerate() {
        if entry.register.register != register {
            continue;
        }
        match (since, register.is_on(entry.after)) {
            (None, true) => since = Some(column),
            (Some(from), false) => {
                bars.push((from, column));
                since = None;
            }
            _ => {}
        }
    }
    bars.extend(since.map(|from| (from, entries.len())));
    bars
}

fn draw_times(out: &mut String, top: usize, entries: &[Entry]) {
    for (column, entry) in entries.iter().enumerate() {
        text(out, x(column), top + 12, &millis(entry));
    }
}

fn text(out: &mut String, x: usize, y: usize, text: &str) {
    // Writing to a String cannot fail.
    let _ = writeln!(out, "<text x=\"{x}\" y=\"{y}\">{text}</text>");
}

/// Apart for any eye (Okabe and Ito).
fn color(owner: Option<Owner>) -> &'static str {
    match owner {
        Some(Owner::VmBus) => "#56b4e9",
        Some(Owner::Mshv) => "#e69f00",
        None => "#999999",
    }
}

fn millis(entry: &Entry) -> String {
    format!("{:.1}", entry.at.as_secs_f64() * 1e3)
}

fn x(column: usize) -> usize {
    150 + column * 38
}

fn y(row: usize) -> usize {
    40 + row * 26
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;
    use vm_synic::VpIndex;
    use vm_synic::abi::RegisterId;

    fn write(register: Register, before: u64, after: u64) -> Entry {
        Entry {
            at: Duration::from_millis(1),
            vp: VpIndex::new(0),
            register: RegisterId::plain(register),
            owner: Some(Owner::VmBus),
            before,
            after,
            violation: None,
        }
    }

    #[test]
    fn bars_of_a_register_go_from_on_to_off_or_to_the_end() {
        let entries = [
            write(Register::Simp, 0, 0x5001),
            write(Register::Scontrol, 0, 1),
            write(Register::Simp, 0x5001, 0x5001),
            write(Register::Simp, 0x5001, 0),
        ];
        assert_eq!(bars(Register::Simp, &entries), [(0, 3)]);
        assert_eq!(bars(Register::Scontrol, &entries), [(1, 4)]);
        assert_eq!(rows(&entries).len(), 2);
    }
}
