// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! The registers of a SynIC read and write as the TLFS and Linux's headers say.

use vm_synic::abi::{PageRegister, Register};
use vm_synic::test_utils::{HostCall, MockVm};
use vm_synic::{
    Bank, Config, Message, MessageType, MsrError, Posted, ProvidedPages, RegisterId, SintAddr,
    SintIndex, VpIndex,
};

const VP: VpIndex = VpIndex::new(0);
const SCONTROL: u32 = 0x4000_0080;
const SVERSION: u32 = 0x4000_0081;
const SIEFP: u32 = 0x4000_0082;
const SIMP: u32 = 0x4000_0083;
const EOM: u32 = 0x4000_0084;
const SIRBP: u32 = 0x4000_0085;
const SINT0: u32 = 0x4000_0090;
const SINT15: u32 = 0x4000_009F;
/// From a plain register's MSR or name to the nested one's.
const NESTED: u32 = 0x1000;

fn vm() -> MockVm {
    MockVm::new(Config::new(2), 2)
}

fn nested_vm() -> MockVm {
    let config = Config {
        nested: true,
        ..Config::new(1)
    };
    MockVm::new(config, 1)
}

#[test]
fn registers_at_reset_have_the_values_of_the_tlfs_and_scontrol_the_configured_one() {
    for (scontrol_at_reset, scontrol) in [(false, 0), (true, 1)] {
        let config = Config {
            scontrol_at_reset,
            ..Config::new(1)
        };
        let guest = MockVm::new(config, 1).guest(VP);
        assert_eq!(guest.rdmsr(SCONTROL), Ok(scontrol));
        assert_eq!(guest.rdmsr(SVERSION), Ok(1));
        for msr in [SIEFP, SIMP, EOM, SIRBP] {
            assert_eq!(guest.rdmsr(msr), Ok(0), "{msr:#x}");
        }
        for msr in SINT0..=SINT15 {
            assert_eq!(guest.rdmsr(msr), Ok(0x1_0000), "{msr:#x}");
        }
    }
}

#[test]
fn registers_after_a_reset_are_as_at_first() {
    let vm = vm();
    let mut guest = vm.guest(VP);
    guest.enable_all();
    guest.unmask(SintIndex::VMBUS, 0xF3);

    vm.manager.reset();

    for msr in [SCONTROL, SIEFP, SIMP, SIRBP] {
        assert_eq!(guest.rdmsr(msr), Ok(0), "{msr:#x}");
    }
    for msr in SINT0..=SINT15 {
        assert_eq!(guest.rdmsr(msr), Ok(0x1_0000), "{msr:#x}");
    }
}

/// Writes a value that no other register has through the MSR, and reads it by the register's own
/// name and by its `HV_REGISTER_NAME`.
#[track_caller]
fn check_number(vm: &MockVm, bank: Bank, register: Register, msr: u32, name: u32) {
    let value = match register {
        Register::Scontrol => u64::from(msr) << 1,
        Register::Sint(_) => u64::from(msr) << 32 | 0x1_0000,
        _ => u64::from(msr) << 12,
    };
    let id = RegisterId { bank, register };
    assert_eq!(RegisterId::from_name(name), Some(id), "{name:#x}");

    vm.manager.write_msr(VP, msr, value).unwrap();

    assert_eq!(vm.manager.read_register(VP, id), Ok(value), "{id}");
    assert_eq!(vm.manager.read_msr(VP, msr), Ok(value), "{id}");
}

#[test]
fn msrs_and_register_names_of_both_banks_have_the_numbers_of_the_headers() {
    let vm = nested_vm();
    for (bank, offset) in [(Bank::Plain, 0), (Bank::Nested, NESTED)] {
        let check = |register, msr, name| {
            check_number(&vm, bank, register, msr + offset, name + offset);
        };
        check(Register::Scontrol, SCONTROL, 0x000A_0010);
        check(Register::Siefp, SIEFP, 0x000A_0012);
        check(Register::Simp, SIMP, 0x000A_0013);
        for sint in SintIndex::all() {
            let number = u32::from(sint);
            check(Register::Sint(sint), SINT0 + number, 0x000A_0000 + number);
        }
    }
    check_number(&vm, Bank::Plain, Register::Sirbp, SIRBP, 0x000A_0015);
}

