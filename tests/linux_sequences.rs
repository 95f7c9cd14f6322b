// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! Linux's VMBus and MSHV drivers on the manager: no false alarm, and no harm where there is one.

use vm_synic::abi::Register::{Scontrol, Siefp, Simp, Sirbp};
use vm_synic::ownership::Owner::{Mshv, VmBus};
use vm_synic::ownership::SynicPage::{EventFlags, Message as MessagePage};
use vm_synic::ownership::ViolationKind::{
    OffWhileInUse, PageDisabled, VmBusLeftFirst, WriteWhileOff,
};
use vm_synic::test_utils::MockVm;
use vm_synic::{
    Config, Criterion, Message, MessageType, MsrError, Role, SintAddr, SintIndex, ViolationPolicy,
};

mod linux;

use linux::{
    CRITERIA, Guest, SINT0, SINT2, SINT5, VP, check_mshv, check_vmbus, config, ledger, violations,
    vm, writes,
};

/// An L1VH's VP with both drivers up, as Linux 7.2 has them.
fn l1vh(violations: ViolationPolicy) -> (MockVm, Guest) {
    let vm = vm(Config {
        violations,
        ..config(Role::L1vh, Criterion::Linux72)
    });
    let mut guest = vm.guest(VP);
    guest.load(VmBus).unwrap();
    guest.load(Mshv).unwrap();
    (vm, guest)
}

#[test]
fn vmbus_on_a_guest_comes_and_goes_in_linux_order_without_a_violation() {
    let vm = vm(config(Role::Guest, Criterion::Linux72));
    let mut guest = vm.guest(VP);
    guest.load(VmBus).unwrap();
    check_vmbus(&vm, &guest);
    let [simp, siefp] = [MessagePage, EventFlags].map(|page| guest.page(page));
    guest.unload(VmBus).unwrap();
    #[rustfmt::skip]
    let expected = [
        (Simp, simp | 1), (Siefp, siefp | 1), (SINT2, 0xF3), (Scontrol, 1),
        (SINT2, 0x1_00F3), (Simp, 0), (Siefp, 0), (Scontrol, 0),
    ];
    assert_eq!(writes(&ledger(&vm, VP)), expected);
    assert_eq!(violations(&vm), []);
    let addr = SintAddr::new(VP, SintIndex::VMBUS);
    let message = Message::new(MessageType::VMBUS, &[]).unwrap();
    assert!(vm.manager.post_message(addr, &message).is_err());
    guest.check_freed_pages();
}

#[test]
fn both_drivers_on_an_l1vh_come_and_go_without_a_violation() {
    for criterion in CRITERIA {
        for scontrol_at_reset in [false, true] {
            let vm = vm(Config {
                scontrol_at_reset,
                ..config(Role::L1vh, criterion)
            });
            let mut guest = vm.guest(VP);
            guest.load(VmBus).unwrap();
            guest.load(Mshv).unwrap();
            check_vmbus(&vm, &guest);
            check_mshv(&vm, &mut guest);
            guest.unload(Mshv).unwrap();
            check_vmbus(&vm, &guest);
            guest.unload(VmBus).unwrap();
            assert_eq!(violations(&vm), [], "{criterion:?} {scontrol_at_reset}");
            guest.check_freed_pages();
        }
    }
}

#[test]
fn mshv_on_a_root_comes_and_goes_without_a_violation_and_keeps_the_provided_pages() {
    for criterion in CRITERIA {
        let vm = vm(config(Role::Root, criterion));
        let mut guest = vm.guest(VP);
        for _ in 0..2 {
            guest.load(VmBus).unwrap();
            guest.load(Mshv).unwrap();
            check_mshv(&vm, &mut guest);
            guest.unload(Mshv).unwrap();
            guest.unload(VmBus).unwrap();
        }
        let left = [Simp, Siefp, Sirbp, Scontrol].map(|register| guest.get(register));
        assert_eq!(left, [0x1000, 0x2000, 0x3000, 0]);
        assert_eq!(violations(&vm), [], "{criterion:?}");
    }
}

