// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! The guest's side on a VP of a partition: its MSHV driver's claims, made for it over the VP's
//! registers.

use super::{CallError, MshvPartition};
use crate::VpIndex;
use crate::abi::RegisterId;
use crate::ownership::{SynicAccess, SynicPage};

/// Registers of a VP, and pages that the VMM has: what a
/// [`Driver`](crate::ownership::Driver) sets up and gives back, whose failure ladder is the driver's
/// own.
///
/// The VP's VMBus is left alone, as the ownership table has it.
#[derive(Debug)]
pub struct VpAccess<P> {
    partition: MshvPartition,
    vp: VpIndex,
    pages: P,
}

impl<P> VpAccess<P> {
    /// For one VP, which is stopped or whose thread this is.
    pub fn new(partition: MshvPartition, vp: VpIndex, pages: P) -> Self {
        Self {
            partition,
            vp,
            pages,
        }
    }
}

/// Pages of guest memory, as the VMM gives them out.
pub trait PageSource {
    /// Why there is none.
    type Error;
    /// A page in use; given back by [`release`](Self::release).
    type Page;

    /// The page at a guest physical address that a register of the VP holds.
    ///
    /// # Errors
    /// There is no such memory.
    fn map(&mut self, page: SynicPage, gpa: u64) -> Result<Self::Page, Self::Error>;

    /// A zeroed page that nobody uses, and its guest physical address.
    ///
    /// # Errors
    /// There is none.
    fn allocate(&mut self, page: SynicPage) -> Result<(Self::Page, u64), Self::Error>;

    /// Takes a page back.
    fn release(&mut self, page: Self::Page);
}

/// Why a driver's access failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AccessError<E> {
    /// A register could not be accessed.
    #[error("The hypervisor refused a register")]
    Register(#[from] CallError),
    /// A page could not be had.
    #[error("A page could not be had")]
    Page(#[source] E),
}

impl<P: PageSource> SynicAccess for VpAccess<P> {
    type Error = AccessError<P::Error>;
    type Page = P::Page;

    fn read(&mut self, register: RegisterId) -> Result<u64, Self::Error> {
        Ok(self.partition.register(self.vp, register)?)
    }

    fn write(&mut self, register: RegisterId, value: u64) -> Result<(), Self::Error> {
        Ok(self.partition.set_register(self.vp, register, value)?)
    }

    fn map(&mut self, page: SynicPage, gpa: u64) -> Result<Self::Page, Self::Error> {
        self.pages.map(page, gpa).map_err(AccessError::Page)
    }

    fn allocate(&mut self, page: SynicPage) -> Result<(Self::Page, u64), Self::Error> {
        self.pages.allocate(page).map_err(AccessError::Page)
    }

    fn release(&mut self, page: Self::Page) {
        self.pages.release(page);
    }
}
