// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! Each way to break a rule, and its nearest neighbour that does not.

use super::*;
use crate::ownership::{Claims, Driver, fake::FakeVp};
use Criterion::{Linux72, Seed};
use Owner::{Mshv, VmBus};
use ViolationKind::{OffWhileInUse, PageDisabled, PageRewritten, VmBusLeftFirst, WriteWhileOff};

const SINT0: Register = Register::Sint(SintIndex::INTERCEPT);
pub(super) const SINT2: Register = Register::Sint(SintIndex::VMBUS);
const SINT5: Register = Register::Sint(SintIndex::DOORBELL);
pub(super) const ALL_ROLES: [Role; 4] = [Role::Guest, Role::L1vh, Role::Root, Role::NestedRoot];

pub(super) fn init(vp: &mut FakeVp, owner: Owner, role: Role, criterion: Criterion) -> Claims<u64> {
    Driver::new(owner, role, criterion).init(vp).unwrap()
}

/// An L1VH's VP with both drivers up.
pub(super) fn both_up() -> (FakeVp, Claims<u64>, Claims<u64>) {
    let mut vp = FakeVp::new(Role::L1vh, Linux72);
    let vmbus = init(&mut vp, VmBus, Role::L1vh, Linux72);
    let mshv = init(&mut vp, Mshv, Role::L1vh, Linux72);
    (vp, vmbus, mshv)
}

/// A root's VP with MSHV up.
fn root_up() -> (FakeVp, Claims<u64>) {
    let mut vp = FakeVp::new(Role::Root, Linux72);
    let mshv = init(&mut vp, Mshv, Role::Root, Linux72);
    (vp, mshv)
}

/// Kind, register, writer, victim of each violation so far, oldest first; forgets them.
#[track_caller]
pub(super) fn expect(vp: &mut FakeVp, want: &[(ViolationKind, Register, Option<Owner>, Owner)]) {
    let seen = std::mem::take(&mut vp.violations);
    let want = want
        .iter()
        .map(|&(kind, register, writer, victim)| Violation {
            kind,
            register: RegisterId::plain(register),
            writer,
            victim: Some(victim),
        });
    assert_eq!(seen, want.collect::<Vec<_>>());
}

#[test]
fn mshv_init_of_old_on_l1vh_rewrites_pages_under_vmbus() {
    let mut vp = FakeVp::new(Role::L1vh, Linux72);
    let _vmbus = init(&mut vp, VmBus, Role::L1vh, Linux72);
    vp.poke(Register::Simp, 0x5001);
    vp.poke(Register::Siefp, 0x9001);
    vp.poke(Register::Scontrol, 1);
    let rewritten = PageRewritten(SintIndex::VMBUS);
    expect(
        &mut vp,
        &[
            (rewritten, Register::Simp, Some(Mshv), VmBus),
            (rewritten, Register::Siefp, Some(Mshv), VmBus),
        ],
    );
}

#[test]
fn mshv_exit_of_old_on_l1vh_takes_the_synic_from_vmbus_whose_cleanup_is_not_tolerated() {
    let (mut vp, vmbus, _mshv) = both_up();
    vp.poke(SINT0, 0x100F3);
    vp.poke(SINT5, 0x900F3);
    vp.poke(Register::Sirbp, 0);
    expect(&mut vp, &[]);

    vp.poke(Register::Siefp, 0x6000);
    vp.poke(Register::Simp, 0x5000);
    vp.poke(Register::Scontrol, 0);
    let disabled = PageDisabled(SintIndex::VMBUS);
    expect(
        &mut vp,
        &[
            (disabled, Register::Siefp, Some(Mshv), VmBus),
            (disabled, Register::Simp, Some(Mshv), VmBus),
            (OffWhileInUse, Register::Scontrol, Some(Mshv), VmBus),
        ],
    );

    vmbus.exit(&mut vp).unwrap();
    let writer = Some(VmBus);
    expect(
        &mut vp,
        &[
            (WriteWhileOff, SINT2, writer, VmBus),
            (WriteWhileOff, Register::Simp, writer, VmBus),
            (WriteWhileOff, Register::Siefp, writer, VmBus),
        ],
    );
}

#[test]
fn scontrol_cleared_by_mshv_alone_is_last_one_out() {
    let (mut vp, _vmbus, mshv) = both_up();
    mshv.exit(&mut vp).unwrap();
    vp.poke(Register::Scontrol, 0);
    let want = (OffWhileInUse, Register::Scontrol, Some(Mshv), VmBus);
    expect(&mut vp, &[want]);
}

