// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! Linux's drivers on the VP: [`Driver`] over the manager's registers.

use super::MockGuest;
use super::guest::PAGE;
use crate::abi::{Register, RegisterId};
use crate::error::MsrError;
use crate::ownership::{Claims, Driver, Failure, Owner, SynicAccess, SynicPage};
use crate::page::GuestSpace;
use vm_memory::{GuestAddress, GuestMemory, GuestMemoryBackend};

/// A page that a driver uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MockPage {
    /// Its guest physical address.
    pub gpa: u64,
    /// From the heap, and to be freed; or else mapped.
    pub is_allocated: bool,
}

/// Why a driver's access failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MockError {
    /// The manager refused it.
    #[error("The manager refuses")]
    Msr(#[from] MsrError),
    /// There is no such page, or the test has said so.
    #[error("No page")]
    NoPage,
}

/// A driver that is loaded on the VP.
#[derive(Debug)]
pub(super) struct Loaded {
    owner: Owner,
    claims: Claims<MockPage>,
}

/// A driver's init or exit that failed.
type Failed = Failure<MockPage, MockError>;

impl<AS: GuestSpace> MockGuest<AS> {
    /// Loads a driver, as the manager's role and criterion say (Linux `hv_synic_init`,
    /// `mshv_synic_cpu_init`).
    ///
    /// # Errors
    /// [`Failure`]: it has undone what it did.
    pub fn load(&mut self, owner: Owner) -> Result<(), Failed> {
        let config = self.manager.config();
        let driver = Driver::new(owner, config.role, config.criterion);
        let claims = driver.init(self)?;
        self.loaded.push(Loaded { owner, claims });
        Ok(())
    }

    /// Unloads a driver (Linux `hv_synic_cleanup`, `mshv_synic_cpu_exit`).
    ///
    /// # Errors
    /// [`Failure`]: it is no longer loaded, and what it could not give back is lost.
    ///
    /// # Panics
    /// If it is not loaded.
    pub fn unload(&mut self, owner: Owner) -> Result<(), Failed> {
        let position = self.loaded.iter().position(|loaded| loaded.owner == owner);
        let loaded = self.loaded.remove(position.expect("the driver is loaded"));
        loaded.claims.exit(self)
    }

    /// What a loaded driver has claimed.
    pub fn claims(&self, owner: Owner) -> Option<&Claims<MockPage>> {
        let loaded = self.loaded.iter().find(|loaded| loaded.owner == owner);
        loaded.map(|loaded| &loaded.claims)
    }

    /// Has mapping or allocating this page fail from now on; `None`: no page.
    pub fn refuse_page(&mut self, page: Option<SynicPage>) {
        self.refused = page;
    }

    /// Checks that nobody has written to a page after it was freed.
    ///
    /// # Panics
    /// If somebody has.
    #[track_caller]
    pub fn check_freed_pages(&self) {
        for gpa in &self.heap.freed {
            let untouched = self.read_ram(*gpa, PAGE as usize) == [POISON; PAGE as usize];
            assert!(
                untouched,
                "the page at {gpa:#x} was written to after it was freed"
            );
        }
    }

    fn check_page(&self, page: SynicPage) -> Result<(), MockError> {
        if self.refused == Some(page) {
            return Err(MockError::NoPage);
        }
        Ok(())
    }

    /// Panics where a register still points at a page that is freed.
    fn check_unused(&self, gpa: u64) {
        for register in [Register::Simp, Register::Siefp, Register::Sirbp] {
            let id = RegisterId {
                bank: self.bank,
                register,
            };
            let used = id.msr().map(|msr| self.rdmsr(msr));
            assert_ne!(used, Some(Ok(gpa | 1)), "{register} points at a freed page");
        }
    }
}

impl<AS: GuestSpace> SynicAccess for MockGuest<AS> {
    type Error = MockError;
    type Page = MockPage;

    fn read(&mut self, register: RegisterId) -> Result<u64, MockError> {
        let msr = register.msr().ok_or(MsrError::Fault)?;
        Ok(self.rdmsr(msr)?)
    }

    fn write(&mut self, register: RegisterId, value: u64) -> Result<(), MockError> {
        let msr = register.msr().ok_or(MsrError::Fault)?;
        Ok(self.wrmsr(msr, value)?)
    }

    fn map(&mut self, page: SynicPage, gpa: u64) -> Result<MockPage, MockError> {
        self.check_page(page)?;
        let memory = self.memory.memory();
        let memory = memory.physical_memory().ok_or(MockError::NoPage)?;
        let slice = memory.get_slice(GuestAddress(gpa), PAGE as usize);
        slice.map_err(|_| MockError::NoPage)?;
        Ok(MockPage {
            gpa,
            is_allocated: false,
        })
    }

    fn allocate(&mut self, page: SynicPage) -> Result<(MockPage, u64), MockError> {
        self.check_page(page)?;
        let gpa = self.heap.allocate().ok_or(MockError::NoPage)?;
        self.write_ram(gpa, &[0; PAGE as usize]);
        let is_allocated = true;
        Ok((MockPage { gpa, is_allocated }, gpa))
    }

    fn release(&mut self, page: MockPage) {
        if page.is_allocated {
            self.check_unused(page.gpa);
            self.write_ram(page.gpa, &[POISON; PAGE as usize]);
            self.heap.freed.push(page.gpa);
        }
    }
}

/// What a freed page is filled with.
const POISON: u8 = 0xA5;