#[test]
fn nested_root_has_vmbus_on_the_nested_bank_and_mshv_on_the_plain_one() {
    let vm = vm(Config {
        nested: true,
        ..config(Role::NestedRoot, Criterion::Seed)
    });
    for (msr, base) in [(0x4000_1083, 0x7000), (0x4000_1082, 0x8000)] {
        vm.manager.write_msr(VP, msr, base).unwrap();
    }
    let mut guest = vm.guest(VP);
    guest.load(VmBus).unwrap();
    guest.load(Mshv).unwrap();
    check_mshv(&vm, &mut guest);
    let nested = SintAddr::new(VP, SintIndex::VMBUS).nested();
    let message = Message::new(MessageType::VMBUS, &[]).unwrap();
    vm.manager.post_message(nested, &message).unwrap();
    guest.unload(Mshv).unwrap();
    guest.unload(VmBus).unwrap();
    assert_eq!(violations(&vm), []);
}

#[test]
fn mshv_that_is_reloaded_again_and_again_disturbs_vmbus_never() {
    let (vm, mut guest) = l1vh(ViolationPolicy::Fault);
    for _ in 0..10 {
        check_vmbus(&vm, &guest);
        check_mshv(&vm, &mut guest);
        guest.unload(Mshv).unwrap();
        check_vmbus(&vm, &guest);
        guest.check_freed_pages();
        guest.load(Mshv).unwrap();
    }
    assert_eq!(violations(&vm), []);
}

#[test]
fn cpu_that_goes_offline_and_comes_back_has_both_drivers_again() {
    let (vm, mut guest) = l1vh(ViolationPolicy::Fault);
    for _ in 0..3 {
        check_mshv(&vm, &mut guest);
        guest.unload(Mshv).unwrap();
        guest.unload(VmBus).unwrap();
        guest.forget_tails();
        guest.load(VmBus).unwrap();
        guest.load(Mshv).unwrap();
        check_vmbus(&vm, &guest);
    }
    // VMBus may refuse to let the CPU go after MSHV has left; MSHV then comes back.
    guest.unload(Mshv).unwrap();
    guest.load(Mshv).unwrap();
    check_mshv(&vm, &mut guest);
    assert_eq!(violations(&vm), []);
}

#[test]
fn kexec_leaves_in_linux_order_and_the_next_kernel_has_a_synic() {
    let (vm, mut guest) = l1vh(ViolationPolicy::Fault);
    guest.wrmsr(0x4000_0000, 0x8100_0007_020D_0000).unwrap();
    check_mshv(&vm, &mut guest);
    guest.unload(Mshv).unwrap();
    // VMBus waits for the answer to its UNLOAD.
    check_vmbus(&vm, &guest);
    guest.unload(VmBus).unwrap();
    guest.wrmsr(0x4000_0000, 0).unwrap();

    let mut next = vm.guest(VP);
    next.load(VmBus).unwrap();
    next.load(Mshv).unwrap();

    check_vmbus(&vm, &next);
    check_mshv(&vm, &mut next);
    assert_eq!(violations(&vm), []);
}

#[test]
fn crash_under_mshv_is_reported_and_the_crash_kernel_has_a_synic_whatever_the_policy() {
    for (policy, outcome) in [
        (ViolationPolicy::Observe, Ok(())),
        (ViolationPolicy::Refuse, Ok(())),
        (ViolationPolicy::Fault, Err(MsrError::Fault)),
    ] {
        let (vm, guest) = l1vh(policy);
        let before = [Simp, Siefp].map(|register| guest.get(register));
        guest.mask(SintIndex::VMBUS);
        assert_eq!([Simp, Siefp].map(|page| guest.set(page, 0)), [outcome; 2]);
        let after = [Simp, Siefp].map(|register| guest.get(register));
        assert_eq!(after == before, policy != ViolationPolicy::Observe);
        let mut crash_kernel = vm.guest(VP);
        crash_kernel.load(VmBus).unwrap();
        check_vmbus(&vm, &crash_kernel);
        let pages = [(VmBusLeftFirst, Simp), (VmBusLeftFirst, Siefp)];
        assert_eq!(violations(&vm), pages, "{policy:?}");
    }
}