#[test]
fn scontrol_cleared_with_both_up_is_somebodys() {
    let (mut vp, _vmbus, _mshv) = both_up();
    vp.poke(Register::Scontrol, 0);
    expect(&mut vp, &[(OffWhileInUse, Register::Scontrol, None, VmBus)]);

    vp.poke(Register::Scontrol, 0);
    expect(&mut vp, &[]);
}

#[test]
fn vmbus_that_leaves_before_mshv_is_reported_and_so_is_mshv_cleanup() {
    let (mut vp, vmbus, mshv) = both_up();
    vmbus.exit(&mut vp).unwrap();
    let left = |register| (VmBusLeftFirst, register, Some(VmBus), Mshv);
    let pages_then_scontrol = [Register::Simp, Register::Siefp, Register::Scontrol];
    expect(&mut vp, &pages_then_scontrol.map(left));

    mshv.exit(&mut vp).unwrap();
    expect(
        &mut vp,
        &[
            (WriteWhileOff, SINT0, Some(Mshv), Mshv),
            (WriteWhileOff, SINT5, Some(Mshv), Mshv),
            (WriteWhileOff, Register::Sirbp, Some(Mshv), Mshv),
        ],
    );
}

#[test]
fn ring_disabled_under_unmasked_sint5_breaks_mask_first() {
    let (mut vp, _vmbus, _mshv) = both_up();
    vp.poke(Register::Sirbp, 0);
    let doorbell = PageDisabled(SintIndex::DOORBELL);
    expect(&mut vp, &[(doorbell, Register::Sirbp, Some(Mshv), Mshv)]);

    let (mut vp, _vmbus, _mshv) = both_up();
    vp.poke(SINT5, 0x900F3);
    vp.poke(Register::Sirbp, 0);
    expect(&mut vp, &[]);
}

#[test]
fn root_that_disables_a_page_or_scontrol_too_early_hurts_itself() {
    let (mut vp, _mshv) = root_up();
    vp.poke(Register::Simp, 0xA_1000);
    let intercept = PageDisabled(SintIndex::INTERCEPT);
    expect(&mut vp, &[(intercept, Register::Simp, Some(Mshv), Mshv)]);

    let (mut vp, _mshv) = root_up();
    vp.poke(SINT0, 0x100F3);
    vp.poke(SINT5, 0x900F3);
    vp.poke(Register::Scontrol, 0);
    let ring_on = (OffWhileInUse, Register::Scontrol, Some(Mshv), Mshv);
    expect(&mut vp, &[ring_on]);
}

#[test]
fn guest_that_moves_its_own_page_breaks_no_rule() {
    let mut vp = FakeVp::new(Role::Guest, Linux72);
    let _vmbus = init(&mut vp, VmBus, Role::Guest, Linux72);
    vp.poke(Register::Simp, 0x9001);
    expect(&mut vp, &[]);
}

#[test]
fn failed_init_that_takes_a_page_back_before_scontrol_was_set_breaks_no_rule() {
    let mut vp = FakeVp::new(Role::Guest, Linux72);
    vp.refuse("alloc SIEFP");
    let driver = Driver::new(VmBus, Role::Guest, Linux72);
    assert!(driver.init(&mut vp).is_err());
    assert_eq!(vp.log.last().unwrap(), "release 0x5000");
    expect(&mut vp, &[]);
}

#[test]
fn masked_sint_masked_again_while_off_breaks_no_rule() {
    let mut vp = FakeVp::new(Role::Guest, Linux72);
    vp.poke(SINT2, 0x100F3);
    expect(&mut vp, &[]);
}

#[test]
fn guest_that_disables_a_page_or_scontrol_too_early_hurts_itself() {
    let mut vp = FakeVp::new(Role::Guest, Linux72);
    let _vmbus = init(&mut vp, VmBus, Role::Guest, Linux72);
    vp.poke(Register::Siefp, 0);
    vp.poke(Register::Scontrol, 0);
    let disabled = PageDisabled(SintIndex::VMBUS);
    expect(
        &mut vp,
        &[
            (disabled, Register::Siefp, Some(VmBus), VmBus),
            (OffWhileInUse, Register::Scontrol, Some(VmBus), VmBus),
        ],
    );
}

