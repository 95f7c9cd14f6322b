// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! What a driver needs of the VP it runs on, and how its use of it fails.

use super::{Claims, Owner};
use crate::abi::{Register, RegisterId};
use std::fmt;

/// A page that a SynIC register points at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SynicPage {
    /// SIMP's.
    Message,
    /// SIEFP's.
    EventFlags,
    /// SIRBP's.
    EventRing,
}

impl SynicPage {
    /// The register that holds its address.
    pub const fn register(self) -> Register {
        match self {
            Self::Message => Register::Simp,
            Self::EventFlags => Register::Siefp,
            Self::EventRing => Register::Sirbp,
        }
    }

    /// The page behind a register; `None` for a register without one.
    pub const fn behind(register: Register) -> Option<Self> {
        match register {
            Register::Simp => Some(Self::Message),
            Register::Siefp => Some(Self::EventFlags),
            Register::Sirbp => Some(Self::EventRing),
            _ => None,
        }
    }
}

impl fmt::Display for SynicPage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Message => "message page",
            Self::EventFlags => "event flags page",
            Self::EventRing => "event ring page",
        })
    }
}

/// Registers and pages of the one VP that a driver sets up.
pub trait SynicAccess {
    /// Why an access failed.
    type Error;
    /// A page in use; given back by [`release`](Self::release).
    type Page;

    /// Reads a register.
    ///
    /// # Errors
    /// The register cannot be read; the driver gives up.
    fn read(&mut self, register: RegisterId) -> Result<u64, Self::Error>;

    /// Writes a register.
    ///
    /// # Errors
    /// The register still has its old value; the driver gives up.
    fn write(&mut self, register: RegisterId, value: u64) -> Result<(), Self::Error>;

    /// Makes the page at a guest physical address, which a register holds, accessible.
    ///
    /// # Errors
    /// There is no such memory; the driver gives up.
    fn map(&mut self, page: SynicPage, gpa: u64) -> Result<Self::Page, Self::Error>;

    /// Provides a zeroed 4 KiB page and its guest physical address, a multiple of 4 KiB.
    ///
    /// # Errors
    /// There is no memory; the driver gives up.
    fn allocate(&mut self, page: SynicPage) -> Result<(Self::Page, u64), Self::Error>;

    /// Unmaps a mapped page, frees an allocated one. No register points at a freed page.
    fn release(&mut self, page: Self::Page);
}

/// What a driver was doing to its VP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Reading a register.
    Read(RegisterId),
    /// Writing a register.
    Write(RegisterId),
    /// Mapping a page.
    Map(SynicPage),
    /// Allocating a page.
    Allocate(SynicPage),
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Read(register) => write!(f, "read {register}"),
            Self::Write(register) => write!(f, "write {register}"),
            Self::Map(page) => write!(f, "map the {page}"),
            Self::Allocate(page) => write!(f, "allocate the {page}"),
        }
    }
}

/// An init or exit that did not complete. Where Linux's MSHV driver has a failure path, it returns
/// `-EFAULT` for each of these.
#[derive(Debug, thiserror::Error)]
#[error("Driver {owner} could not {action}")]
pub struct Failure<P, E> {
    /// Whose init or exit it was.
    pub owner: Owner,
    /// What failed.
    pub action: Action,
    /// Why.
    pub source: E,
    /// What is still claimed: nothing after a failed init, unless undoing it failed too; after a
    /// failed exit, everything from the failed step on. [`Claims::exit`] tries again.
    pub left: Claims<P>,
}
