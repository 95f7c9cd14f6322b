// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! Doorbells that are rung, from a child's write to the eventfd here.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use mshv_ioctls::{IoEventAddress, NoDatamatch};

use crate::Args;
use crate::bell::{Bell, Request, Rung};
use crate::device::initialized;
use crate::doorbell::{Doorbell, GPA, eventfd};
use crate::report::Outcome;

/// Which writes ring: by size, by value, and by neither.
pub fn matches(bell: Option<&Bell>) -> Result<Outcome> {
    let Some(bell) = bell else {
        return Ok(NO_BELL);
    };
    let partition = initialized()?;
    let at = IoEventAddress::Mmio(GPA);
    let (value, any_value) = (eventfd()?, eventfd()?);
    let registered = partition.register_ioevent(&value, &at, 0x1234_u16);
    registered.context("Cannot register a doorbell for a value")?;
    let registered = partition.register_ioevent(&any_value, &at, NoDatamatch);
    registered.context("Cannot register a doorbell for any write")?;
    for (size, number, expected) in [
        (2, 0x1234, [1, 0]),
        (2, 0x1235, [0, 1]),
        (4, 0x1234, [0, 1]),
        (8, u64::MAX, [0, 1]),
    ] {
        let request = Request {
            size,
            value: number,
            ..ONCE
        };
        let rung = bell.ring(&request)?;
        ensure!(rung.accepted == 1, "{request:?} met no doorbell");
        let mut seen = [0; 2];
        let mut look = || {
            let fds = [&value, &any_value];
            let all = seen.iter_mut().zip(fds);
            all.for_each(|(seen, fd)| *seen += fd.read().unwrap_or(0));
            seen.iter().sum()
        };
        wait_for(1, &mut look);
        // One too many would come after the first.
        thread::sleep(SETTLE);
        look();
        ensure!(seen == expected, "{request:?} rang {seen:?}");
    }
    let elsewhere = bell.ring(&Request {
        gpa: GPA + 8,
        ..ONCE
    })?;
    ensure!(elsewhere.refused == 1, "A write beside it rang a doorbell");
    Ok(Outcome::passed())
}

/// Each ring of each doorbell is seen, and none that was not rung.
pub fn ring_paced(args: &Args, bell: Option<&Bell>) -> Result<Outcome> {
    bell.map_or(Ok(NO_BELL), |bell| ring_all(args, bell, true))
}

/// Likewise, but faster than the guest takes it: rings overflow, and doorbells coalesce.
pub fn ring_flat_out(args: &Args, bell: Option<&Bell>) -> Result<Outcome> {
    bell.map_or(Ok(NO_BELL), |bell| ring_all(args, bell, false))
}

/// After something else: whether doorbells still ring.
pub fn ring_some(args: &Args, bell: &Bell) -> Result<()> {
    let some = Args {
        count: u64::from(args.ports) * 8,
        ..*args
    };
    ring_all(&some, bell, true).map(|_| ())
}

fn ring_all(args: &Args, bell: &Bell, paced: bool) -> Result<Outcome> {
    let partition = initialized()?;
    let doorbells = Doorbell::add_all(&partition, args.ports)?;
    let request = Request {
        ports: args.ports,
        threads: args.threads,
        count: args.count / 2,
        paced,
        ..ONCE
    };
    let start = Instant::now();
    let rung = bell.ring(&request)?;
    let seen = drain(&doorbells, rung.accepted - rung.coalesced);
    let seconds = start.elapsed().as_secs_f64();
    check(&request, &rung, &seen)?;
    let total: u64 = seen.iter().sum();
    Ok(Outcome::Passed(format!(
        "rung={} seen={total} coalesced={} held={} notices={} per_second={:.0} \
         notices_per_doorbell={:.4} -- {} doorbells over {} ports by {} threads",
        rung.accepted,
        rung.coalesced,
        rung.held,
        rung.notices,
        rung.accepted as f64 / seconds,
        rung.notices as f64 / rung.accepted as f64,
        rung.accepted,
        args.ports,
        args.threads,
    )))
}

/// A doorbell that is rung again while its port waits for room in the ring is seen once for both;
/// all others are seen one by one.
fn check(request: &Request, rung: &Rung, seen: &[u64]) -> Result<()> {
    let total: u64 = seen.iter().sum();
    ensure!(
        rung.refused == 0 && rung.accepted == request.count,
        "{} of {} writes met no doorbell",
        rung.refused,
        request.count
    );
    ensure!(
        total + rung.coalesced == rung.accepted,
        "{} rung, {} coalesced, but {total} seen",
        rung.accepted,
        rung.coalesced
    );
    let ports = u64::from(request.ports);
    for (index, &seen) in (0..).zip(seen) {
        let most = request.count / ports + u64::from(index < request.count % ports);
        let least = u64::from(most > 0);
        ensure!(
            (least..=most).contains(&seen),
            "Doorbell {index} rang {seen} times, of {most}"
        );
    }
    Ok(())
}

/// Takes what all doorbells have counted until it is `expected`, or no more comes.
fn drain(doorbells: &[Doorbell], expected: u64) -> Vec<u64> {
    let mut seen = vec![0; doorbells.len()];
    wait_for(expected, || {
        let all = seen.iter_mut().zip(doorbells);
        all.for_each(|(seen, doorbell)| *seen += doorbell.take());
        seen.iter().sum()
    });
    // One too many would come after the last.
    thread::sleep(SETTLE);
    let all = seen.iter_mut().zip(doorbells);
    all.for_each(|(seen, doorbell)| *seen += doorbell.take());
    seen
}

/// Looks until `look` has come to `expected` or for too long; gives what it came to.
fn wait_for(expected: u64, mut look: impl FnMut() -> u64) -> u64 {
    let start = Instant::now();
    loop {
        let seen = look();
        if seen >= expected || start.elapsed() > PATIENCE {
            return seen;
        }
        thread::sleep(Duration::from_millis(1));
    }
}

/// One write of 4 bytes.
pub const ONCE: Request = Request {
    gpa: GPA,
    ports: 1,
    size: 4,
    value: 0,
    threads: 1,
    count: 1,
    paced: false,
};
pub const NO_BELL: Outcome = Outcome::Skipped("nobody rings doorbells here (--bell)");
const SETTLE: Duration = Duration::from_millis(20);
const PATIENCE: Duration = Duration::from_secs(20);
