// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! Asks the hypervisor to ring doorbells, as the VPs of a child partition would if it had any.
//!
//! A request is a line on standard output, `ring child=0 gpa=0xf0000000 stride=4096 ports=64
//! size=4 value=0 threads=4 count=1000 paced=1`: `count` writes of `size` bytes, in turn to
//! `ports` addresses that are `stride` apart, in the oldest child, say, by so many threads; paced:
//! none while doorbells wait for room in a ring. The answer is a line on standard input, once all
//! is rung: `rung accepted=1000 refused=0 ...`.

use std::collections::HashMap;
use std::io::{self, BufRead, Write};

use anyhow::{Context, Result, bail};

/// Standard input and output.
#[derive(Debug)]
pub struct Bell(());

/// What to ring.
#[derive(Clone, Copy, Debug)]
pub struct Request {
    /// The first address.
    pub gpa: u64,
    /// How many addresses.
    pub ports: u32,
    /// Bytes to write.
    pub size: u32,
    /// What to write.
    pub value: u64,
    /// By how many threads.
    pub threads: u32,
    /// How often, in all.
    pub count: u64,
    /// Whether to wait while doorbells wait for room in a ring.
    pub paced: bool,
}

/// What became of it, all counted from the request to the answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rung {
    /// Writes that rang a doorbell.
    pub accepted: u64,
    /// Writes that met none.
    pub refused: u64,
    /// Rung while the same port waited for room in its ring: it is seen once.
    pub coalesced: u64,
    /// Found the ring full, or off, and waited.
    pub held: u64,
    /// Notifications of the guest.
    pub notices: u64,
    /// How long it took.
    pub microseconds: u64,
}

impl Bell {
    /// The one that there is.
    pub fn new() -> Self {
        Self(())
    }

    /// Rings, and waits until all is rung.
    pub fn ring(&self, request: &Request) -> Result<Rung> {
        self.ask(request)?;
        self.answer()
    }

    /// Begins to ring.
    pub fn ask(&self, request: &Request) -> Result<()> {
        let Request {
            gpa,
            ports,
            size,
            value,
            threads,
            count,
            paced,
        } = request;
        let paced = u8::from(*paced);
        println!(
            "ring child=0 gpa={gpa:#x} stride={STRIDE} ports={ports} size={size} value={value:#x} \
             threads={threads} count={count} paced={paced}"
        );
        io::stdout().flush().context("Cannot ask for doorbells")
    }

    /// Waits until all is rung.
    pub fn answer(&self) -> Result<Rung> {
        let mut line = String::new();
        loop {
            line.clear();
            let length = io::stdin().lock().read_line(&mut line);
            if length.context("Cannot read the answer of who rings")? == 0 {
                bail!("Nobody rings doorbells: standard input has ended");
            }
            if let Some(answer) = line.trim().strip_prefix("rung ") {
                return parse(answer);
            }
        }
    }
}

fn parse(answer: &str) -> Result<Rung> {
    let fields = answer.split_whitespace().filter_map(|w| w.split_once('='));
    let fields: HashMap<_, _> = fields.collect();
    let number = |key: &str| -> Result<u64> {
        let value = fields.get(key).copied().unwrap_or_default();
        value
            .parse()
            .with_context(|| format!("{key} is {value:?} in the answer {answer:?}"))
    };
    Ok(Rung {
        accepted: number("accepted")?,
        refused: number("refused")?,
        coalesced: number("coalesced")?,
        held: number("held")?,
        notices: number("notices")?,
        microseconds: number("microseconds")?,
    })
}

/// Between two doorbells.
pub const STRIDE: u64 = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parse_when_a_number_is_missing_names_it() {
        let whole = "accepted=7 refused=1 coalesced=2 held=3 notices=4 microseconds=5";
        let rung = parse(whole).unwrap();
        assert_eq!((rung.accepted, rung.microseconds), (7, 5));
        let error = parse(&whole.replace("held=3", "held=x")).unwrap_err();
        assert!(error.to_string().starts_with("held is \"x\""), "{error}");
    }
}
