// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! One pass of a driver over its VP: steps to accesses, accesses to claims.

use super::{
    Claims, Held, Page,
    Step::{self, Off, On, Release, Take},
};
use crate::abi::{PageRegister, Register, Scontrol, Sint, SintIndex};
use crate::ownership::{Action, Failure, Owner, PageUse, SynicAccess};

/// One pass over some steps.
pub(super) struct Run<'a, A: SynicAccess> {
    access: &'a mut A,
    pub(super) claims: Claims<A::Page>,
    /// The register last read or written, and its value: adjacent steps on one register read it
    /// once, as Linux does.
    known: Option<(Register, u64)>,
}

type Outcome<T, E> = Result<T, (Action, E)>;

impl<'a, A: SynicAccess> Run<'a, A> {
    pub(super) fn new(access: &'a mut A, claims: Claims<A::Page>) -> Self {
        Self {
            access,
            claims,
            known: None,
        }
    }

    pub(super) fn fail(self, action: Action, source: A::Error) -> Failure<A::Page, A::Error> {
        Failure {
            owner: self.claims.driver.owner,
            action,
            source,
            left: self.claims,
        }
    }

    pub(super) fn steps(&mut self, steps: &[Step]) -> Outcome<(), A::Error> {
        steps.iter().try_for_each(|step| self.step(*step))
    }

    fn step(&mut self, step: Step) -> Outcome<(), A::Error> {
        let driver = self.claims.driver;
        match step {
            On(register) if driver.row(register).switch == Some(driver.owner) => {
                self.switch_on(register)
            }
            Take(page) => match driver.row(page.register()).page_use(driver.owner) {
                PageUse::Unused => Ok(()),
                PageUse::Maps => self.map(page),
                PageUse::Allocates => self.allocate(page),
            },
            Off(register) if self.claims.must_undo(register) => self.switch_off(register),
            Release(page) => {
                self.release(page);
                Ok(())
            }
            On(_) | Off(_) => Ok(()),
        }
    }

    fn switch_on(&mut self, register: Register) -> Outcome<(), A::Error> {
        let value = match register {
            Register::Sint(index) => self.sint_to_unmask(index)?.into(),
            Register::Scontrol => Scontrol::from(self.read(register)?)
                .with_enable(true)
                .into(),
            _ => self.page_to_enable(register)?.into(),
        };
        self.write(register, value)?;
        self.claims.on.push(register);
        Ok(())
    }

    /// VMBus changes its SINT; MSHV overwrites its own whole, whatever was there.
    fn sint_to_unmask(&mut self, index: SintIndex) -> Outcome<Sint, A::Error> {
        let driver = self.claims.driver;
        let before = match driver.owner {
            Owner::VmBus => Sint::from(self.read(Register::Sint(index))?),
            Owner::Mshv => Sint::new().with_as_intercept(index == SintIndex::DOORBELL),
        };
        Ok(driver.unmask(before))
    }

    fn page_to_enable(&mut self, register: Register) -> Outcome<PageRegister, A::Error> {
        let value = PageRegister::from(self.read(register)?).with_enabled(true);
        let held = Page::behind(register).and_then(|page| self.claims.held(page));
        Ok(match held {
            Some(held) if self.claims.driver.row(register).clears_base() => {
                value.with_page_number(held.gpa >> 12)
            }
            _ => value,
        })
    }

    fn map(&mut self, page: Page) -> Outcome<(), A::Error> {
        let gpa = PageRegister::from(self.read(page.register())?).gpa();
        let handle = self.access.map(page, gpa);
        let handle = handle.map_err(|error| (Action::Map(page), error))?;
        self.claims.pages.push(Held { page, gpa, handle });
        Ok(())
    }

    fn allocate(&mut self, page: Page) -> Outcome<(), A::Error> {
        let allocated = self.access.allocate(page);
        let (handle, gpa) = allocated.map_err(|error| (Action::Allocate(page), error))?;
        self.claims.pages.push(Held { page, gpa, handle });
        Ok(())
    }

    fn switch_off(&mut self, register: Register) -> Outcome<(), A::Error> {
        // What is there now: others may have written since the init.
        self.known = None;
        let before = self.read(register)?;
        let value = match register {
            Register::Sint(_) => Sint::from(before).with_masked(true).into(),
            Register::Scontrol => Scontrol::from(before).with_enable(false).into(),
            _ => self.page_to_disable(register, before.into()).into(),
        };
        self.write(register, value)?;
        self.claims.on.retain(|claimed| *claimed != register);
        Ok(())
    }

    fn page_to_disable(&self, register: Register, before: PageRegister) -> PageRegister {
        let value = before.with_enabled(false);
        if self.claims.driver.forgets_base(register) {
            value.with_page_number(0)
        } else {
            value
        }
    }

    fn release(&mut self, page: Page) {
        let pages = &mut self.claims.pages;
        if let Some(position) = pages.iter().position(|held| held.page == page) {
            self.access.release(pages.remove(position).handle);
        }
    }

    fn read(&mut self, register: Register) -> Outcome<u64, A::Error> {
        match self.known {
            Some((known, value)) if known == register => return Ok(value),
            _ => {}
        }
        let id = self.claims.driver.id(register);
        let value = self.access.read(id);
        let value = value.map_err(|error| (Action::Read(id), error))?;
        self.known = Some((register, value));
        Ok(value)
    }

    fn write(&mut self, register: Register, value: u64) -> Outcome<(), A::Error> {
        let id = self.claims.driver.id(register);
        let written = self.access.write(id, value);
        written.map_err(|error| (Action::Write(id), error))?;
        self.known = Some((register, value));
        Ok(())
    }
}
