// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! A driver's claims on a VP of a partition of /dev/mshv, made over the VP's registers beside a
//! running VMBus, and given back; on a double.

use std::sync::Arc;

use vm_synic::VpIndex;
use vm_synic::abi::Register;
use vm_synic::backend::mshv::{CallError, PageSource, StatePage, VpAccess, VpCalls};
use vm_synic::backend::mshv::{page, set_page, set_timers, timers};
use vm_synic::ownership::{Criterion, Driver, Owner, Role, SynicPage, SynicView};
use vm_synic::test_utils::{MshvDouble, VpDouble};

const VP: VpIndex = VpIndex::new(0);
const GET_REGISTERS: u16 = 0x50;
const SET_REGISTERS: u16 = 0x51;

/// Pages of RAM, and those that are in use.
#[derive(Debug, Default)]
struct Pages {
    in_use: Vec<u64>,
    refuses: bool,
}

impl PageSource for &mut Pages {
    type Error = &'static str;
    type Page = u64;

    fn map(&mut self, _: SynicPage, gpa: u64) -> Result<u64, &'static str> {
        self.take(gpa)
    }

    fn allocate(&mut self, _: SynicPage) -> Result<(u64, u64), &'static str> {
        let gpa = 0x8000;
        Ok((self.take(gpa)?, gpa))
    }

    fn release(&mut self, page: u64) {
        self.in_use.retain(|there| *there != page);
    }
}

impl Pages {
    fn take(&mut self, gpa: u64) -> Result<u64, &'static str> {
        if self.refuses {
            return Err("the test says so");
        }
        self.in_use.push(gpa);
        Ok(gpa)
    }
}

fn mshv() -> Driver {
    Driver::new(Owner::Mshv, Role::L1vh, Criterion::Linux72)
}

/// A VP whose VMBus is up.
fn with_vmbus() -> Arc<MshvDouble> {
    let double = MshvDouble::new(1);
    let mut pages = Pages::default();
    let mut access = VpAccess::new(double.partition(), VP, &mut pages);
    let vmbus = Driver::new(Owner::VmBus, Role::L1vh, Criterion::Linux72);
    let claims = vmbus.init(&mut access).unwrap();
    // It stays up.
    std::mem::forget(claims);
    double
}

fn view(double: &Arc<MshvDouble>) -> SynicView {
    double.partition().registers(VP).unwrap()
}

/// As VMBus has it: that of SINT0, SINT5 and SIRBP is MSHV's.
fn shared(mut view: SynicView) -> SynicView {
    (view.sirbp, view.sints[0], view.sints[5]) = (0, 0, 0);
    view
}

#[test]
fn init_beside_vmbus_claims_sint0_sint5_and_sirbp_and_touches_nothing_else() {
    let double = with_vmbus();
    let before = view(&double);
    let mut pages = Pages::default();
    let mut access = VpAccess::new(double.partition(), VP, &mut pages);
    let claims = mshv().init(&mut access).unwrap();
    let during = view(&double);
    assert_eq!(shared(during), shared(before));
    let on: Vec<_> = during
        .on()
        .filter(|r| !before.on().any(|b| b == *r))
        .collect();
    let sint = |index| Register::Sint(vm_synic::SintIndex::new(index).unwrap());
    assert_eq!(on, [Register::Sirbp, sint(0), sint(5)]);
    claims.exit(&mut access).unwrap();
    assert_eq!(
        view(&double).on().collect::<Vec<_>>(),
        before.on().collect::<Vec<_>>()
    );
    assert_eq!(pages.in_use, [0; 0]);
}

#[test]
fn init_that_fails_at_any_access_undoes_what_it_did() {
    let calls = {
        let double = with_vmbus();
        double.take_made();
        let mut pages = Pages::default();
        let mut access = VpAccess::new(double.partition(), VP, &mut pages);
        let claims = mshv().init(&mut access).unwrap();
        std::mem::forget(claims);
        double.take_made()
    };
    assert!(calls.contains(&GET_REGISTERS) && calls.contains(&SET_REGISTERS));
    for failing in 0..calls.len() {
        let double = with_vmbus();
        let before = view(&double);
        let code = calls[failing];
        let earlier = calls[..failing].iter().filter(|made| **made == code);
        double.pass(code, earlier.count());
        double.fail(code, [CallError::Status(0x05)]);
        let mut pages = Pages::default();
        let mut access = VpAccess::new(double.partition(), VP, &mut pages);
        let failure = mshv().init(&mut access).unwrap_err();
        assert!(failure.left.is_empty(), "call {failing}: {failure:?}");
        let after = view(&double);
        assert_eq!(shared(after), shared(before), "call {failing}");
        let on = [before, after].map(|view| view.on().collect::<Vec<_>>());
        assert_eq!(on[0], on[1], "call {failing}");
        assert_eq!(pages.in_use, [0; 0], "call {failing}");
    }
}

#[test]
fn init_without_a_page_leaves_the_ring_register_alone() {
    let double = with_vmbus();
    let before = view(&double);
    let mut pages = Pages {
        refuses: true,
        ..Pages::default()
    };
    let mut access = VpAccess::new(double.partition(), VP, &mut pages);
    mshv().init(&mut access).unwrap_err();
    assert_eq!(view(&double), before);
}

#[test]
fn page_and_timers_come_back_as_they_were_set() {
    let double = with_vmbus();
    let vp = VpDouble::new(double.clone(), VP);
    let mut contents = StatePage::default();
    contents.0[512] = 7;
    for which in [SynicPage::Message, SynicPage::EventFlags] {
        set_page(&vp, which, &contents).unwrap();
        assert_eq!(page(&vp, which).unwrap(), contents, "{which}");
    }
    set_timers(&vp, &contents).unwrap();
    assert_eq!(timers(&vp).unwrap(), contents);
}

#[test]
fn page_of_the_event_ring_is_no_state_of_the_hypervisors() {
    let double = with_vmbus();
    let vp = VpDouble::new(double.clone(), VP);
    let refused = page(&vp, SynicPage::EventRing).unwrap_err();
    assert_eq!(refused, CallError::Os(22));
    let mut contents = StatePage::default();
    assert_eq!(vp.get_state(9, &mut contents), Err(CallError::Os(22)));
}
