// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! The options on the kernel's command line: `synic.<key>=<value>`.

use std::collections::HashMap;
use std::str::FromStr;
use std::time::Duration;

use crate::failure::{Failure, OrFail, Result};

/// What the host asks for.
#[derive(Debug)]
pub struct Options(HashMap<String, String>);

impl Options {
    /// Those of the running kernel.
    pub fn read() -> Result<Self> {
        let cmdline = std::fs::read_to_string(CMDLINE).or_fail("options", CMDLINE)?;
        Ok(Self::parse(&cmdline))
    }

    /// The last of several values counts, as it does for the kernel's own options.
    fn parse(cmdline: &str) -> Self {
        let words = cmdline.split_whitespace();
        let options = words.filter_map(|word| word.strip_prefix("synic.")?.split_once('='));
        Self(options.map(|(k, v)| (k.into(), v.into())).collect())
    }

    pub fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).map(String::as_str)
    }

    pub fn number<T: FromStr>(&self, key: &str, default: T) -> Result<T> {
        let Some(value) = self.get(key) else {
            return Ok(default);
        };
        let number = value.parse();
        number.map_err(|_| Failure::new("options", format_args!("synic.{key}={value}")))
    }

    /// Whether VMBus is to be used; without it, the rest can be tried on any machine.
    pub fn with_vmbus(&self) -> Result<bool> {
        Ok(self.number("vmbus", 1)? != 0)
    }

    /// How long the guest may take before it gives up.
    pub fn timeout(&self) -> Result<Duration> {
        Ok(Duration::from_secs(self.number("timeout", 120)?))
    }
}

pub const CMDLINE: &str = "/proc/cmdline";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parse_when_others_options_stand_between_finds_ours() {
        let options = Options::parse("console=ttyS0 synic.scenario=echo quiet synic.packets=7\n");
        assert_eq!(options.get("scenario"), Some("echo"));
        assert_eq!(options.number("packets", 1).unwrap(), 7);
        assert_eq!(options.get("quiet"), None);
    }

    #[test]
    fn parse_when_a_key_occurs_twice_takes_the_last() {
        let options = Options::parse("synic.boot=1 synic.boot=2");
        assert_eq!(options.number("boot", 0).unwrap(), 2);
    }

    #[test]
    fn number_when_the_value_is_none_names_the_option() {
        let options = Options::parse("synic.packets=many");
        let failure = options.number("packets", 1_u64).unwrap_err().to_string();
        assert_eq!(failure, "what=options -- synic.packets=many");
    }
}
