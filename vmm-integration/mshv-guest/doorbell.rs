// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! Doorbells: eventfds that writes to addresses of a partition signal (`MSHV_IOEVENTFD`).

use anyhow::{Context, Result, ensure};
use mshv_ioctls::{IoEventAddress, NoDatamatch, VmFd};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use crate::bell::STRIDE;
use crate::device::{expect_errno, initialized};
use crate::report::Outcome;

/// A doorbell for any write to an address, until it is removed or its partition is closed.
#[derive(Debug)]
pub struct Doorbell {
    fd: EventFd,
    gpa: u64,
}

impl Doorbell {
    pub fn add(partition: &VmFd, gpa: u64) -> Result<Self> {
        let fd = eventfd()?;
        partition
            .register_ioevent(&fd, &IoEventAddress::Mmio(gpa), NoDatamatch)
            .with_context(|| format!("Cannot register a doorbell at {gpa:#x}"))?;
        Ok(Self { fd, gpa })
    }

    /// Likewise, `count` of them from `GPA` on.
    pub fn add_all(partition: &VmFd, count: u32) -> Result<Vec<Self>> {
        let gpas = (0..u64::from(count)).map(|index| GPA + index * STRIDE);
        gpas.map(|gpa| Self::add(partition, gpa)).collect()
    }

    pub fn remove(&self, partition: &VmFd) -> Result<()> {
        partition
            .unregister_ioevent(&self.fd, &IoEventAddress::Mmio(self.gpa), NoDatamatch)
            .with_context(|| format!("Cannot remove the doorbell at {:#x}", self.gpa))
    }

    /// Where it is.
    pub fn gpa(&self) -> u64 {
        self.gpa
    }

    /// How often it has rung since it was last asked.
    pub fn take(&self) -> u64 {
        // Nothing to read is no error, but 0.
        self.fd.read().unwrap_or(0)
    }
}

pub fn register_and_remove() -> Result<Outcome> {
    let partition = initialized()?;
    for _ in 0..2 {
        let doorbells = Doorbell::add_all(&partition, MANY)?;
        for doorbell in doorbells.iter().rev() {
            doorbell.remove(&partition)?;
        }
    }
    // Those that are left go with their partition.
    Doorbell::add_all(&partition, MANY)?;
    drop(partition);
    let next = initialized()?;
    Doorbell::add_all(&next, MANY)?;
    Ok(Outcome::Passed(format!("{MANY} at a time, 4 times")))
}

pub fn refusals() -> Result<Outcome> {
    let partition = initialized()?;
    let (fd, other) = (eventfd()?, eventfd()?);
    let (here, there) = (
        IoEventAddress::Mmio(GPA),
        IoEventAddress::Mmio(GPA + STRIDE),
    );
    let word = |fd, at: &IoEventAddress, value: u16| partition.register_ioevent(fd, at, value);
    word(&fd, &here, 1).context("Cannot register a doorbell for a value")?;
    word(&other, &here, 2).context("Cannot register one for another value")?;
    expect_errno("the same value twice", libc::EEXIST, word(&other, &here, 1))?;
    let port = IoEventAddress::Pio(0x70);
    let pio = partition.register_ioevent(&fd, &port, NoDatamatch);
    expect_errno("an I/O port", libc::ENOTSUP, pio)?;
    let end = IoEventAddress::Mmio(u64::MAX);
    expect_errno("the end of the world", libc::EINVAL, word(&fd, &end, 1))?;
    // The driver lets it through, and the hypervisor does not.
    let far = partition.register_ioevent(&fd, &IoEventAddress::Mmio(1 << 60), NoDatamatch);
    ensure!(far.is_err(), "A doorbell beyond any physical address");
    let absent = partition.unregister_ioevent(&fd, &there, 1_u16);
    expect_errno("one that is not there", libc::ENOENT, absent)?;
    let remove = |fd, value: u16| partition.unregister_ioevent(fd, &here, value);
    expect_errno("with another eventfd", libc::ENOENT, remove(&other, 1))?;
    remove(&fd, 1).context("Cannot remove the first doorbell")?;
    remove(&other, 2).context("Cannot remove the second doorbell")?;
    Ok(Outcome::passed())
}

pub fn eventfd() -> Result<EventFd> {
    EventFd::new(EFD_NONBLOCK).context("Cannot make an eventfd")
}

/// Where no partition has memory.
pub const GPA: u64 = 0xf000_0000;
const MANY: u32 = 64;
