// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! The sequences of registers and pages, step by step.

use super::*;
use crate::abi::PageRegister;
use crate::ownership::fake::FakeVp;
use Criterion::{Linux72, Seed};

pub(super) const CRITERIA: [Criterion; 2] = [Seed, Linux72];

pub(super) fn vmbus(role: Role) -> Driver {
    Driver::new(Owner::VmBus, role, Linux72)
}

pub(super) fn mshv(role: Role, criterion: Criterion) -> Driver {
    Driver::new(Owner::Mshv, role, criterion)
}

/// An L1VH's VP on which VMBus already runs; the log is empty.
pub(super) fn l1vh(criterion: Criterion) -> (FakeVp, Claims<u64>) {
    let mut vp = FakeVp::new(Role::L1vh, criterion);
    let claims = vmbus(Role::L1vh).init(&mut vp).unwrap();
    vp.take_log();
    (vp, claims)
}

pub(super) fn root() -> FakeVp {
    FakeVp::new(Role::Root, Linux72)
}

fn writes(log: &[String]) -> Vec<&str> {
    let writes = log.iter().filter(|line| line.starts_with("wr "));
    writes.map(String::as_str).collect()
}

#[test]
fn vmbus_init_and_exit_on_guest_follow_linux_order() {
    let mut vp = FakeVp::new(Role::Guest, Linux72);
    let claims = vmbus(Role::Guest).init(&mut vp).unwrap();
    #[rustfmt::skip]
    let init = [
        "alloc SIMP", "rd SIMP", "wr SIMP 0x5001",
        "alloc SIEFP", "rd SIEFP", "wr SIEFP 0x6001",
        "rd SINT2", "wr SINT2 0xf3",
        "rd SCONTROL", "wr SCONTROL 0x1",
    ];
    assert_eq!(vp.take_log(), init);
    claims.exit(&mut vp).unwrap();
    #[rustfmt::skip]
    let exit = [
        "rd SINT2", "wr SINT2 0x100f3",
        "rd SIMP", "wr SIMP 0x0",
        "rd SIEFP", "wr SIEFP 0x0",
        "rd SCONTROL", "wr SCONTROL 0x0",
        "release 0x5000", "release 0x6000",
    ];
    assert_eq!(vp.take_log(), exit);
}

#[test]
fn vmbus_init_on_nested_root_uses_provided_pages_of_the_nested_bank() {
    let mut vp = FakeVp::new(Role::NestedRoot, Linux72);
    let plain = vp.plain;
    let claims = vmbus(Role::NestedRoot).init(&mut vp).unwrap();
    #[rustfmt::skip]
    let init = [
        "rd nested SIMP", "map SIMP 0xa1000", "wr nested SIMP 0xa1001",
        "rd nested SIEFP", "map SIEFP 0xa2000", "wr nested SIEFP 0xa2001",
        "rd nested SINT2", "wr nested SINT2 0xf3",
        "rd nested SCONTROL", "wr nested SCONTROL 0x1",
    ];
    assert_eq!(vp.take_log(), init);
    claims.exit(&mut vp).unwrap();
    assert_eq!((vp.nested.simp, vp.nested.siefp), (0xA_1000, 0xA_2000));
    assert_eq!(vp.plain, plain);
}

#[test]
fn vmbus_init_keeps_the_bits_of_its_sint_that_it_does_not_know() {
    let mut vp = FakeVp::new(Role::Guest, Linux72);
    vp.poke(Register::Sint(SintIndex::VMBUS), 1 << 40 | 0x9_0000);
    let _claims = vmbus(Role::Guest)
        .with_interrupt(0x31, true)
        .init(&mut vp)
        .unwrap();
    assert_eq!(vp.plain.sints[2], 1 << 40 | 0xA_0031);
}

#[test]
fn mshv_init_and_exit_on_l1vh_leave_simp_siefp_and_scontrol_alone() {
    let (mut vp, _vmbus) = l1vh(Linux72);
    let claims = mshv(Role::L1vh, Linux72).init(&mut vp).unwrap();
    #[rustfmt::skip]
    let init = [
        "rd SIMP", "map SIMP 0x5000",
        "rd SIEFP", "map SIEFP 0x6000",
        "alloc SIRBP", "rd SIRBP", "wr SIRBP 0x7001",
        "wr SINT0 0xf3", "wr SINT5 0x800f3",
    ];
    assert_eq!(vp.take_log(), init);
    claims.exit(&mut vp).unwrap();
    #[rustfmt::skip]
    let exit = [
        "rd SINT0", "wr SINT0 0x100f3",
        "rd SINT5", "wr SINT5 0x900f3",
        "rd SIRBP", "wr SIRBP 0x0", "release 0x7000",
        "release 0x6000", "release 0x5000",
    ];
    assert_eq!(vp.take_log(), exit);
}

#[test]
fn mshv_of_the_seed_on_l1vh_maps_the_ring_it_is_given_and_keeps_its_address() {
    let (mut vp, _vmbus) = l1vh(Seed);
    vp.plain.sirbp = 0xA_3000;
    let claims = mshv(Role::L1vh, Seed).init(&mut vp).unwrap();
    let init = vp.take_log();
    assert_eq!(
        init[4..7],
        ["rd SIRBP", "map SIRBP 0xa3000", "wr SIRBP 0xa3001"]
    );
    claims.exit(&mut vp).unwrap();
    assert_eq!(vp.plain.sirbp, 0xA_3000);
}

