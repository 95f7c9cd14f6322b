// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! What the guest's init says on the console: `synic-guest: <name> key=value ... -- text`.

use std::collections::BTreeMap;
use std::str::FromStr;

/// One report of the guest.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Event {
    /// What is reported.
    pub name: String,
    fields: BTreeMap<String, String>,
    /// What follows, for people.
    pub text: String,
}

impl Event {
    /// Finds a report in a line of the console, behind the kernel's own prefix; `None` for a line
    /// of somebody else's.
    pub fn parse(line: &str) -> Option<Self> {
        let (_, report) = line.split_once(PREFIX)?;
        let (report, text) = report.split_once(" -- ").unwrap_or((report, ""));
        let mut words = report.split_whitespace();
        let name = words.next()?.to_owned();
        let fields = words.filter_map(|word| word.split_once('='));
        Some(Self {
            name,
            fields: fields.map(|(k, v)| (k.into(), v.into())).collect(),
            text: text.trim().to_owned(),
        })
    }

    /// The value of a field; empty if it is missing.
    pub fn get(&self, key: &str) -> &str {
        self.fields.get(key).map_or("", String::as_str)
    }

    /// The value of a field as a number; `None` if it is missing or is none.
    pub fn number<T: FromStr>(&self, key: &str) -> Option<T> {
        self.get(key).parse().ok()
    }

    /// The numbers of the fields `<prefix>0`, `<prefix>1` and so on.
    pub fn numbered(&self, prefix: &str) -> BTreeMap<usize, u64> {
        let fields = self.fields.iter();
        fields
            .filter_map(|(key, value)| {
                let index = key.strip_prefix(prefix)?.parse().ok()?;
                Some((index, value.parse().ok()?))
            })
            .collect()
    }
}

const PREFIX: &str = "synic-guest: ";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parse_when_the_kernel_has_put_a_time_before_it_finds_the_report() {
        let event = Event::parse("[    1.20] synic-guest: boot n=2 kernel=6.1.0\r\n").unwrap();
        assert_eq!(event.name, "boot");
        assert_eq!(event.number("n"), Some(2));
        assert_eq!(event.get("kernel"), "6.1.0");
        assert_eq!(
            (event.get("cpus"), event.number::<u32>("kernel")),
            ("", None)
        );
    }

    #[test]
    fn parse_when_there_is_text_keeps_it_apart_from_the_fields() {
        let event = Event::parse("synic-guest: FAILED what=connect -- AF_VSOCK: a=b -- c\n");
        let event = event.unwrap();
        assert_eq!(
            (event.name.as_str(), event.get("what")),
            ("FAILED", "connect")
        );
        assert_eq!(
            (event.text.as_str(), event.get("a")),
            ("AF_VSOCK: a=b -- c", "")
        );
    }

    #[test]
    fn parse_when_the_line_is_not_a_report_is_none() {
        assert_eq!(Event::parse("hv_vmbus: Vmbus version:5.3"), None);
        assert_eq!(Event::parse("synic-guest: "), None);
    }

    #[test]
    fn numbered_when_other_fields_stand_between_takes_those_with_an_index() {
        let event = Event::parse("synic-guest: interrupts name=HYP cpu0=7 cpu12=8 cpux=9").unwrap();
        assert_eq!(event.numbered("cpu"), BTreeMap::from([(0, 7), (12, 8)]));
    }
}
