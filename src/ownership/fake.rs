// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! A VP for tests: registers of both banks, pages that are counted, and every access written down.

use super::{Criterion, Role, Rules, SynicAccess, SynicPage, SynicView, Violation};
use crate::abi::{Bank, PageRegister, Register, RegisterId};

/// `rd SIMP`, `wr SIMP 0x5001`, `map SIMP 0x5000`, `alloc SIRBP`, `release 0x5000`.
#[derive(Debug)]
pub(super) struct FakeVp {
    pub plain: SynicView,
    pub nested: SynicView,
    pub log: Vec<String>,
    pub in_use: Vec<u64>,
    pub violations: Vec<Violation>,
    pub rules: Rules,
    refused: Vec<&'static str>,
    refused_in: Option<usize>,
    next_page: u64,
}

#[derive(Debug, PartialEq, thiserror::Error)]
#[error("refused by the test")]
pub(super) struct Refused;

impl FakeVp {
    /// With the pages that a hypervisor provides to a root in place, and everything off.
    pub fn new(role: Role, criterion: Criterion) -> Self {
        let provided = SynicView {
            simp: 0xA_1000,
            siefp: 0xA_2000,
            sirbp: 0xA_3000,
            ..SynicView::default()
        };
        let on = |other| match role {
            Role::Root | Role::NestedRoot => provided,
            _ => other,
        };
        Self {
            plain: on(SynicView::default()),
            nested: on(SynicView::default()),
            log: Vec::new(),
            in_use: Vec::new(),
            violations: Vec::new(),
            rules: Rules::new(role, criterion),
            refused: Vec::new(),
            refused_in: None,
            next_page: 0x5000,
        }
    }

    /// Refuses each access that reads like this from now on.
    pub fn refuse(&mut self, access: &'static str) {
        self.refused.push(access);
    }

    /// Refuses the access after the next `passes`, and that one alone.
    pub fn refuse_one_after(&mut self, passes: usize) {
        self.refused_in = Some(passes);
    }

    pub fn refuse_nothing(&mut self) {
        self.refused.clear();
        self.refused_in = None;
    }

    pub fn take_log(&mut self) -> Vec<String> {
        std::mem::take(&mut self.log)
    }

    /// A write of the guest's that no driver of ours makes.
    pub fn poke(&mut self, register: Register, value: u64) {
        self.write(RegisterId::plain(register), value).unwrap();
    }

    fn view(&mut self, bank: Bank) -> &mut SynicView {
        match bank {
            Bank::Plain => &mut self.plain,
            Bank::Nested => &mut self.nested,
        }
    }

    fn access(&mut self, text: String) -> Result<(), Refused> {
        let is_its_turn = self.refused_in == Some(0);
        self.refused_in = self.refused_in.and_then(|passes| passes.checked_sub(1));
        if is_its_turn || self.refused.iter().any(|start| text.starts_with(start)) {
            self.log.push(format!("refused {text}"));
            return Err(Refused);
        }
        self.log.push(text);
        Ok(())
    }
}

impl SynicAccess for FakeVp {
    type Error = Refused;
    type Page = u64;

    fn read(&mut self, id: RegisterId) -> Result<u64, Refused> {
        self.access(format!("rd {id}"))?;
        Ok(self.view(id.bank).get(id.register).unwrap())
    }

    fn write(&mut self, id: RegisterId, value: u64) -> Result<(), Refused> {
        self.access(format!("wr {id} {value:#x}"))?;
        let before = *self.view(id.bank);
        let violation = self.rules.judge(id.bank, &before, id.register, value);
        self.violations.extend(violation);
        self.view(id.bank).set(id.register, value);
        Ok(())
    }

    fn map(&mut self, page: SynicPage, gpa: u64) -> Result<u64, Refused> {
        self.access(format!("map {} {gpa:#x}", page.register()))?;
        self.in_use.push(gpa);
        Ok(gpa)
    }

    fn allocate(&mut self, page: SynicPage) -> Result<(u64, u64), Refused> {
        self.access(format!("alloc {}", page.register()))?;
        let gpa = self.next_page;
        self.next_page += 0x1000;
        self.in_use.push(gpa);
        Ok((gpa, gpa))
    }

    /// Panics on a page that is not in use, and on an allocated one that a register points at.
    fn release(&mut self, page: u64) {
        let position = self.in_use.iter().position(|used| *used == page);
        self.in_use
            .remove(position.expect("released page is in use"));
        let still_used = self.in_use.contains(&page);
        let allocated = (0x5000..self.next_page).contains(&page);
        for register in [self.plain.simp, self.plain.siefp, self.plain.sirbp] {
            let pointed_at = PageRegister::from(register).gpa() == page;
            assert!(!(allocated && !still_used && pointed_at), "{page:#x} freed");
        }
        self.log.push(format!("release {page:#x}"));
    }
}

impl SynicView {
    pub(super) fn set(&mut self, register: Register, value: u64) {
        match register {
            Register::Scontrol => self.scontrol = value,
            Register::Simp => self.simp = value,
            Register::Siefp => self.siefp = value,
            Register::Sirbp => self.sirbp = value,
            Register::Sint(sint) => self.sints[sint.index()] = value,
            Register::Eom => {}
            other => panic!("{other} is read-only"),
        }
    }
}
