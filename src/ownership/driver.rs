// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! The guest's side: how VMBus and MSHV set up the SynIC of one VP, and leave it.
//!
//! Both drivers are lists of steps; the ownership table says which of them apply. Nothing is kept
//! outside [`Claims`], so a VP that goes offline and comes back is initialised again like a new
//! one, also when VMBus refuses to let it go after MSHV has already left.

#[cfg(test)]
pub(super) mod flaw;
mod run;

use self::{
    Step::{Off, On, Release, Take},
    run::Run,
};
use super::{Criterion, Failure, Owner, Ownership, Role, SynicAccess, SynicPage as Page};
use crate::abi::{Register, RegisterId, Sint, SintIndex};

/// One of the two drivers, in a partition of a given role; the same for all its VPs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(test, derive(Hash))]
pub struct Driver {
    owner: Owner,
    role: Role,
    criterion: Criterion,
    vector: u8,
    auto_eoi: bool,
    #[cfg(test)]
    flaw: Option<flaw::Flaw>,
}

impl Driver {
    /// The driver, with Linux's callback vector (0xF3) and explicit EOI.
    pub const fn new(owner: Owner, role: Role, criterion: Criterion) -> Self {
        Self {
            owner,
            role,
            criterion,
            vector: 0xF3,
            auto_eoi: false,
            #[cfg(test)]
            flaw: None,
        }
    }

    /// Uses another vector, 16 or above, and auto-EOI or not, on the driver's SINTs.
    #[must_use]
    pub const fn with_interrupt(self, vector: u8, auto_eoi: bool) -> Self {
        Self {
            vector,
            auto_eoi,
            ..self
        }
    }

    /// Sets up the SynIC of one VP, as far as it is this driver's (Linux `hv_synic_init`,
    /// `mshv_synic_cpu_init`). On the VP, VMBus comes before MSHV.
    ///
    /// # Errors
    /// [`Failure`] if an access fails; what was done before is undone then.
    pub fn init<A, P, E>(self, access: &mut A) -> Result<Claims<P>, Failure<P, E>>
    where
        A: SynicAccess<Page = P, Error = E>,
    {
        let mut run = Run::new(access, Claims::new(self));
        match run.steps(self.order().init) {
            Ok(()) => Ok(run.claims),
            Err((action, source)) => {
                // If this fails as well, what it could not undo stays in the claims.
                let _ = run.steps(self.order().undo);
                Err(run.fail(action, source))
            }
        }
    }

    fn order(&self) -> &'static Order {
        #[cfg(test)]
        if let Some(order) = self.flaw.and_then(flaw::Flaw::order) {
            return order;
        }
        match self.owner {
            Owner::VmBus => &VMBUS,
            Owner::Mshv => &MSHV,
        }
    }

    fn id(&self, register: Register) -> RegisterId {
        RegisterId {
            bank: self.role.bank(self.owner),
            register,
        }
    }

    fn row(&self, register: Register) -> Ownership {
        let row = Ownership::of(self.role, self.criterion, self.id(register));
        #[cfg(test)]
        let row = self.flaw.map_or(row, |flaw| flaw.row(register, row));
        row
    }

    /// Whether disabling the register clears the page address as well.
    fn forgets_base(&self, register: Register) -> bool {
        #[cfg(test)]
        if self.flaw == Some(flaw::Flaw::KeepsBase) {
            return false;
        }
        self.row(register).clears_base()
    }

    /// `sint` with this driver's interrupt settings, unmasked.
    fn unmask(&self, sint: Sint) -> Sint {
        sint.with_vector(self.vector)
            .with_masked(false)
            .with_auto_eoi(self.auto_eoi)
    }
}

/// What a driver has switched on, mapped and allocated on one VP.
///
/// It is what an exit undoes, and all that it undoes. Page handles leave with it, so none is left
/// behind to be used after the exit.
#[derive(Debug)]
#[cfg_attr(test, derive(Clone, PartialEq, Eq, Hash))]
#[must_use = "dropped claims leave the SynIC switched on; call `exit`"]
pub struct Claims<P> {
    driver: Driver,
    on: Vec<Register>,
    pages: Vec<Held<P>>,
}

#[derive(Debug)]
#[cfg_attr(test, derive(Clone, PartialEq, Eq, Hash))]
struct Held<P> {
    page: Page,
    gpa: u64,
    handle: P,
}

impl<P> Claims<P> {
    /// The handle of a page, while the driver uses it.
    pub fn page(&self, page: Page) -> Option<&P> {
        self.held(page).map(|held| &held.handle)
    }

