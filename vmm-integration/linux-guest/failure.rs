// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! What went wrong: a word for programs, and a text for people.

use std::fmt;

/// Why the scenario cannot go on.
#[derive(Debug)]
pub struct Failure {
    what: &'static str,
    detail: String,
}

pub type Result<T> = std::result::Result<T, Failure>;

impl Failure {
    pub fn new(what: &'static str, detail: impl fmt::Display) -> Self {
        let detail = detail.to_string();
        Self { what, detail }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let detail = self.detail.replace('\n', " ");
        write!(f, "what={} -- {detail}", self.what)
    }
}

/// Names what failed.
pub trait OrFail<T> {
    /// `what` is one word; `context` says with which file, CPU or socket.
    fn or_fail(self, what: &'static str, context: impl fmt::Display) -> Result<T>;
}

impl<T, E: fmt::Display> OrFail<T> for std::result::Result<T, E> {
    fn or_fail(self, what: &'static str, context: impl fmt::Display) -> Result<T> {
        self.map_err(|e| Failure::new(what, format_args!("{context}: {e}")))
    }
}
