// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! Small guests on a real KVM.

use std::arch::global_asm;
use std::io::{self, Write};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{self, Sender};
use std::time::Duration;

use vm_synic::{Host, SintAddr, SintIndex, SintInterrupt};

use super::*;
use crate::backend::{Irqchip, Wish};
use crate::devices::{DebugExit, PortWrite, Power};
use crate::elf::tests::elf;
use crate::enlightenments::Enlightenments;

const BASE: u64 = 0x40_0000;
const TIMEOUT: Option<Duration> = Some(Duration::from_secs(60));
const AUTO_EOI_VECTOR: u8 = 0xb3;
const LAST_VECTOR: u8 = 0x31;
const ROUNDS: u32 = 1000;
/// OUT 0x80, AL; JMP back to it.
pub const EXITING_GUEST: &[u8] = &[0xe6, 0x80, 0xeb, 0xfc];

#[test]
fn rdmsr_of_a_synic_register_is_answered_by_the_manager() {
    // MOV ECX, HV_X64_MSR_SVERSION; RDMSR; OUT 0xF4, EAX; HLT
    let code = [0xb9, 0x81, 0, 0, 0x40, 0x0f, 0x32, 0xe7, 0xf4, 0xf4];
    let Some(vm) = vm_with(&code) else { return };
    let version = vm.manager().read_msr(VpIndex::new(0), 0x4000_0081).unwrap();
    let stop = vm.start().unwrap().wait(TIMEOUT);
    assert!(
        matches!(stop, Some(Stop::Exit(v)) if u64::from(v) == version),
        "{stop:?}"
    );
}

#[test]
fn rdmsr_of_a_filtered_register_of_nobody_faults() {
    // MOV ECX, 0x400001FF; RDMSR. Without an IDT the #GP becomes a triple fault.
    let code = [0xb9, 0xff, 0x01, 0, 0x40, 0x0f, 0x32];
    let Some(vm) = vm_with(&code) else { return };
    let stop = vm.start().unwrap().wait(TIMEOUT);
    assert!(
        matches!(stop, Some(Stop::TripleFault(vp)) if vp.get() == 0),
        "{stop:?}"
    );
}

#[test]
fn hypercall_from_32_bit_mode_is_refused_in_rax() {
    // MOV EAX, -1; OUT 0xE4, AL; OUT 0xF4, EAX; HLT
    let code = [0xb8, 0xff, 0xff, 0xff, 0xff, 0xe6, 0xe4, 0xe7, 0xf4, 0xf4];
    let Some(vm) = vm_with(&code) else { return };
    let stop = vm.start().unwrap().wait(TIMEOUT);
    // HV_STATUS_INVALID_HYPERCALL_INPUT
    assert!(matches!(stop, Some(Stop::Exit(3))), "{stop:?}");
}

#[test]
fn stop_when_the_guest_never_exits_ends_every_vcpu() {
    // JMP to itself; vCPUs 1 and 2 wait for a SIPI that never comes.
    let Some(vm) = vm_with(&[0xeb, 0xfe]) else {
        return;
    };
    let running = vm.start().unwrap();
    assert!(running.wait(Some(Duration::ZERO)).is_none());
    assert_eq!(running.stop().unwrap().vcpus().len(), 3);
}

/// The guest counts its lives in RAM at GPA 0x200000, asks for a reset in the first, and reports.
#[test]
fn reset_of_a_stopped_vm_keeps_ram_and_lets_it_start_anew() {
    // INC DWORD [0x200000]; MOV EAX, [0x200000]; CMP EAX, 1; JNE +7; MOV AL, 0xFE; OUT 0x64, AL;
    // HLT; NOP; NOP; OUT 0xF4, EAX; HLT
    let code = [
        0xff, 0x05, 0, 0, 0x20, 0, 0xa1, 0, 0, 0x20, 0, 0x83, 0xf8, 1, 0x75, 7, 0xb0, 0xfe, 0xe6,
        0x64, 0xf4, 0x90, 0x90, 0xe7, 0xf4, 0xf4,
    ];
    let Some(mut vm) = vm_with(&code) else { return };
    vm.add_device(0x64..=0x64, Arc::new(Power));
    let resets = Arc::new(AtomicU32::new(0));
    let counted = resets.clone();
    vm.on_reset(Arc::new(move || {
        counted.fetch_add(1, Ordering::SeqCst);
    }));
    let sregs = vm.vcpus()[1].get_sregs().unwrap();
    let running = vm.start().unwrap();
    let stop = running.wait(TIMEOUT);
    assert!(matches!(stop, Some(Stop::Reset)), "{stop:?}");
    let mut vm = running.stop().unwrap();
    vm.reset().unwrap();
    assert_eq!(resets.load(Ordering::SeqCst), 1);
    assert_eq!(vm.vcpus()[1].get_sregs().unwrap(), sregs);
    vm.load(boot(&image(&code))).unwrap();
    let stop = vm.start().unwrap().wait(TIMEOUT);
    assert!(matches!(stop, Some(Stop::Exit(2))), "{stop:?}");
}

#[test]
fn load_when_the_image_is_not_one_fails() {
    if !has_kvm() {
        return;
    }
    let mut vm = Vm::new(&config()).unwrap();
    assert!(vm.load(boot(b"#!/bin/sh")).is_err());
}

