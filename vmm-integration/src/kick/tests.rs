// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! Kicks of a vCPU on a real KVM. The guest exits all the time, so that a lost kick shows as
//! another exit than EINTR and not as a test that hangs.

use super::*;
use crate::vm::tests::{EXITING_GUEST, vm_with};

/// Runs `act` with a vCPU whose thread is the test's; does nothing but say so where there is no
/// KVM.
fn with_vcpu(act: impl FnOnce(&Kicker, &Attached<'_>, &mut VcpuFd)) {
    let Some(vm) = vm_with(EXITING_GUEST) else {
        return;
    };
    let (mut vcpus, _memory) = vm.into_vcpus();
    let mut vcpu = vcpus.swap_remove(0);
    let kicker = Kicker::default();
    let attached = kicker.attach(&mut vcpu);
    act(&kicker, &attached, &mut vcpu);
}

fn is_interrupted(vcpu: &mut VcpuFd) -> bool {
    matches!(vcpu.run(), Err(e) if e.errno() == libc::EINTR)
}

fn kick_from_another_thread(kicker: &Kicker) {
    std::thread::scope(|scope| scope.spawn(|| kicker.kick()).join()).unwrap();
}

#[test]
fn kick_when_the_vcpu_has_looked_for_work_interrupts_its_next_run() {
    with_vcpu(|kicker, attached, vcpu| {
        attached.rearm(vcpu);
        kick_from_another_thread(kicker);
        assert!(is_interrupted(vcpu));
    });
}

#[test]
fn kick_by_its_own_thread_interrupts_the_next_run() {
    with_vcpu(|kicker, attached, vcpu| {
        attached.rearm(vcpu);
        kicker.kick();
        assert!(is_interrupted(vcpu));
    });
}

#[test]
fn kick_when_the_own_thread_has_kicked_before_is_not_taken_for_done() {
    with_vcpu(|kicker, attached, vcpu| {
        attached.rearm(vcpu);
        kicker.kick();
        assert!(is_interrupted(vcpu));
        // Not rearmed: the flag alone is reset, as if the own kick had come before the look.
        vcpu.set_kvm_immediate_exit(0);
        kick_from_another_thread(kicker);
        assert!(is_interrupted(vcpu));
    });
}
