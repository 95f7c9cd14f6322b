// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! Init that fails at each of its steps, and exit that fails.

use super::tests::{CRITERIA, l1vh, mshv, root, vmbus};
use super::*;
use crate::ownership::{
    Action,
    Criterion::{Linux72, Seed},
    SynicView,
    fake::{FakeVp, Refused},
};

/// Fails MSHV's init where `access` says; gives the failed action and the log from there on.
#[track_caller]
fn fail_mshv(vp: &mut FakeVp, access: &'static str, driver: Driver) -> (Action, Vec<String>) {
    let others_pages = sorted(&vp.in_use);
    vp.refuse(access);
    let failure = driver.init(vp).unwrap_err();
    assert_eq!(failure.source, Refused);
    assert!(failure.left.is_empty(), "{:?}", failure.left);
    assert_eq!(sorted(&vp.in_use), others_pages, "pages given back");
    assert_eq!(vp.violations, []);
    let log = vp.take_log();
    let refused = log.iter().position(|line| line.starts_with("refused"));
    (failure.action, log[refused.unwrap() + 1..].to_vec())
}

#[test]
fn failed_map_of_message_page_undoes_simp_where_mshv_enabled_it() {
    let (action, undone) = fail_mshv(&mut root(), "map SIMP", mshv(Role::Root, Linux72));
    assert_eq!(action, Action::Map(Page::Message));
    assert_eq!(undone, ["rd SIMP", "wr SIMP 0xa1000"]);

    let (mut vp, _vmbus) = l1vh(Linux72);
    let (_, undone) = fail_mshv(&mut vp, "map SIMP", mshv(Role::L1vh, Linux72));
    assert!(undone.is_empty(), "{undone:?}");
}

#[test]
fn failed_map_of_flags_page_undoes_siefp_then_the_message_page() {
    let (action, undone) = fail_mshv(&mut root(), "map SIEFP", mshv(Role::Root, Linux72));
    assert_eq!(action, Action::Map(Page::EventFlags));
    #[rustfmt::skip]
    let root_ladder = [
        "rd SIEFP", "wr SIEFP 0xa2000",
        "release 0xa1000", "rd SIMP", "wr SIMP 0xa1000",
    ];
    assert_eq!(undone, root_ladder);

    let (mut vp, _vmbus) = l1vh(Linux72);
    let (_, undone) = fail_mshv(&mut vp, "map SIEFP", mshv(Role::L1vh, Linux72));
    assert_eq!(undone, ["release 0x5000"]);
}

#[test]
fn failed_ring_page_undoes_flags_then_message_page_and_never_writes_sirbp() {
    let (action, undone) = fail_mshv(&mut root(), "map SIRBP", mshv(Role::Root, Linux72));
    assert_eq!(action, Action::Map(Page::EventRing));
    #[rustfmt::skip]
    let root_ladder = [
        "release 0xa2000", "rd SIEFP", "wr SIEFP 0xa2000",
        "release 0xa1000", "rd SIMP", "wr SIMP 0xa1000",
    ];
    assert_eq!(undone, root_ladder);

    for (criterion, access) in [(Linux72, "alloc SIRBP"), (Seed, "map SIRBP")] {
        let (mut vp, _vmbus) = l1vh(criterion);
        let (_, undone) = fail_mshv(&mut vp, access, mshv(Role::L1vh, criterion));
        assert_eq!(undone, ["release 0x6000", "release 0x5000"]);
    }
}

#[test]
fn failed_sint_write_undoes_the_ring_as_well() {
    let (mut vp, _vmbus) = l1vh(Linux72);
    let (action, undone) = fail_mshv(&mut vp, "wr SINT5", mshv(Role::L1vh, Linux72));
    let sint5 = RegisterId::plain(Register::Sint(SintIndex::DOORBELL));
    assert_eq!(action, Action::Write(sint5));
    #[rustfmt::skip]
    let ladder = [
        "rd SINT0", "wr SINT0 0x100f3",
        "rd SIRBP", "wr SIRBP 0x0", "release 0x7000",
        "release 0x6000", "release 0x5000",
    ];
    assert_eq!(undone, ladder);
}