/// The guest ends no interrupt with an EOI: were a vector with AutoEOI left in service, the next
/// one and the lower [`LAST_VECTOR`] would never arrive. It halts in between, so that each
/// interrupt needs a kick, from a thread that is not the vCPU's.
#[test]
fn assert_with_auto_eoi_when_the_guest_writes_no_eoi_is_delivered_every_time() {
    let Some(mut vm) = vm_with(interrupt_guest()) else {
        return;
    };
    let (report, reports) = mpsc::channel();
    vm.add_device(0x80..=0x80, Arc::new(Reporter(Mutex::new(report))));
    let host = vm.host().clone();
    let running = vm.start().unwrap();
    for taken in 0..=ROUNDS {
        let report = reports.recv_timeout(Duration::from_secs(60));
        assert_eq!(report, Ok(taken as u8), "after interrupt {taken}");
        if taken < ROUNDS {
            host.assert_sint(interrupt(AUTO_EOI_VECTOR, true)).unwrap();
        }
    }
    host.assert_sint(interrupt(LAST_VECTOR, false)).unwrap();
    let stop = running.wait(TIMEOUT);
    assert!(matches!(stop, Some(Stop::Exit(ROUNDS))), "{stop:?}");
}

/// Passes on what the guest writes.
struct Reporter(Mutex<Sender<u8>>);

impl PortDevice for Reporter {
    fn write(&self, _: VpIndex, _: u16, data: &[u8]) -> PortWrite {
        self.0.lock().unwrap().send(data[0]).unwrap();
        PortWrite::Continue
    }
}

fn interrupt(vector: u8, auto_eoi: bool) -> SintInterrupt {
    SintInterrupt {
        addr: SintAddr::new(VpIndex::new(0), SintIndex::VMBUS),
        vector,
        auto_eoi,
    }
}

fn config() -> VmConfig {
    VmConfig {
        vcpus: 3,
        memory_mib: 16,
        synic: Config::new(3),
        // KVM_INTERRUPT and the injector are what is tested.
        backend: Wish::Emulated,
        irqchip: Irqchip::Split,
        enlightenments: Enlightenments::default(),
    }
}

/// A VM that executes `code` at [`BASE`] + 12 in 32-bit mode; `None`, and a word about it,
/// without KVM.
pub fn vm_with(code: &[u8]) -> Option<Vm> {
    if !has_kvm() {
        return None;
    }
    let mut vm = Vm::new(&config()).unwrap();
    vm.add_device(0xf4..=0xf4, Arc::new(DebugExit));
    vm.load(boot(&image(code))).unwrap();
    Some(vm)
}

pub fn image(code: &[u8]) -> Vec<u8> {
    let header = [0x1bad_b002u32, 0, 0x1bad_b002u32.wrapping_neg()];
    let mut contents: Vec<u8> = header.iter().flat_map(|w| w.to_le_bytes()).collect();
    contents.extend_from_slice(code);
    elf(1, BASE, BASE + 12, &contents, 0x1000)
}

pub fn boot(image: &[u8]) -> Boot<'_> {
    Boot {
        image,
        cmdline: "test",
        module: None,
    }
}

pub fn has_kvm() -> bool {
    let kvm = open_kvm();
    if let Err(e) = &kvm {
        // Not eprintln!, which the test harness captures.
        let _ = writeln!(io::stderr(), "skipped: no /dev/kvm: {e:#}");
    }
    kvm.is_ok()
}

fn interrupt_guest() -> &'static [u8] {
    unsafe extern "C" {
        static interrupt_guest_start: u8;
        static interrupt_guest_end: u8;
    }
    let (start, end) = (
        &raw const interrupt_guest_start,
        &raw const interrupt_guest_end,
    );
    // SAFETY: both symbols are in the block below, whose bytes nobody writes, the end after the
    // start.
    unsafe { std::slice::from_raw_parts(start, end.offset_from(start) as usize) }
}

// Runs at BASE + 12 and builds its IDT at 0x100000. A handler drops its frame and goes back to
// the loop, because an emulating KVM has no IRET for 32-bit mode.
global_asm!(
    r#"
    .pushsection .rodata
    .code32
    interrupt_guest_start:
        lgdtl {base} + (2f - interrupt_guest_start)
        movl $0x10, %eax
        movl %eax, %ds
        movl %eax, %es
        movl %eax, %ss
        movl $0x200000, %esp
        ljmpl $0x08, ${base} + (1f - interrupt_guest_start)
    1:  movl ${base} + (4f - interrupt_guest_start), %eax
        movw %ax, 0x100000 + 8 * {auto_eoi}
        movl $0x00408e00, 0x100004 + 8 * {auto_eoi}
        movw $0x08, 0x100002 + 8 * {auto_eoi}
        movl ${base} + (5f - interrupt_guest_start), %eax
        movw %ax, 0x100000 + 8 * {last}
        movl $0x00408e00, 0x100004 + 8 * {last}
        movw $0x08, 0x100002 + 8 * {last}
        lidtl {base} + (3f - interrupt_guest_start)
        movl $0x1ff, 0xfee000f0
        xorl %ebx, %ebx
    8:  movl %ebx, %eax
        outb %al, $0x80
        sti
    6:  hlt
        jmp 6b
    4:  incl %ebx
        addl $12, %esp
        jmp 8b
    5:  movl %ebx, %eax
        outl %eax, $0xf4
        hlt
        .balign 8
    7:  .quad 0
        .quad 0x00cf9b000000ffff
        .quad 0x00cf93000000ffff
    2:  .word 23
        .long {base} + (7b - interrupt_guest_start)
    3:  .word 0x7ff
        .long 0x100000
    interrupt_guest_end:
    .code64
    .popsection
    "#,
    base = const BASE + 12,
    auto_eoi = const AUTO_EOI_VECTOR,
    last = const LAST_VECTOR,
    options(att_syntax)
);
