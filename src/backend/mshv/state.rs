// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! The SynIC of a VP as the hypervisor holds it: its registers, its two overlay pages, its timers.
//!
//! On the VP's thread, or while it is stopped.

use std::fmt;

use super::{CallError, MshvPartition, VpCalls};
use crate::VpIndex;
use crate::abi::{PageRegister, Register, RegisterId, Scontrol, Sint, SintIndex};
use crate::ownership::{SynicPage, SynicView};

/// A page that a state of a VP is exchanged by: where the driver wants it, of the size it wants.
#[derive(Clone, PartialEq, Eq)]
#[repr(C, align(4096))]
pub struct StatePage(pub [u8; 4096]);

impl Default for StatePage {
    fn default() -> Self {
        Self([0; 4096])
    }
}

impl fmt::Debug for StatePage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let used = self.0.iter().filter(|byte| **byte != 0).count();
        write!(f, "StatePage({used} bytes are not 0)")
    }
}

impl MshvPartition {
    /// The registers of a VP's SynIC that hold a state. SIRBP is 0 for a hypervisor without event
    /// rings.
    ///
    /// # Errors
    /// [`CallError`].
    pub fn registers(&self, vp: VpIndex) -> Result<SynicView, CallError> {
        let read = |register| self.register(vp, RegisterId::plain(register));
        let mut view = SynicView {
            scontrol: read(Register::Scontrol)?,
            simp: read(Register::Simp)?,
            siefp: read(Register::Siefp)?,
            sirbp: match read(Register::Sirbp) {
                Err(CallError::Status(UNKNOWN_REGISTER | INVALID_PARAMETER)) => 0,
                value => value?,
            },
            ..SynicView::default()
        };
        for (value, sint) in view.sints.iter_mut().zip(SintIndex::all()) {
            *value = read(Register::Sint(sint))?;
        }
        Ok(view)
    }

    /// Writes them: pages before SINTs, so that nothing is delivered into a page that is not there,
    /// and SCONTROL last.
    ///
    /// # Errors
    /// [`CallError`]; those before the failing one are written.
    pub fn set_registers(&self, vp: VpIndex, view: &SynicView) -> Result<(), CallError> {
        let write = |register, value| self.set_register(vp, RegisterId::plain(register), value);
        write(Register::Simp, view.simp)?;
        write(Register::Siefp, view.siefp)?;
        if view.sirbp != 0
            || self
                .register(vp, RegisterId::plain(Register::Sirbp))
                .is_ok()
        {
            write(Register::Sirbp, view.sirbp)?;
        }
        for (value, sint) in view.sints.iter().zip(SintIndex::all()) {
            write(Register::Sint(sint), *value)?;
        }
        write(Register::Scontrol, view.scontrol)
    }

    /// The SynIC of a VP as after power-on: all SINTs masked, then all pages off.
    ///
    /// # Errors
    /// [`CallError`].
    pub fn reset(&self, vp: VpIndex) -> Result<(), CallError> {
        let mut view = self.registers(vp)?;
        view.sints = [Sint::RESET.into(); 16];
        for (sint, value) in SintIndex::all().zip(view.sints) {
            self.set_register(vp, RegisterId::plain(Register::Sint(sint)), value)?;
        }
        view.scontrol = Scontrol::new().into();
        [view.simp, view.siefp, view.sirbp] = [PageRegister::new().into(); 3];
        self.set_registers(vp, &view)
    }
}

/// Reads the hypervisor's own copy of a page that a VP has enabled: on mshv it is no guest RAM.
///
/// # Errors
/// [`CallError`]; EINVAL for the event ring page, which is guest RAM.
pub fn page(calls: &dyn VpCalls, page: SynicPage) -> Result<StatePage, CallError> {
    let mut contents = StatePage::default();
    calls.get_state(kind(page)?, &mut contents)?;
    Ok(contents)
}

/// Writes it.
///
/// # Errors
/// As for [`page`].
pub fn set_page(
    calls: &dyn VpCalls,
    page: SynicPage,
    contents: &StatePage,
) -> Result<(), CallError> {
    calls.set_state(kind(page)?, contents)
}

/// Reads the synthetic timers, `hv_synthetic_timers_state`.
///
/// # Errors
/// [`CallError`].
pub fn timers(calls: &dyn VpCalls) -> Result<StatePage, CallError> {
    let mut state = StatePage::default();
    calls.get_state(MSHV_VP_STATE_SYNTHETIC_TIMERS, &mut state)?;
    Ok(state)
}

/// Writes them.
///
/// # Errors
/// [`CallError`].
pub fn set_timers(calls: &dyn VpCalls, state: &StatePage) -> Result<(), CallError> {
    calls.set_state(MSHV_VP_STATE_SYNTHETIC_TIMERS, state)
}

fn kind(page: SynicPage) -> Result<u8, CallError> {
    match page {
        SynicPage::Message => Ok(MSHV_VP_STATE_SIMP),
        SynicPage::EventFlags => Ok(MSHV_VP_STATE_SIEFP),
        SynicPage::EventRing => Err(CallError::Os(EINVAL)),
    }
}

// Linux `include/uapi/linux/mshv.h`; mshv-bindings has them for x86-64 alone.
const MSHV_VP_STATE_SIMP: u8 = 2;
const MSHV_VP_STATE_SIEFP: u8 = 3;
const MSHV_VP_STATE_SYNTHETIC_TIMERS: u8 = 4;
const INVALID_PARAMETER: u16 = 0x05;
const UNKNOWN_REGISTER: u16 = 0x87;
const EINVAL: i32 = 22;
