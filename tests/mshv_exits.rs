// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! The exits of a VP of /dev/mshv: which are the SynIC's, and that none of them can hurt.

use std::io;
use std::sync::Arc;

use mshv_bindings::{hv_message, hv_message__bindgen_ty_1};
use proptest::prelude::*;
use vm_memory::GuestMemoryMmap;
use vm_synic::backend::mshv::{ExitError, HypercallAnswer, Served, handle_exit};
use vm_synic::test_utils::{MshvDouble, RecordingHost, hv_message_of};
use vm_synic::{Config, HypercallInput, SynicManager, VpIndex};

const VP: VpIndex = VpIndex::new(0);
const RIP: u64 = 0xFFFF_FFFF_8000_1000;

#[derive(Debug, Default)]
struct Answer {
    completed: Vec<(u64, u64)>,
    refuses: bool,
}

impl HypercallAnswer for Answer {
    fn complete(&mut self, rip: u64, rax: u64) -> io::Result<()> {
        if self.refuses {
            return Err(io::Error::other("the test says so"));
        }
        self.completed.push((rip, rax));
        Ok(())
    }
}

fn manager() -> Arc<SynicManager<Arc<GuestMemoryMmap>>> {
    let double = MshvDouble::new(1);
    let manager = SynicManager::of_partition(
        Config::new(1),
        double.vm.memory.clone(),
        Arc::new(RecordingHost::default()),
        Arc::new(double.partition()),
    );
    manager.add_vp(VP).unwrap();
    manager
}

fn serve(message: &hv_message, answer: &mut Answer) -> Result<Served, ExitError> {
    handle_exit(&manager(), VP, message, answer, |input| {
        0x1_0000 | input.control
    })
}

fn serve_quietly(message: &hv_message) -> Served {
    serve(message, &mut Answer::default()).unwrap()
}

/// A VMCALL of 3 bytes in 64-bit mode, with these in RCX and RDX.
fn hypercall(rcx: u64, rdx: u64) -> hv_message {
    let fields = [(4, 3), LONG_MODE, (24, RIP), (56, rcx), (64, rdx)];
    hv_message_of(0x8000_0050, 200, &fields)
}

/// EFER.LMA in the execution state.
const LONG_MODE: (usize, u64) = (6, 1 << 4);

#[test]
fn hypercall_of_the_synic_is_completed_behind_the_instruction() {
    let mut answer = Answer::default();
    // HvSignalEvent, fast, for a connection that nobody has.
    let message = hypercall(0x1_005D, 0x40);
    assert_eq!(serve(&message, &mut answer).unwrap(), Served::Done);
    assert_eq!(answer.completed, [(RIP + 3, 0x12)]);
}

#[test]
fn hypercall_of_somebody_else_is_answered_by_the_vmm() {
    let mut answer = Answer::default();
    for code in [0x0002, 0x0050, 0x0051] {
        assert_eq!(
            serve(&hypercall(code, 0), &mut answer).unwrap(),
            Served::Done
        );
    }
    let results: Vec<_> = answer.completed.iter().map(|(_, rax)| *rax).collect();
    // VP registers are the hypervisor's to answer.
    assert_eq!(results, [0x1_0002, 0x1_0050, 0x1_0051]);
}

#[test]
fn hypercall_at_the_end_of_the_address_space_wraps() {
    let mut answer = Answer::default();
    let fields = [(4, 3), LONG_MODE, (24, u64::MAX), (56, 0x5D)];
    let message = hv_message_of(0x8000_0050, 200, &fields);
    assert_eq!(serve(&message, &mut answer).unwrap(), Served::Done);
    assert_eq!(answer.completed[0].0, 2);
}

#[test]
fn hypercall_in_32_bit_mode_is_the_vmms() {
    let message = hv_message_of(0x8000_0050, 200, &[(4, 3), (24, RIP), (56, 0x5D)]);
    assert_eq!(serve_quietly(&message), Served::NotMine);
}

#[test]
fn hypercall_whose_result_cannot_be_set_names_the_vp() {
    let mut answer = Answer {
        refuses: true,
        ..Answer::default()
    };
    let error = serve(&hypercall(0x1_005D, 0x40), &mut answer).unwrap_err();
    assert_eq!(error.vp, VP);
}

#[test]
fn msr_of_the_synic_needs_gp_and_any_other_is_the_vmms() {
    let msr = |msr| hv_message_of(0x8001_0001, 64, &[(40, msr)]);
    assert_eq!(serve_quietly(&msr(0x4000_0083)), Served::Fault);
    assert_eq!(serve_quietly(&msr(0x4000_0092)), Served::Fault);
    assert_eq!(serve_quietly(&msr(0xC000_0080)), Served::NotMine);
}

#[test]
fn message_of_the_synic_that_means_nothing_here_is_done() {
    for message_type in [0x8000_0060, 0x8000_0061, 0x8000_0062] {
        for size in [0, 4, 48, 255] {
            let message = hv_message_of(message_type, size, &[]);
            assert_eq!(
                serve_quietly(&message),
                Served::Done,
                "{message_type:#x}, {size}"
            );
        }
    }
}

#[test]
fn message_of_anything_else_is_the_vmms() {
    // Unmapped GPA, I/O port, halt, and one that nobody knows.
    for message_type in [0x8000_0000, 0x8001_0000, 0x8001_0007, 0x8123_4567] {
        let message = hv_message_of(message_type, 240, &[]);
        assert_eq!(
            serve_quietly(&message),
            Served::NotMine,
            "{message_type:#x}"
        );
    }
    assert_eq!(serve_quietly(&hv_message::default()), Served::NotMine);
}

#[test]
fn message_of_anything_else_when_its_size_cannot_be_is_the_vmms() {
    // An I/O port that nobody emulates would exit for ever.
    for message_type in [0x8000_0000, 0x8001_0000, 0x8001_0001, 0x8123_4567] {
        for size in [241, 255] {
            let message = hv_message_of(message_type, size, &[]);
            let served = serve_quietly(&message);
            assert_eq!(served, Served::NotMine, "{message_type:#x}, {size}");
        }
    }
}

proptest! {
    #[test]
    fn message_of_any_bytes_never_panics(
        message_type in prop_oneof![any::<u32>(), 0x8000_0050..0x8000_0063u32],
        size: u8,
        payload: [u64; 30],
    ) {
        let mut message = hv_message {
            u: hv_message__bindgen_ty_1 { payload },
            ..Default::default()
        };
        message.header.message_type = message_type;
        message.header.payload_size = size;
        let _ = serve(&message, &mut Answer::default());
    }
}

#[test]
fn hypercall_input_is_taken_from_rcx_rdx_and_r8() {
    let fields = [LONG_MODE, (56, 2), (64, 3), (72, 4)];
    let message = hv_message_of(0x8000_0050, 200, &fields);
    let mut seen = None;
    let served = handle_exit(&manager(), VP, &message, &mut Answer::default(), |input| {
        seen = Some(input);
        2
    });
    assert_eq!(served.unwrap(), Served::Done);
    let expected = HypercallInput {
        control: 2,
        input: 3,
        output: 4,
    };
    assert_eq!(seen, Some(expected));
}