#[test]
fn nested_sirbp_has_a_register_name_but_no_msr() {
    let vm = nested_vm();
    let id = RegisterId::from_name(0x000A_1015).unwrap();
    vm.manager.write_register(VP, id, 0x5000).unwrap();
    assert_eq!(vm.manager.read_register(VP, id), Ok(0x5000));

    let msr = SIRBP + NESTED;
    assert_eq!(vm.manager.read_msr(VP, msr), Err(MsrError::NotMine(msr)));
    assert_eq!(vm.manager.read_msr(VP, SIRBP), Ok(0));
}

#[test]
fn reserved_bits_read_back_as_they_were_written() {
    let guest = vm().guest(VP);
    #[rustfmt::skip]
    let values = [
        (SCONTROL, !0), (SCONTROL, !1),
        (SIEFP, !1), (SIEFP, 0x2FFF), (SIMP, !1), (SIMP, 0x3FFF), (SIRBP, !1), (SIRBP, 0x4FFF),
        (SINT0, !0), (SINT15, 0xFFFF_FFFF_FFE0_FF10),
    ];
    for (msr, value) in values {
        guest.wrmsr(msr, value).unwrap();
        assert_eq!(guest.rdmsr(msr), Ok(value), "{msr:#x}");
    }
}

#[test]
fn sint_with_a_vector_below_16_faults_unless_masked_and_keeps_its_value() {
    let guest = vm().guest(VP);
    guest.wrmsr(SINT0, 0xF3).unwrap();
    for vector in 0..16 {
        assert_eq!(guest.wrmsr(SINT0, vector), Err(MsrError::Fault), "{vector}");
        assert_eq!(guest.rdmsr(SINT0), Ok(0xF3), "{vector}");
    }
    for vector in 0..16 {
        let masked = vector | 0x1_0000;
        guest.wrmsr(SINT0, masked).unwrap();
        assert_eq!(guest.rdmsr(SINT0), Ok(masked), "{vector}");
    }
    for vector in 16..=255 {
        assert_eq!(guest.wrmsr(SINT0, vector), Ok(()), "{vector}");
    }
}

#[test]
fn several_sints_may_share_a_vector() {
    let guest = vm().guest(VP);
    for msr in SINT0..=SINT15 {
        assert_eq!(guest.wrmsr(msr, 0xF3), Ok(()), "{msr:#x}");
    }
}

#[test]
fn eom_takes_any_value_and_reads_as_zero() {
    let guest = vm().guest(VP);
    for value in [0, 1, !0] {
        assert_eq!(guest.wrmsr(EOM, value), Ok(()));
        assert_eq!(guest.rdmsr(EOM), Ok(0));
    }
}

#[test]
fn sversion_and_vp_index_are_read_only() {
    let vm = vm();
    let guest = vm.guest(VpIndex::new(1));
    for (msr, value) in [(SVERSION, 1), (0x4000_0002, 1)] {
        for written in [0, value, !0] {
            assert_eq!(guest.wrmsr(msr, written), Err(MsrError::Fault), "{msr:#x}");
        }
        assert_eq!(guest.rdmsr(msr), Ok(value), "{msr:#x}");
    }
}

#[test]
fn guest_os_id_and_hypercall_msrs_are_the_managers() {
    let guest = vm().guest(VP);
    guest.wrmsr(0x4000_0000, 0x8100_0007_020D_0000).unwrap();
    guest.wrmsr(0x4000_0001, 0x2001).unwrap();
    assert_eq!(guest.rdmsr(0x4000_0000), Ok(0x8100_0007_020D_0000));
    assert_eq!(guest.rdmsr(0x4000_0001), Ok(0x2001));
    let fault = guest.wrmsr(0x4000_0001, 0xFFFF_FFFF_F001);
    assert_eq!(fault, Err(MsrError::Fault));
}

#[test]
fn msr_of_nobody_in_the_synic_is_left_to_the_vmm() {
    let guest = nested_vm().guest(VP);
    #[rustfmt::skip]
    let others = [
        0x10, 0x3FFF_FFFF, 0x4000_0003, 0x4000_0020, 0x4000_0073, 0x4000_007F, 0x4000_0086,
        0x4000_008F, 0x4000_00A0, 0x4000_00B0, 0x4000_1002, 0x4000_107F, 0x4000_1085,
        0x4000_1086, 0x4000_10A0, 0xFFFF_FFFF,
    ];
    for msr in others {
        assert_eq!(guest.rdmsr(msr), Err(MsrError::NotMine(msr)), "{msr:#x}");
        assert_eq!(guest.wrmsr(msr, 0), Err(MsrError::NotMine(msr)), "{msr:#x}");
    }
}

