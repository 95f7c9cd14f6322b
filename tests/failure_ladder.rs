// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! MSHV's init fails at each of its steps: it undoes its own and nothing else (Linux
//! `mshv_synic_cpu_init`), and whoever was there works on.

use vm_synic::abi::Register::{self, Scontrol, Siefp, Simp, Sirbp};
use vm_synic::ownership::Action;
use vm_synic::ownership::Owner::{Mshv, VmBus};
use vm_synic::ownership::SynicPage::{self, EventFlags, EventRing, Message as MessagePage};
use vm_synic::test_utils::MockVm;
use vm_synic::{Criterion, ProvidedPages, RegisterId, Role, VpIndex};

mod linux;

use linux::{
    CRITERIA, Guest, SINT0, SINT2, SINT5, VP, check_mshv, check_vmbus, config, ledger, violations,
    vm, writes,
};

/// The registers that MSHV must leave as they were when its init fails.
fn registers(guest: &Guest) -> [u64; 7] {
    [Scontrol, Simp, Siefp, Sirbp, SINT0, SINT2, SINT5].map(|register| guest.get(register))
}

/// MSHV's init fails at `page` on the second VP, and is undone on the first as Linux's CPU hotplug
/// does. Gives what was written on the second.
fn fail_on_the_second_vp(vm: &MockVm, page: SynicPage) -> Vec<(Register, u64)> {
    let mut guests = [VP, VpIndex::new(1)].map(|vp| vm.guest(vp));
    guests
        .iter_mut()
        .for_each(|guest| guest.load(VmBus).unwrap());
    let [first, second] = &mut guests;
    first.load(Mshv).unwrap();
    let before = registers(second);
    let seen = ledger(vm, second.vp()).len();

    second.refuse_page(Some(page));
    let failure = second.load(Mshv).unwrap_err();

    let failed_at = [Action::Map(page), Action::Allocate(page)];
    assert!(failed_at.contains(&failure.action), "{failure}");
    assert!(failure.left.is_empty());
    assert_eq!(registers(second), before);
    let written = writes(&ledger(vm, second.vp())[seen..]);
    first.unload(Mshv).unwrap();
    check_after_failure(vm, &mut guests);
    written
}

/// Nobody has done harm: VMBus hears, and the next try succeeds.
fn check_after_failure(vm: &MockVm, guests: &mut [Guest]) {
    for guest in guests {
        guest.check_freed_pages();
        guest.refuse_page(None);
        if vm.manager.config().role == Role::L1vh {
            check_vmbus(vm, guest);
        }
        guest.load(Mshv).unwrap();
        check_mshv(vm, guest);
    }
    assert_eq!(violations(vm), []);
}

#[test]
fn failed_mshv_init_on_an_l1vh_writes_no_register_at_all() {
    for criterion in CRITERIA {
        for page in [MessagePage, EventFlags, EventRing] {
            let vm = vm(config(Role::L1vh, criterion));
            assert_eq!(fail_on_the_second_vp(&vm, page), [], "{criterion:?} {page}");
        }
    }
}

#[test]
fn failed_mshv_init_on_a_root_takes_back_what_it_enabled_in_linux_order() {
    let [simp_on, simp_off] = [(Simp, 0x4001), (Simp, 0x4000)];
    let [siefp_on, siefp_off] = [(Siefp, 0x5001), (Siefp, 0x5000)];
    let all = vec![simp_on, siefp_on, siefp_off, simp_off];
    let ladder = [
        (MessagePage, vec![simp_on, simp_off]),
        (EventFlags, all.clone()),
        (EventRing, all),
    ];
    for criterion in CRITERIA {
        for (page, expected) in &ladder {
            let vm = vm(config(Role::Root, criterion));
            assert_eq!(fail_on_the_second_vp(&vm, *page), *expected, "{page}");
        }
    }
}

#[test]
fn mshv_init_on_a_root_whose_page_is_not_ram_fails_at_the_write_and_undoes_the_others() {
    let vm = MockVm::new(config(Role::Root, Criterion::Linux72), 1);
    let pages = ProvidedPages {
        simp: 0x1000,
        siefp: 1 << 40,
        sirbp: 0x3000,
    };
    vm.manager.provide_pages(VP, pages).unwrap();
    let mut guest = vm.guest(VP);
    let failure = guest.load(Mshv).unwrap_err();
    assert_eq!(failure.action, Action::Write(RegisterId::plain(Siefp)));
    assert_eq!(guest.get(Simp), 0x1000);
    assert_eq!(guest.get(Scontrol), 0);
    assert_eq!(violations(&vm), []);
}
