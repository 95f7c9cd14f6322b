// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! The calls of a VP's file descriptor.

use super::MshvDouble;
use crate::abi::{PageRegister, Register, RegisterId, VpIndex};
use crate::backend::mshv::{CallError, StatePage, VpCalls};
use crate::sync::lock;
use std::fmt;
use std::sync::{Arc, Mutex};
use vm_memory::{Bytes, GuestAddress};

/// A VP of a [`MshvDouble`].
pub struct VpDouble {
    double: Arc<MshvDouble>,
    vp: VpIndex,
    timers: Mutex<StatePage>,
}

impl VpDouble {
    /// One of its VPs.
    pub fn new(double: Arc<MshvDouble>, vp: VpIndex) -> Self {
        Self {
            double,
            vp,
            timers: Mutex::default(),
        }
    }

    /// Where the contents of an overlay page are kept here: in guest RAM.
    fn gpa(&self, kind: u8) -> Result<GuestAddress, CallError> {
        let register = match kind {
            2 => Register::Simp,
            3 => Register::Siefp,
            _ => return Err(EINVAL),
        };
        let manager = &self.double.vm.manager;
        let value = manager.read_register(self.vp, RegisterId::plain(register));
        let value = PageRegister::from(value.map_err(|_| EINVAL)?);
        match value.enabled() {
            true => Ok(GuestAddress(value.gpa())),
            // Whether the hypervisor answers for a page that is off is written nowhere.
            false => Err(CallError::Os(EIO)),
        }
    }
}

impl VpCalls for VpDouble {
    fn get_state(&self, kind: u8, page: &mut StatePage) -> Result<(), CallError> {
        if kind == TIMERS {
            page.clone_from(&lock(&self.timers));
            return Ok(());
        }
        let read = (self.double.vm.memory).read_slice(&mut page.0, self.gpa(kind)?);
        read.map_err(|_| CallError::Os(EIO))
    }

    fn set_state(&self, kind: u8, page: &StatePage) -> Result<(), CallError> {
        if kind == TIMERS {
            lock(&self.timers).clone_from(page);
            return Ok(());
        }
        let written = (self.double.vm.memory).write_slice(&page.0, self.gpa(kind)?);
        written.map_err(|_| CallError::Os(EIO))
    }
}

impl fmt::Debug for VpDouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "VpDouble({})", self.vp)
    }
}

const TIMERS: u8 = 4;
const EINVAL: CallError = CallError::Os(22);
const EIO: i32 = 5;