#[test]
fn vmbus_that_clears_scontrol_before_its_pages_is_the_writer_itself() {
    let (mut vp, _vmbus, mshv) = both_up();
    mshv.exit(&mut vp).unwrap();
    vp.poke(SINT2, 0x100F3);
    vp.poke(Register::Scontrol, 0);
    let want = (OffWhileInUse, Register::Scontrol, Some(VmBus), VmBus);
    expect(&mut vp, &[want]);
}

#[test]
fn nested_root_since_7_2_cleans_up_a_plain_synic_that_nobody_switched_on() {
    let mut vp = FakeVp::new(Role::NestedRoot, Linux72);
    let mshv = init(&mut vp, Mshv, Role::NestedRoot, Linux72);
    mshv.exit(&mut vp).unwrap();
    expect(
        &mut vp,
        &[
            (WriteWhileOff, SINT0, Some(Mshv), Mshv),
            (WriteWhileOff, SINT5, Some(Mshv), Mshv),
            (WriteWhileOff, Register::Sirbp, Some(Mshv), Mshv),
        ],
    );

    let mut vp = FakeVp::new(Role::NestedRoot, Linux72);
    (vp.plain.scontrol, vp.plain.simp) = (1, 0xA_1001);
    let mshv = init(&mut vp, Mshv, Role::NestedRoot, Linux72);
    vp.poke(Register::Simp, 0xA_1000);
    let intercept = PageDisabled(SintIndex::INTERCEPT);
    expect(&mut vp, &[(intercept, Register::Simp, Some(Mshv), Mshv)]);
    mshv.exit(&mut vp).unwrap();
    expect(&mut vp, &[]);
}

#[test]
fn banks_are_judged_apart() {
    let mut vp = FakeVp::new(Role::NestedRoot, Seed);
    let vmbus = init(&mut vp, VmBus, Role::NestedRoot, Seed);
    let mshv = init(&mut vp, Mshv, Role::NestedRoot, Seed);
    vmbus.exit(&mut vp).unwrap();
    mshv.exit(&mut vp).unwrap();
    expect(&mut vp, &[]);
}

#[test]
fn nested_page_disabled_under_vmbus_is_vmbus_own_doing_and_named_nested() {
    let mut vp = FakeVp::new(Role::NestedRoot, Seed);
    let _vmbus = init(&mut vp, VmBus, Role::NestedRoot, Seed);
    let violation = vp
        .rules
        .judge(Bank::Nested, &vp.nested, Register::Simp, 0)
        .unwrap();
    let text = "vmbus disabled nested SIMP while SINT2 of vmbus is unmasked";
    assert_eq!(violation.to_string(), text);
}

#[test]
fn bring_up_with_scontrol_off_breaks_a_rule_only_if_strict() {
    let mut vp = FakeVp::new(Role::Guest, Linux72);
    vp.rules = vp.rules.strict_bring_up(true);
    let _vmbus = init(&mut vp, VmBus, Role::Guest, Linux72);
    let writer = Some(VmBus);
    expect(
        &mut vp,
        &[
            (WriteWhileOff, Register::Simp, writer, VmBus),
            (WriteWhileOff, Register::Siefp, writer, VmBus),
            (WriteWhileOff, SINT2, writer, VmBus),
        ],
    );
}

#[test]
fn registers_without_state_are_never_judged() {
    let rules = Rules::new(Role::L1vh, Linux72).strict_bring_up(true);
    let off = SynicView::default();
    for register in [Register::Eom, Register::Sversion, Register::VpIndex] {
        assert_eq!(rules.judge(Bank::Plain, &off, register, u64::MAX), None);
    }
}

/// No value can do more than be judged.
#[test]
fn judge_of_any_register_and_odd_values_never_panics() {
    let values = [0, 1, u64::MAX, 0x10000, 1 << 63, !1];
    for (role, before) in ALL_ROLES.into_iter().flat_map(|r| values.map(|v| (r, v))) {
        let view = SynicView {
            scontrol: before,
            simp: before,
            siefp: before,
            sirbp: before,
            sints: [before; SINT_COUNT],
        };
        let sints = SintIndex::all().map(Register::Sint);
        for register in sints.chain([Register::Scontrol, Register::Simp, Register::Sirbp]) {
            let judged = values
                .map(|value| Rules::new(role, Seed).judge(Bank::Plain, &view, register, value));
            let all_name_it = |v: Violation| v.register == RegisterId::plain(register);
            assert!(judged.into_iter().flatten().all(all_name_it));
        }
    }
}