#[test]
fn mshv_init_and_exit_on_root_switch_everything_scontrol_last() {
    for criterion in CRITERIA {
        let mut vp = root();
        let claims = mshv(Role::Root, criterion).init(&mut vp).unwrap();
        #[rustfmt::skip]
        let init = [
            "rd SIMP", "wr SIMP 0xa1001", "map SIMP 0xa1000",
            "rd SIEFP", "wr SIEFP 0xa2001", "map SIEFP 0xa2000",
            "rd SIRBP", "map SIRBP 0xa3000", "wr SIRBP 0xa3001",
            "wr SINT0 0xf3", "wr SINT5 0x800f3",
            "rd SCONTROL", "wr SCONTROL 0x1",
        ];
        assert_eq!(vp.take_log(), init);
        claims.exit(&mut vp).unwrap();
        #[rustfmt::skip]
        let exit = [
            "rd SINT0", "wr SINT0 0x100f3",
            "rd SINT5", "wr SINT5 0x900f3",
            "rd SIRBP", "wr SIRBP 0xa3000", "release 0xa3000",
            "release 0xa2000", "rd SIEFP", "wr SIEFP 0xa2000",
            "rd SIMP", "wr SIMP 0xa1000", "release 0xa1000",
            "rd SCONTROL", "wr SCONTROL 0x0",
        ];
        assert_eq!(vp.take_log(), exit);
    }
}

#[test]
fn mshv_init_on_nested_root_enables_plain_pages_in_the_seed_but_not_since_7_2() {
    let mut vp = FakeVp::new(Role::NestedRoot, Seed);
    let _seed = mshv(Role::NestedRoot, Seed).init(&mut vp).unwrap();
    assert_eq!((vp.plain.simp, vp.plain.scontrol), (0xA_1001, 1));

    let mut vp = FakeVp::new(Role::NestedRoot, Linux72);
    let claims = mshv(Role::NestedRoot, Linux72).init(&mut vp).unwrap();
    let init = vp.take_log();
    let written = ["wr SIRBP 0xa3001", "wr SINT0 0xf3", "wr SINT5 0x800f3"];
    assert_eq!(writes(&init), written);
    assert_eq!(claims.page(Page::Message), Some(&0xA_1000));
}

#[test]
fn mshv_init_with_auto_eoi_sets_it_on_both_sints() {
    let (mut vp, _vmbus) = l1vh(Linux72);
    let driver = mshv(Role::L1vh, Linux72).with_interrupt(0xF3, true);
    let _claims = driver.init(&mut vp).unwrap();
    assert_eq!((vp.plain.sints[0], vp.plain.sints[5]), (0x200F3, 0xA00F3));
}

#[test]
fn driver_without_a_place_in_the_role_touches_nothing() {
    for (owner, role) in [(Owner::Mshv, Role::Guest), (Owner::VmBus, Role::Root)] {
        let mut vp = FakeVp::new(role, Linux72);
        let claims = Driver::new(owner, role, Linux72).init(&mut vp).unwrap();
        assert!(claims.is_empty());
        assert!(vp.log.is_empty(), "{:?}", vp.log);
    }
}

#[test]
fn vp_hotplug_runs_the_same_init_again() {
    let (mut vp, vmbus_claims) = l1vh(Linux72);
    let driver = mshv(Role::L1vh, Linux72);
    driver.init(&mut vp).unwrap().exit(&mut vp).unwrap();
    vmbus_claims.exit(&mut vp).unwrap();
    assert!(vp.in_use.is_empty());

    let _vmbus = vmbus(Role::L1vh).init(&mut vp).unwrap();
    let claims = driver.init(&mut vp).unwrap();
    let simp = PageRegister::from(vp.plain.simp);
    assert_eq!(claims.page(Page::Message), Some(&simp.gpa()));
    assert_eq!(vp.violations, []);
}

#[test]
fn mshv_init_after_vmbus_refused_the_offline_restores_what_it_gave_up() {
    let (mut vp, _vmbus) = l1vh(Linux72);
    let driver = mshv(Role::L1vh, Linux72);
    let first = driver.init(&mut vp).unwrap();
    let before = (vp.plain.sints, vp.plain.simp, vp.plain.scontrol);
    first.exit(&mut vp).unwrap();
    let again = driver.init(&mut vp).unwrap();
    assert_eq!((vp.plain.sints, vp.plain.simp, vp.plain.scontrol), before);
    assert_eq!(again.page(Page::EventRing), Some(&0x8000), "a new ring");
}

#[test]
fn claims_of_one_vp_say_nothing_about_another() {
    let (mut first, _vmbus) = l1vh(Linux72);
    let (mut second, _other_vmbus) = l1vh(Linux72);
    let driver = mshv(Role::L1vh, Linux72);
    let first_claims = driver.init(&mut first).unwrap();
    let second_claims = driver.init(&mut second).unwrap();
    first_claims.exit(&mut first).unwrap();
    assert_eq!(second.plain.sints[5], 0x800F3);
    assert!(second_claims.has_switched_on(Register::Sirbp));
}
