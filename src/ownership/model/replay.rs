// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! The real driver code, one access at a time.
//!
//! A driver cannot be stopped in the middle, but it is deterministic: it is run again from the
//! start of its job, with the outcomes that its accesses had so far, up to the one that comes next.
//! Everything after that one is ignored.

use super::super::{Claims, Driver, Owner, SynicAccess, SynicPage, SynicView};
use crate::abi::{PageRegister, Register, RegisterId, Sint, SintIndex};

/// A page in a driver's hands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Handle {
    pub page: SynicPage,
    pub gpa: u64,
    /// Allocated by the driver that holds it, not just mapped.
    pub is_own: bool,
}

/// One access.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Access {
    Read(Register),
    Write(Register, u64),
    Map(SynicPage),
    Allocate(SynicPage),
    Release(Handle),
}

/// What runs on a VP.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Task {
    Init,
    Exit(Claims<Handle>),
    /// Linux `hv_crash_handler`: VMBus's half of the current VP, from no driver's table.
    Crash,
}

/// A task under way.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Job {
    pub owner: Owner,
    pub task: Task,
    /// The registers when it began. Nobody but this job writes them until it ends.
    pub start: SynicView,
    /// How many accesses it has made.
    pub done: u8,
    /// Which of them failed, a bit each.
    pub refused: u32,
    /// Where the kernel that runs it takes its pages from.
    pub memory: u64,
}

/// Where a job stands.
pub(super) struct Standing {
    /// The next access; `None` if the job is over.
    pub next: Option<Access>,
    /// The registers that it has written so far.
    pub written: Vec<Register>,
    /// The pages that it has allocated or mapped, and not released.
    pub held: Vec<Handle>,
    /// What is claimed at its end, and whether the job succeeded; nothing before its end.
    pub claims: Option<Claims<Handle>>,
    pub succeeded: bool,
}

impl Job {
    pub fn standing(&self, driver: Driver) -> Standing {
        let mut replay = Replay {
            job: self,
            view: self.start,
            count: 0,
            next: None,
            written: Vec::new(),
            held: Vec::new(),
        };
        let (claims, succeeded) = match &self.task {
            Task::Init => match driver.init(&mut replay) {
                Ok(claims) => (Some(claims), true),
                Err(failure) => (Some(failure.left), false),
            },
            Task::Exit(claims) => match claims.clone().exit(&mut replay) {
                Ok(()) => (None, true),
                Err(failure) => (Some(failure.left), false),
            },
            Task::Crash => (None, replay.crash().is_ok()),
        };
        Standing {
            claims: claims.filter(|claims| replay.next.is_none() && !claims.is_empty()),
            next: replay.next,
            written: replay.written,
            held: replay.held,
            succeeded,
        }
    }

    pub fn has_failed(&self) -> bool {
        self.refused != 0
    }

    /// Whether the driver had set SCONTROL before the job.
    pub fn had_scontrol(&self) -> bool {
        match &self.task {
            Task::Exit(claims) => claims.has_switched_on(Register::Scontrol),
            Task::Init | Task::Crash => false,
        }
    }
}

struct Replay<'a> {
    job: &'a Job,
    view: SynicView,
    count: u8,
    next: Option<Access>,
    written: Vec<Register>,
    held: Vec<Handle>,
}

/// The access failed, or the replay has ended.
#[derive(Debug)]
struct Stop;

impl Replay<'_> {
    /// Whether this access was made and succeeded.
    fn made(&mut self, access: Access) -> Result<(), Stop> {
        if self.next.is_some() {
            return Err(Stop);
        }
        if self.count == self.job.done {
            self.next = Some(access);
            return Err(Stop);
        }
        let failed = self.job.refused >> self.count & 1 != 0;
        self.count += 1;
        if failed { Err(Stop) } else { Ok(()) }
    }

    fn crash(&mut self) -> Result<(), Stop> {
        let sint2 = Register::Sint(SintIndex::VMBUS);
        let masked = Sint::from(self.view.sints[2]).with_masked(true);
        for (register, value) in [
            (sint2, masked.into()),
            (Register::Simp, 0),
            (Register::Siefp, 0),
        ] {
            self.write(RegisterId::plain(register), value)?;
        }
        Ok(())
    }
}

impl SynicAccess for Replay<'_> {
    type Error = Stop;
    type Page = Handle;

    fn read(&mut self, id: RegisterId) -> Result<u64, Stop> {
        self.made(Access::Read(id.register))?;
        self.view.get(id.register).ok_or(Stop)
    }

    fn write(&mut self, id: RegisterId, value: u64) -> Result<(), Stop> {
        self.made(Access::Write(id.register, value))?;
        self.view.set(id.register, value);
        self.written.push(id.register);
        Ok(())
    }

    fn map(&mut self, page: SynicPage, gpa: u64) -> Result<Handle, Stop> {
        self.made(Access::Map(page))?;
        let is_own = false;
        let handle = Handle { page, gpa, is_own };
        self.held.push(handle);
        Ok(handle)
    }

    fn allocate(&mut self, page: SynicPage) -> Result<(Handle, u64), Stop> {
        self.made(Access::Allocate(page))?;
        let gpa = PageRegister::from(self.job.memory).gpa() + ((page as u64) << 12);
        let is_own = true;
        let handle = Handle { page, gpa, is_own };
        self.held.push(handle);
        Ok((handle, gpa))
    }

    fn release(&mut self, handle: Handle) {
        if self.made(Access::Release(handle)).is_ok() {
            self.held.retain(|held| *held != handle);
        }
    }
}