    /// Whether the driver switched this register on.
    pub fn has_switched_on(&self, register: Register) -> bool {
        self.on.contains(&register)
    }

    /// Whether there is nothing to undo.
    pub fn is_empty(&self) -> bool {
        self.on.is_empty() && self.pages.is_empty()
    }

    /// Gives everything back, in order (Linux `hv_synic_cleanup`, `mshv_synic_cpu_exit`). On the
    /// VP, MSHV goes before VMBus.
    ///
    /// # Errors
    /// [`Failure`] if an access fails. Nothing that comes later in the order is touched then: the
    /// SynIC stays on, and pages that registers still point at stay allocated.
    pub fn exit<A, E>(self, access: &mut A) -> Result<(), Failure<P, E>>
    where
        A: SynicAccess<Page = P, Error = E>,
    {
        let order = self.driver.order();
        let mut run = Run::new(access, self);
        run.steps(order.exit)
            .map_err(|(action, source)| run.fail(action, source))
    }

    fn new(driver: Driver) -> Self {
        Self {
            driver,
            on: Vec::new(),
            pages: Vec::new(),
        }
    }

    /// Whether a way out has to switch this register off.
    fn must_undo(&self, register: Register) -> bool {
        #[cfg(test)]
        if self.driver.flaw == Some(flaw::Flaw::UndoesUnasked) {
            return self.driver.row(register).switch == Some(self.driver.owner);
        }
        self.has_switched_on(register)
    }

    fn held(&self, page: Page) -> Option<&Held<P>> {
        self.pages.iter().find(|held| held.page == page)
    }
}

/// One step of an order. It applies where the table gives the driver the right, and on the way
/// out where the claims say that it was done.
#[derive(Clone, Copy)]
#[cfg_attr(test, derive(Debug, PartialEq, Eq, Hash))]
enum Step {
    /// Set the enable bit, or unmask.
    On(Register),
    /// Map or allocate, as the table says.
    Take(Page),
    /// Clear the enable bit, or mask.
    Off(Register),
    /// Unmap or free.
    Release(Page),
}

/// The steps of a driver.
#[cfg_attr(test, derive(Debug, PartialEq, Eq, Hash))]
struct Order {
    init: &'static [Step],
    exit: &'static [Step],
    /// After a failed init.
    undo: &'static [Step],
}

const SCONTROL: Register = Register::Scontrol;
const SIMP: Register = Register::Simp;
const SIEFP: Register = Register::Siefp;
const SIRBP: Register = Register::Sirbp;
const SINT0: Register = Register::Sint(SintIndex::INTERCEPT);
const SINT2: Register = Register::Sint(SintIndex::VMBUS);
const SINT5: Register = Register::Sint(SintIndex::DOORBELL);

/// Linux `hv_synic_init`, `hv_synic_cleanup`; `hv_synic_free`, which frees the pages, comes after.
#[rustfmt::skip]
const VMBUS: Order = Order {
    init: &[
        Take(Page::Message), On(SIMP),
        Take(Page::EventFlags), On(SIEFP),
        On(SINT2),
        On(SCONTROL),
    ],
    exit: VMBUS_EXIT,
    undo: VMBUS_EXIT,
};
#[rustfmt::skip]
const VMBUS_EXIT: &[Step] = &[
    Off(SINT2),
    Off(SIMP), Off(SIEFP),
    Off(SCONTROL),
    Release(Page::Message), Release(Page::EventFlags),
];

/// Linux `mshv_synic_cpu_init`, `mshv_synic_cpu_exit`.
///
/// A root enables the pages that the hypervisor provides before it maps them. The ring is written
/// only once its page is there, since there is no way back after that in Linux.
#[rustfmt::skip]
const MSHV: Order = Order {
    init: &[
        On(SIMP), Take(Page::Message),
        On(SIEFP), Take(Page::EventFlags),
        Take(Page::EventRing), On(SIRBP),
        On(SINT0), On(SINT5),
        On(SCONTROL),
    ],
    exit: &[
        Off(SINT0), Off(SINT5),
        Off(SIRBP), Release(Page::EventRing),
        Release(Page::EventFlags), Off(SIEFP), Off(SIMP), Release(Page::Message),
        Off(SCONTROL),
    ],
    undo: &[
        Off(SINT0), Off(SINT5),
        Off(SIRBP), Release(Page::EventRing),
        Release(Page::EventFlags), Off(SIEFP),
        Release(Page::Message), Off(SIMP),
        Off(SCONTROL),
    ],
};

#[cfg(test)]
mod failure_tests;
#[cfg(test)]
mod tests;
