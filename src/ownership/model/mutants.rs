// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! Each invariant and each rule, broken on purpose: the model names what breaks, and nothing else.
//!
//! One VP is enough for these.

use super::super::{Criterion, Driver, Owner, Role, ViolationKind, driver::flaw::Flaw};
use super::parent::Parent;
use super::properties::{I1, I2, I3, I4, I5, I6, I7, LOUD, QUIET};
use super::visit;
use std::collections::BTreeSet;

fn one_vp() -> Parent {
    Parent::new(Role::L1vh, 1, Criterion::Linux72)
}

fn with_vmbus(flaw: Flaw) -> Parent {
    let sound = one_vp();
    Parent {
        vmbus: sound.vmbus.with_flaw(flaw),
        ..sound
    }
}

fn with_mshv(flaw: Flaw) -> Parent {
    let sound = one_vp();
    Parent {
        mshv: sound.mshv.with_flaw(flaw),
        ..sound
    }
}

/// VMBus's hotplug callback runs before MSHV's.
fn vmbus_first() -> Parent {
    Parent {
        leaves_first: Owner::VmBus,
        ..one_vp()
    }
}

#[track_caller]
fn expect(model: Parent, broken: &[&'static str]) {
    let (_, seen, _) = visit(model);
    assert_eq!(seen, broken.iter().copied().collect::<BTreeSet<_>>());
}

#[test]
fn model_of_one_vp_when_nothing_is_wrong_finds_nothing() {
    expect(one_vp(), &[]);
}

#[test]
fn mshv_that_enables_simp_when_vmbus_has_breaks_i1() {
    expect(with_mshv(Flaw::HandsOn), &[I1]);
}

#[test]
fn vmbus_that_clears_scontrol_when_siefp_is_on_breaks_i2_and_i3() {
    expect(with_vmbus(Flaw::ScontrolTooEarly), &[I2, I3]);
}

#[test]
fn vmbus_that_leaves_scontrol_when_it_goes_breaks_i3() {
    expect(with_vmbus(Flaw::ScontrolNever), &[I3]);
}

#[test]
fn vmbus_that_disables_simp_when_sint2_is_unmasked_breaks_i4() {
    expect(with_vmbus(Flaw::PageBeforeMask), &[I4]);
}

#[test]
fn mshv_that_disables_the_ring_when_sint5_is_unmasked_breaks_i4() {
    expect(with_mshv(Flaw::RingBeforeMask), &[I4]);
}

#[test]
fn mshv_that_frees_the_ring_when_sirbp_is_on_breaks_i5() {
    expect(with_mshv(Flaw::FreeBeforeOff), &[I5]);
}

#[test]
fn driver_that_keeps_the_address_when_it_frees_the_page_breaks_i5_and_i6() {
    expect(with_vmbus(Flaw::KeepsBase), &[I5, I6]);
    expect(with_mshv(Flaw::KeepsBase), &[I5, I6]);
}

#[test]
fn mshv_that_forgets_sint0_when_its_init_fails_breaks_i6() {
    expect(with_mshv(Flaw::UndoForgets), &[I6]);
}

#[test]
fn mshv_that_undoes_all_when_its_init_fails_breaks_i6() {
    expect(with_mshv(Flaw::UndoesUnasked), &[I6]);
}

#[test]
fn vmbus_that_leaves_when_mshv_has_not_breaks_i7_and_what_follows_from_it() {
    expect(vmbus_first(), &[I2, I3, I7]);
}

/// MSHV as it was before it knew of VMBus: it takes the SynIC of an L1VH for a root's.
#[test]
fn mshv_of_old_when_it_is_on_an_l1vh_breaks_what_the_rules_were_made_for() {
    let mshv = Driver::new(Owner::Mshv, Role::Root, Criterion::Linux72);
    let model = Parent { mshv, ..one_vp() };
    expect(model, &[I1, I2, I3, I4, I6]);
}

#[test]
fn rules_that_cover_bring_up_when_scontrol_is_off_raise_false_alarms() {
    let sound = one_vp();
    let rules = sound.rules.strict_bring_up(true);
    expect(Parent { rules, ..sound }, &[QUIET]);
}

#[test]
fn rules_without_the_wrong_order_when_the_guest_crashes_miss_it() {
    let deaf_to = |kind| matches!(kind, ViolationKind::VmBusLeftFirst);
    let sound = one_vp();
    expect(Parent { deaf_to, ..sound }, &[LOUD]);
}

#[test]
fn rules_without_disabled_pages_when_simp_goes_too_early_miss_it() {
    let deaf_to = |kind| matches!(kind, ViolationKind::PageDisabled(_));
    let flawed = with_vmbus(Flaw::PageBeforeMask);
    expect(Parent { deaf_to, ..flawed }, &[I4, LOUD]);
}

#[test]
fn rules_without_rewritten_pages_when_mshv_enables_simp_miss_it() {
    let deaf_to = |kind| matches!(kind, ViolationKind::PageRewritten(_));
    let flawed = with_mshv(Flaw::HandsOn);
    expect(Parent { deaf_to, ..flawed }, &[I1, LOUD]);
}

#[test]
fn rules_without_use_when_scontrol_goes_too_early_miss_it() {
    let deaf_to = |kind| matches!(kind, ViolationKind::OffWhileInUse);
    let flawed = with_vmbus(Flaw::ScontrolTooEarly);
    expect(Parent { deaf_to, ..flawed }, &[I2, I3, LOUD]);
}

#[test]
fn rules_without_writes_while_off_when_vmbus_leaves_first_miss_them() {
    let deaf_to = |kind| matches!(kind, ViolationKind::WriteWhileOff);
    let flawed = vmbus_first();
    expect(Parent { deaf_to, ..flawed }, &[I2, I3, I7, LOUD]);
}