fn sorted(pages: &[u64]) -> Vec<u64> {
    let mut pages = pages.to_vec();
    pages.sort_unstable();
    pages
}

/// Refuses the first, second, ... access of an init. What it switched on must be off again, what
/// was there before unchanged. Gives the number of accesses.
fn fail_everywhere(mut vp: FakeVp, driver: Driver) -> usize {
    // As on Hyper-V, which has SCONTROL set at reset: then no clean-up is a write while off.
    vp.plain.scontrol = 1;
    let before = on(&vp.plain);
    for passes in 0.. {
        vp.refuse_one_after(passes);
        let Err(failure) = driver.init(&mut vp) else {
            return passes;
        };
        assert!(failure.left.is_empty(), "{failure}");
        assert_eq!(on(&vp.plain), before, "{failure}");
        assert_eq!(vp.violations, [], "{failure}");
    }
    unreachable!("an init is not endless")
}

/// The page registers and SCONTROL, and which SINTs are masked.
fn on(vp: &SynicView) -> ([u64; 4], [bool; 16]) {
    let masked = vp.sints.map(|sint| Sint::from(sint).masked());
    ([vp.simp, vp.siefp, vp.sirbp, vp.scontrol], masked)
}

#[test]
fn init_failing_at_any_access_undoes_all_of_its_own_and_nothing_else() {
    for criterion in CRITERIA {
        let (vp, _vmbus) = l1vh(criterion);
        assert_eq!(fail_everywhere(vp, mshv(Role::L1vh, criterion)), 9);
        assert_eq!(fail_everywhere(root(), mshv(Role::Root, criterion)), 13);
    }
    let guest = FakeVp::new(Role::Guest, Linux72);
    assert_eq!(fail_everywhere(guest, vmbus(Role::Guest)), 10);
}

#[test]
fn failed_undo_keeps_what_it_could_not_undo_for_another_try() {
    let (mut vp, _vmbus) = l1vh(Linux72);
    vp.refuse("wr SINT5");
    vp.refuse("rd SINT0");
    let failure = mshv(Role::L1vh, Linux72).init(&mut vp).unwrap_err();
    let text = "Driver mshv could not write SINT5";
    assert_eq!(failure.to_string(), text);
    let sint0 = Register::Sint(SintIndex::INTERCEPT);
    assert!(failure.left.has_switched_on(sint0));
    assert_eq!(failure.left.page(Page::EventRing), Some(&0x7000));

    vp.refuse_nothing();
    failure.left.exit(&mut vp).unwrap();
    assert_eq!((vp.plain.sints[0], vp.plain.sirbp), (0x100F3, 0));
    assert_eq!(vp.in_use, [0x5000, 0x6000], "VMBus keeps its own");
}

#[test]
fn failed_exit_stops_before_the_page_that_sirbp_still_points_at_and_resumes_there() {
    let (mut vp, _vmbus) = l1vh(Linux72);
    let claims = mshv(Role::L1vh, Linux72).init(&mut vp).unwrap();
    vp.take_log();
    vp.refuse("wr SIRBP");
    let failure = claims.exit(&mut vp).unwrap_err();
    assert_eq!(
        failure.action,
        Action::Write(RegisterId::plain(Register::Sirbp))
    );
    let log = vp.take_log();
    assert_eq!(log.last().unwrap(), "refused wr SIRBP 0x0");

    vp.refuse_nothing();
    failure.left.exit(&mut vp).unwrap();
    #[rustfmt::skip]
    let rest = [
        "rd SIRBP", "wr SIRBP 0x0", "release 0x7000",
        "release 0x6000", "release 0x5000",
    ];
    assert_eq!(vp.take_log(), rest);
}
