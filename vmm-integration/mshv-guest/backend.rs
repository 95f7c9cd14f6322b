// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! vm-synic's own backend for /dev/mshv, on the real driver: what needs no running VP.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use vm_synic::abi::{Register, RegisterId};
use vm_synic::backend::mshv::{CallError, MshvPartition, MsiRoute, MsiRoutes, RouteError};
use vm_synic::{
    DoorbellSize, DoorbellSpec, EventFlag, Message, MessageType, Partition, PartitionError,
    SintAddr, SintIndex, VpIndex,
};
use vmm_sys_util::eventfd::EventFd;

use crate::bell::{Bell, Request};
use crate::device::initialized;
use crate::doorbell::{GPA, eventfd};
use crate::report::Outcome;
use crate::ringing::{NO_BELL, ONCE};

/// Doorbells of each size, for a value and for any, are registered, and removed by their keys.
pub fn doorbells() -> Result<Outcome> {
    let partition = partition()?;
    let at = DoorbellSpec::at(GPA);
    let sizes = [
        DoorbellSize::Any,
        DoorbellSize::Byte,
        DoorbellSize::Word,
        DoorbellSize::Dword,
        DoorbellSize::Qword,
    ];
    let sized = sizes.map(|size| at.size(size));
    let valued = sizes[1..].iter().map(|size| at.size(*size).value(7));
    let specs: Vec<_> = sized.into_iter().chain(valued).collect();
    // What was not removed would be in the way of the second round.
    for _ in 0..2 {
        for spec in &specs {
            let added = partition.add_doorbell(*spec, shared_eventfd()?);
            let _added = added.with_context(|| format!("Cannot add {spec:?}"))?;
            let collides = partition.add_doorbell(*spec, shared_eventfd()?);
            let refused = collides.err();
            let exists = Some(CallError::Os(libc::EEXIST));
            ensure!(refused == exists, "{spec:?} twice: {refused:?}");
        }
    }
    Ok(Outcome::Passed(format!("{} kinds", specs.len())))
}

/// Which writes ring a doorbell of a size that takes any value: mshv-ioctls has none.
pub fn doorbell_of_a_size(bell: Option<&Bell>) -> Result<Outcome> {
    let Some(bell) = bell else {
        return Ok(NO_BELL);
    };
    let partition = partition()?;
    let fd = shared_eventfd()?;
    let dword = DoorbellSpec::at(GPA).size(DoorbellSize::Dword);
    let added = partition.add_doorbell(dword, fd.clone());
    let _added = added.context("Cannot add a doorbell of 4 bytes for any value")?;
    for (size, value, rings) in [(4, 0, 1), (4, u32::MAX.into(), 1), (2, 0, 0), (8, 0, 0)] {
        let request = Request {
            size,
            value,
            ..ONCE
        };
        let rung = bell.ring(&request)?;
        ensure!(rung.accepted == rings, "{request:?}: {rung:?}");
        thread::sleep(SETTLE);
        let seen = fd.read().unwrap_or(0);
        ensure!(seen == rings, "{request:?} was seen {seen} times");
    }
    Ok(Outcome::passed())
}

/// Interrupts of devices: the driver takes the table and the irqfds, and gives both back.
pub fn routes() -> Result<Outcome> {
    let routes = MsiRoutes::new(partition()?);
    let level = MsiRoute {
        address: 0xFEE0_0000,
        data: 0x8031,
    };
    routes.set(1, level).context("Cannot route a GSI")?;
    routes.set(300, level).context("Cannot route a second")?;
    let fd = shared_eventfd()?;
    let resample = Some(shared_eventfd()?);
    let irqfd = routes.irqfd(1, fd.clone(), resample);
    let irqfd = irqfd.context("Cannot add an irqfd that is resampled")?;
    let twice = routes.irqfd(300, fd.clone(), None).err();
    let busy = RouteError::Driver(CallError::Os(libc::EBUSY));
    ensure!(twice == Some(busy), "An eventfd on two GSIs: {twice:?}");
    drop(irqfd);
    let again = routes.irqfd(300, fd, None);
    drop(again.context("Cannot use the eventfd again")?);
    routes.remove(1).context("Cannot take a route away")?;
    routes.remove(300).context("Cannot empty the table")?;
    Ok(Outcome::passed())
}

/// The hypercalls that need a VP are passed on, and the hypervisor has none.
pub fn deliveries() -> Result<Outcome> {
    let partition = partition()?;
    let installed = partition.install_intercepts();
    installed.context("Cannot have the guest's hypercalls exit")?;
    let vp = VpIndex::new(0);
    let addr = SintAddr::new(vp, SintIndex::VMBUS);
    let message = Message::new(MessageType::VMBUS, b"hello")?;
    let posted = partition.post_message(addr, &message);
    ensure!(posted == Err(PartitionError::NoVp), "Posted: {posted:?}");
    let flag = EventFlag::new(1).context("Flag out of range")?;
    let signalled = partition.signal_event(addr, flag);
    ensure!(
        signalled == Err(PartitionError::NoVp),
        "Signalled: {signalled:?}"
    );
    let told = partition.notify_deliverable(vp, 1 << 2);
    ensure!(told == Err(PartitionError::NoVp), "To be told: {told:?}");
    let read = partition.register(vp, RegisterId::plain(Register::Simp));
    let no_vp = CallError::Status(INVALID_VP_INDEX);
    ensure!(read == Err(no_vp), "Read: {read:?}");
    Ok(Outcome::passed())
}

fn partition() -> Result<MshvPartition> {
    Ok(MshvPartition::new(Arc::new(initialized()?)))
}

fn shared_eventfd() -> Result<Arc<EventFd>> {
    Ok(Arc::new(eventfd()?))
}

const INVALID_VP_INDEX: u16 = 0x0E;
const SETTLE: Duration = Duration::from_millis(50);
