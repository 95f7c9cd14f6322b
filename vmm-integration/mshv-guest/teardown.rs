// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! Doorbells that go while they are rung: nobody else's ring is lost by it.

use anyhow::{Result, ensure};
use mshv_ioctls::VmFd;

use crate::Args;
use crate::bell::{Bell, Request};
use crate::device::initialized;
use crate::doorbell::Doorbell;
use crate::report::Outcome;
use crate::ringing::{NO_BELL, ONCE, ring_some};

/// Removes and adds every other doorbell while all are rung; those that stay lose nothing.
pub fn remove_while_ringing(args: &Args, bell: Option<&Bell>) -> Result<Outcome> {
    let Some(bell) = bell else {
        return Ok(NO_BELL);
    };
    let partition = initialized()?;
    let mut doorbells = Doorbell::add_all(&partition, args.ports)?;
    bell.ask(&request(args))?;
    let mut changes = 0;
    for _ in 0..ROUNDS {
        changes += replace_every_other(&partition, &mut doorbells)?;
    }
    let rung = bell.answer()?;
    ensure!(rung.accepted > 0, "No write met a doorbell");
    let stayed = doorbells.iter().step_by(2).map(Doorbell::take);
    ensure!(
        stayed.min() > Some(0),
        "A doorbell that stayed did not ring"
    );
    // Requests are for the oldest partition.
    drop(partition);
    ring_some(args, bell)?;
    Ok(Outcome::Passed(format!(
        "{changes} doorbells replaced, {} writes rang and {} met none",
        rung.accepted, rung.refused
    )))
}

/// Closes the partition while its doorbells are rung.
pub fn close_while_ringing(args: &Args, bell: Option<&Bell>) -> Result<Outcome> {
    let Some(bell) = bell else {
        return Ok(NO_BELL);
    };
    let partition = initialized()?;
    let doorbells = Doorbell::add_all(&partition, args.ports)?;
    bell.ask(&request(args))?;
    drop(partition);
    drop(doorbells);
    let rung = bell.answer()?;
    ring_some(args, bell)?;
    Ok(Outcome::Passed(format!(
        "{} writes rang and {} met none",
        rung.accepted, rung.refused
    )))
}

fn replace_every_other(partition: &VmFd, doorbells: &mut [Doorbell]) -> Result<u32> {
    let mut changes = 0;
    for doorbell in doorbells.iter_mut().skip(1).step_by(2) {
        doorbell.remove(partition)?;
        *doorbell = Doorbell::add(partition, doorbell.gpa())?;
        changes += 1;
    }
    Ok(changes)
}

fn request(args: &Args) -> Request {
    Request {
        ports: args.ports,
        threads: args.threads,
        count: (args.count / SHARE).max(args.ports.into()),
        ..ONCE
    }
}

const ROUNDS: u32 = 4;
/// Of the rings of the whole.
const SHARE: u64 = 10;
