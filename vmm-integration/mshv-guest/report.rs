// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! What is printed: a line for each check, `<ok|FAILED|skipped> <name>[: <details>]`, and a last
//! one that counts them.

use std::fmt;

use anyhow::Result;

/// How a check ended that has not failed.
#[derive(Debug)]
pub enum Outcome {
    /// As it should; with what is worth telling, or nothing.
    Passed(String),
    /// It cannot be done here.
    Skipped(&'static str),
}

impl Outcome {
    /// With nothing to tell.
    pub fn passed() -> Self {
        Self::Passed(String::new())
    }
}

/// The account of all checks.
#[derive(Debug, Default)]
pub struct Report {
    passed: u32,
    failed: u32,
    skipped: u32,
}

impl Report {
    /// Prints and counts.
    pub fn add(&mut self, name: &str, outcome: Result<Outcome>) {
        match outcome {
            Ok(Outcome::Passed(details)) => {
                self.passed += 1;
                let separator = if details.is_empty() { "" } else { ": " };
                println!("ok {name}{separator}{details}");
            }
            Ok(Outcome::Skipped(why)) => {
                self.skipped += 1;
                println!("skipped {name}: {why}");
            }
            Err(e) => {
                self.failed += 1;
                println!("FAILED {name}: {e:#}");
            }
        }
    }

    /// Whether something passed and nothing failed.
    pub fn is_good(&self) -> bool {
        self.failed == 0 && self.passed > 0
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            passed,
            failed,
            skipped,
        } = self;
        write!(f, "{passed} passed, {failed} failed, {skipped} skipped")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::anyhow;

    #[test]
    fn report_when_one_has_failed_or_none_has_passed_is_not_good() {
        let mut report = Report::default();
        report.add("a", Ok(Outcome::Skipped("no bell")));
        assert!(!report.is_good());
        report.add("b", Ok(Outcome::passed()));
        assert!(report.is_good());
        report.add("c", Err(anyhow!("no")));
        assert!(!report.is_good());
        assert_eq!(report.to_string(), "1 passed, 1 failed, 1 skipped");
    }
}