#[test]
fn nested_bank_without_the_option_faults() {
    let guest = vm().guest(VP);
    for msr in [SCONTROL, SVERSION, SIEFP, SIMP, EOM, SINT0, SINT15] {
        let msr = msr + NESTED;
        assert_eq!(guest.rdmsr(msr), Err(MsrError::Fault), "{msr:#x}");
        assert_eq!(guest.wrmsr(msr, 0x1_0000), Err(MsrError::Fault), "{msr:#x}");
    }
}

#[test]
fn nested_bank_is_a_synic_of_its_own() {
    let vm = nested_vm();
    let mut nested = vm.guest(VP).in_bank(Bank::Nested);
    nested.enable_all();
    nested.unmask(SintIndex::VMBUS, 0x40);
    vm.host.take_calls();
    for msr in [SCONTROL, SIEFP, SIMP] {
        assert_eq!(nested.rdmsr(msr), Ok(0), "the plain bank is off: {msr:#x}");
    }

    let addr = SintAddr::new(VP, SintIndex::VMBUS);
    let message = Message::new(MessageType::VMBUS, b"nested").unwrap();
    assert!(vm.manager.post_message(addr, &message).is_err());
    let posted = vm.manager.post_message(addr.nested(), &message);

    assert_eq!(posted, Ok(Posted::Delivered));
    assert_eq!(vm.host.take_interrupts()[0].addr, addr.nested());
    assert_eq!(nested.take_message(SintIndex::VMBUS), Some(message));
}

#[test]
fn registers_of_one_vp_are_not_those_of_another() {
    let vm = vm();
    let (first, second) = (vm.guest(VP), vm.guest(VpIndex::new(1)));
    first.wrmsr(SINT0, 0xF3).unwrap();
    second.wrmsr(SINT0, 0xF4).unwrap();
    assert_eq!(first.rdmsr(SINT0), Ok(0xF3));
    assert_eq!(second.rdmsr(SINT0), Ok(0xF4));
    assert_eq!(first.rdmsr(0x4000_0002), Ok(0));
    assert_eq!(second.rdmsr(0x4000_0002), Ok(1));
}

#[test]
fn register_of_a_vp_that_is_not_there_faults() {
    let vm = MockVm::new(Config::new(2), 1);
    let absent = VpIndex::new(1);
    for vp in [absent, VpIndex::new(2), VpIndex::new(u32::MAX)] {
        assert_eq!(vm.manager.read_msr(vp, SIMP), Err(MsrError::Fault));
        assert_eq!(vm.manager.write_msr(vp, SIMP, 0), Err(MsrError::Fault));
    }
}

#[test]
fn sint_that_is_programmed_tells_the_host_its_route() {
    let vm = vm();
    let guest = vm.guest(VP);
    let sint = SintIndex::VMBUS;
    guest.wrmsr(SINT0 + 2, 0xF3).unwrap();
    guest.wrmsr(SINT0 + 2, 0x1_00F3).unwrap();
    assert!(guest.wrmsr(SINT0 + 2, 5).is_err());
    let routed = [Some(0xF3), None].map(|vector| HostCall::Route(SintAddr::new(VP, sint), vector));
    assert_eq!(vm.host.take_calls(), routed);
}

#[test]
fn route_that_the_host_cannot_make_leaves_the_register_written() {
    let vm = vm();
    vm.host.set_failing(true);
    let guest = vm.guest(VP);
    assert_eq!(guest.wrmsr(SINT0, 0xF3), Ok(()));
    assert_eq!(guest.rdmsr(SINT0), Ok(0xF3));
}

#[test]
fn provided_pages_are_in_the_registers_disabled_also_after_a_reset() {
    let vm = vm();
    let pages = ProvidedPages {
        simp: 0x1000,
        siefp: 0x2000,
        sirbp: 0x3000,
    };
    vm.manager.provide_pages(VP, pages).unwrap();
    let guest = vm.guest(VP);
    for _ in 0..2 {
        let bases = [SIMP, SIEFP, SIRBP].map(|msr| guest.rdmsr(msr));
        assert_eq!(bases, [Ok(0x1000), Ok(0x2000), Ok(0x3000)]);
        guest.wrmsr(SIMP, PageRegister::at(0x1000).into()).unwrap();
        vm.manager.reset();
    }
}
