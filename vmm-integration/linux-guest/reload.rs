// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! Unloading the drivers and loading them again.

use crate::failure::{Failure, Result};
use crate::modules::Module;
use crate::options::Options;
use crate::report::say;
use crate::{echo, vmbus, watchdog};

/// Reloads every module `synic.cycles` times, with traffic before and after each.
pub fn run(modules: Vec<Module>, options: &Options) -> Result<()> {
    if modules.is_empty() {
        return Err(Failure::new(
            "no-modules",
            "there is nothing in /modules to reload",
        ));
    }
    let (cycles, packets) = (
        options.number("cycles", 3)?,
        options.number("packets", 1000)?,
    );
    echo::run(packets)?;
    for cycle in 1..=cycles {
        for module in modules.iter().rev() {
            module.unload()?;
        }
        watchdog::doing("loading modules");
        for module in &modules {
            module.load()?;
        }
        vmbus::wait_for_connection()?;
        vmbus::wait_for_heartbeat(options.number("beats", 2)?)?;
        echo::run(packets)?;
        say(&format!("reload cycle={cycle} modules={}", names(&modules)));
    }
    Ok(())
}

fn names(modules: &[Module]) -> String {
    let names: Vec<_> = modules.iter().map(|module| module.name.as_str()).collect();
    names.join(",")
}
