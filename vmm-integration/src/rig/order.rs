// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! A command to run, here or in the virtual machine, and what came of it.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A command, as it goes over the wire to an agent: one JSON object on a line.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Order {
    /// The program and its arguments.
    pub words: Vec<Word>,
    /// Seconds after which it is killed.
    pub limit: u64,
}

/// One word of a command.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Word {
    /// As it stands.
    Text(String),
    /// The path of this file, wherever the command runs.
    File(PathBuf),
    /// The path of a file that the command writes a JSON report to.
    Report,
}

impl From<&str> for Word {
    fn from(text: &str) -> Self {
        Self::Text(text.into())
    }
}

impl From<String> for Word {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

/// What an agent tells while it runs a command: one JSON object on a line.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Event {
    /// The agent is there, and ready for an order.
    Ready,
    /// A line of the command's standard output.
    Output(String),
    /// A line of its standard error.
    Errors(String),
    /// It goes on; told while there is nothing else to tell.
    Alive,
    /// It has ended, and all of its lines are told.
    Ended(Ended),
}

/// How a command ended.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Ended {
    /// Its exit status; none if it was killed.
    pub status: Option<i32>,
    /// How long it took.
    pub seconds: f64,
    /// Its report, if it has written one.
    pub report: Option<Value>,
    /// What went wrong outside of it.
    pub trouble: Option<String>,
}

/// All that came of a command.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// The lines of its standard output.
    pub output: Vec<String>,
    /// The lines of its standard error.
    pub errors: Vec<String>,
    /// How it ended.
    pub ended: Ended,
    /// What earlier attempts came to, whose virtual machines did not survive them.
    pub lost: Vec<String>,
}

impl Outcome {
    /// Takes in what was told; true once that is all.
    pub fn add(&mut self, event: Event) -> bool {
        match event {
            Event::Ready | Event::Alive => false,
            Event::Output(line) => {
                self.output.push(line);
                false
            }
            Event::Errors(line) => {
                self.errors.push(line);
                false
            }
            Event::Ended(ended) => {
                self.ended = ended;
                true
            }
        }
    }
}

/// Where commands run.
pub trait Place {
    /// Runs a command, and tells each event but the last as it comes. Fails if no further command
    /// can be run either.
    fn run(&mut self, order: &Order, tell: &mut dyn FnMut(&Event)) -> anyhow::Result<Outcome>;
}