/// What MSHV did at its exit before it knew of VMBus: it switched off all there is.
fn old_mshv_exit(guest: &Guest) -> Vec<Result<(), MsrError>> {
    let off = |register| guest.set(register, guest.get(register) & !1);
    guest.mask(SintIndex::INTERCEPT);
    guest.mask(SintIndex::DOORBELL);
    [Sirbp, Siefp, Simp, Scontrol].map(off).to_vec()
}

#[test]
fn old_mshv_exit_that_is_observed_is_flagged_write_by_write_and_vmbus_is_deaf() {
    let (vm, mut guest) = l1vh(ViolationPolicy::Observe);
    assert_eq!(old_mshv_exit(&guest), [Ok(()); 4]);
    let addr = SintAddr::new(VP, SintIndex::VMBUS);
    let message = Message::new(MessageType::VMBUS, &[]).unwrap();
    assert!(vm.manager.post_message(addr, &message).is_err());
    guest.unload(VmBus).unwrap();

    let disabled = PageDisabled(SintIndex::VMBUS);
    #[rustfmt::skip]
    let expected = [
        (disabled, Siefp), (disabled, Simp), (OffWhileInUse, Scontrol),
        (WriteWhileOff, SINT2), (WriteWhileOff, Simp), (WriteWhileOff, Siefp),
    ];
    assert_eq!(violations(&vm), expected);
    let entries = vm.manager.snapshot().vps[0].violations.clone();
    let blamed = entries.iter().map(|entry| entry.violation.unwrap());
    let blamed = blamed.map(|violation| (violation.writer, violation.victim));
    let by_mshv = (Some(Mshv), Some(VmBus));
    assert_eq!(blamed.take(3).collect::<Vec<_>>(), [by_mshv; 3]);
}

#[test]
fn old_mshv_exit_that_is_refused_is_flagged_and_vmbus_works_on() {
    let (vm, mut guest) = l1vh(ViolationPolicy::Refuse);
    let before = [Siefp, Simp, Scontrol].map(|register| guest.get(register));
    assert_eq!(old_mshv_exit(&guest), [Ok(()); 4], "the guest is not told");
    let after = [Siefp, Simp, Scontrol].map(|register| guest.get(register));
    assert_eq!(after, before);
    assert_eq!(violations(&vm).len(), 3);
    check_vmbus(&vm, &guest);
    guest.unload(VmBus).unwrap();
    assert_eq!(guest.get(Scontrol), 0);
    assert_eq!(violations(&vm).len(), 3);
}

#[test]
fn old_mshv_exit_that_faults_is_flagged_and_vmbus_works_on() {
    let (vm, guest) = l1vh(ViolationPolicy::Fault);
    let fault = Err(MsrError::Fault);
    assert_eq!(old_mshv_exit(&guest), [Ok(()), fault, fault, fault]);
    assert_eq!(violations(&vm).len(), 3);
    check_vmbus(&vm, &guest);
}

#[test]
fn ledger_says_who_was_entitled_to_each_write() {
    let (vm, _guest) = l1vh(ViolationPolicy::Observe);
    let ledger = ledger(&vm, VP);
    let owners = ledger
        .iter()
        .map(|entry| (entry.register.register, entry.owner));
    #[rustfmt::skip]
    let expected = [
        (Simp, Some(VmBus)), (Siefp, Some(VmBus)), (SINT2, Some(VmBus)), (Scontrol, Some(VmBus)),
        (Sirbp, Some(Mshv)), (SINT0, Some(Mshv)), (SINT5, Some(Mshv)),
    ];
    assert_eq!(owners.collect::<Vec<_>>(), expected);
}
