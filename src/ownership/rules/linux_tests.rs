// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! What Linux does on a VP from its online to its offline breaks no rule; what it does in a crash
//! or for hibernation takes VMBus away first, and is reported where MSHV is up.

use super::tests::{ALL_ROLES, SINT2, both_up, expect, init};
use super::*;
use crate::ownership::fake::FakeVp;
use Criterion::{Linux72, Seed};
use Owner::{Mshv, VmBus};
use ViolationKind::VmBusLeftFirst;

#[test]
fn linux_init_exit_and_init_again_break_no_rule_whatever_scontrol_is_at_reset() {
    let roles = ALL_ROLES.into_iter();
    for (role, scontrol) in roles.flat_map(|role| [(role, 0), (role, 1)]) {
        let mut vp = FakeVp::new(role, Seed);
        (vp.plain.scontrol, vp.nested.scontrol) = (scontrol, scontrol);
        for _ in 0..2 {
            let vmbus = init(&mut vp, VmBus, role, Seed);
            let mshv = init(&mut vp, Mshv, role, Seed);
            mshv.exit(&mut vp).unwrap();
            vmbus.exit(&mut vp).unwrap();
        }
        assert!(vp.log.iter().any(|access| access.starts_with("wr")));
        assert_eq!(vp.violations, [], "{role:?} {scontrol}");
    }
}

#[test]
fn offline_that_vmbus_refuses_breaks_no_rule() {
    let (mut vp, vmbus, mshv) = both_up();
    mshv.exit(&mut vp).unwrap();
    let mshv = init(&mut vp, Mshv, Role::L1vh, Linux72);
    mshv.exit(&mut vp).unwrap();
    vmbus.exit(&mut vp).unwrap();
    expect(&mut vp, &[]);
}

#[test]
fn kexec_reboot_notifier_then_vmbus_then_next_kernel_breaks_no_rule() {
    let (mut vp, vmbus, mshv) = both_up();
    mshv.exit(&mut vp).unwrap();
    // VMBus is still live: it acknowledges the answer to its UNLOAD.
    vp.poke(Register::Eom, 0);
    vmbus.exit(&mut vp).unwrap();
    let _vmbus = init(&mut vp, VmBus, Role::L1vh, Linux72);
    let _mshv = init(&mut vp, Mshv, Role::L1vh, Linux72);
    expect(&mut vp, &[]);
}

/// What `hv_crash_handler` and `hv_synic_suspend` do: SCONTROL stays on.
fn vmbus_half_off(vp: &mut FakeVp) {
    vp.poke(SINT2, 0x100F3);
    vp.poke(Register::Simp, 0);
    vp.poke(Register::Siefp, 0);
}

/// What is reported of it while MSHV is up.
fn expect_left_first(vp: &mut FakeVp) {
    let left = |register| (VmBusLeftFirst, register, Some(VmBus), Mshv);
    expect(vp, &[left(Register::Simp), left(Register::Siefp)]);
}

#[test]
fn crash_with_mshv_up_is_reported_and_the_crash_kernel_is_not() {
    let (mut vp, _vmbus, _mshv) = both_up();
    vmbus_half_off(&mut vp);
    expect_left_first(&mut vp);
    let _crash_kernel = init(&mut vp, VmBus, Role::L1vh, Linux72);
    expect(&mut vp, &[]);
}

#[test]
fn crash_kernel_that_finds_the_pages_on_because_the_switch_off_was_refused_moves_them() {
    let (mut vp, _vmbus, _mshv) = both_up();
    vp.poke(SINT2, 0x100F3);
    let _crash_kernel = init(&mut vp, VmBus, Role::L1vh, Linux72);
    assert_eq!((vp.plain.simp, vp.plain.siefp), (0x8001, 0x9001));
    expect(&mut vp, &[]);
}

#[test]
fn crash_after_mshv_has_left_or_before_it_came_breaks_no_rule() {
    let (mut vp, _vmbus, mshv) = both_up();
    mshv.exit(&mut vp).unwrap();
    vmbus_half_off(&mut vp);
    expect(&mut vp, &[]);

    let mut vp = FakeVp::new(Role::L1vh, Linux72);
    let _vmbus = init(&mut vp, VmBus, Role::L1vh, Linux72);
    vmbus_half_off(&mut vp);
    expect(&mut vp, &[]);
}

#[test]
fn crash_with_one_of_mshvs_sints_masked_is_still_reported() {
    let (mut vp, _vmbus, _mshv) = both_up();
    vp.poke(Register::Sint(SintIndex::INTERCEPT), 0x100F3);
    vmbus_half_off(&mut vp);
    expect_left_first(&mut vp);
}

#[test]
fn hibernation_with_mshv_up_is_reported_and_the_resume_is_not() {
    let (mut vp, vmbus, mshv) = both_up();
    vmbus_half_off(&mut vp);
    expect_left_first(&mut vp);
    vp.poke(Register::Simp, 0x5001);
    vp.poke(Register::Siefp, 0x6001);
    vp.poke(SINT2, 0xF3);
    mshv.exit(&mut vp).unwrap();
    vmbus.exit(&mut vp).unwrap();
    expect(&mut vp, &[]);
}
