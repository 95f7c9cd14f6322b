// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! `HvGetVpRegisters` and `HvSetVpRegisters`.

use super::*;

const GET: u64 = GET_VP_REGISTERS as u64;
const SET: u64 = SET_VP_REGISTERS as u64;
const SELF_PARTITION: u64 = u64::MAX;
const SELF_VP: u32 = 0xFFFF_FFFE;
const SINT2: u32 = 0x000A_0002;
const SINT3: u32 = 0x000A_0003;
const SCONTROL: u32 = 0x000A_0010;
const SVERSION: u32 = 0x000A_0011;
const VP_INDEX: u32 = 0x0009_0003;
const NESTED_SINT2: u32 = 0x000A_1002;
const UNKNOWN: u32 = 0x0001_0006;

/// The header of the input block.
struct Header {
    partition: u64,
    vp: u32,
    vtl: u32,
}

const OWN: Header = Header {
    partition: SELF_PARTITION,
    vp: SELF_VP,
    vtl: 0,
};

impl Header {
    fn write(&self, guest: &Guest, block: u64) {
        guest.write(block, &self.partition.to_le_bytes());
        guest.write(block + 8, &self.vp.to_le_bytes());
        guest.write(block + 12, &self.vtl.to_le_bytes());
    }
}

fn reps(count: usize) -> u64 {
    (count as u64) << 32
}

fn start(rep: usize) -> u64 {
    (rep as u64) << 48
}

/// The result value: how many reps are done, and a status.
fn done(count: usize, status: HvStatus) -> Option<u64> {
    Some(reps(count) | u64::from(status))
}

fn write_names(guest: &Guest, header: &Header, names: &[u32]) {
    header.write(guest, INPUT);
    for (gpa, name) in (INPUT + 16..).step_by(4).zip(names) {
        guest.write(gpa, &name.to_le_bytes());
    }
}

fn get(guest: &Guest, header: &Header, names: &[u32]) -> Option<u64> {
    write_names(guest, header, names);
    guest.call(GET | reps(names.len()), INPUT)
}

fn write_associations(guest: &Guest, header: &Header, registers: &[(u32, u128)]) {
    header.write(guest, INPUT);
    for (gpa, (name, value)) in (INPUT + 16..).step_by(32).zip(registers) {
        guest.write(gpa, &name.to_le_bytes());
        guest.write(gpa + 16, &value.to_le_bytes());
    }
}

fn set(guest: &Guest, header: &Header, registers: &[(u32, u128)]) -> Option<u64> {
    write_associations(guest, header, registers);
    guest.call(SET | reps(registers.len()), INPUT)
}

/// The first values of the output block.
fn output<const N: usize>(guest: &Guest) -> [u128; N] {
    std::array::from_fn(|i| {
        let gpa = GuestAddress(OUTPUT + 16 * i as u64);
        u128::from_le_bytes(guest.ram.read_obj(gpa).unwrap())
    })
}

fn msr(guest: &Guest, vp: u32, msr: u32) -> u64 {
    guest.manager.read_msr(VpIndex::new(vp), msr).unwrap()
}

#[test]
fn get_of_several_registers_writes_their_values_in_order() {
    let guest = Guest::new(Config::new(1));
    let called = get(&guest, &OWN, &[SINT2, SCONTROL, SVERSION, VP_INDEX]);
    assert_eq!(called, done(4, HvStatus::Success));
    assert_eq!(output(&guest), [0xF3, 1, 1, 0]);
}

#[test]
fn get_from_another_vp_reads_that_one() {
    let guest = Guest::new(Config::new(2));
    guest.manager.add_vp(VpIndex::new(1)).unwrap();
    let called = get(&guest, &Header { vp: 1, ..OWN }, &[VP_INDEX, SINT2]);
    assert_eq!(called, done(2, HvStatus::Success));
    assert_eq!(output(&guest), [1, 0x10000]);
}

#[test]
fn get_that_goes_on_from_a_rep_leaves_the_earlier_ones_alone() {
    let guest = Guest::new(Config::new(1));
    guest.write(OUTPUT, &[0xAA; 16]);
    write_names(&guest, &OWN, &[UNKNOWN, SINT2]);

    let called = guest.call(GET | reps(2) | start(1), INPUT);

    assert_eq!(called, done(2, HvStatus::Success));
    assert_eq!(output(&guest), [u128::from_le_bytes([0xAA; 16]), 0xF3]);
}

#[test]
fn get_of_an_unknown_register_reports_the_ones_before_it() {
    let guest = Guest::new(Config::new(1));
    let called = get(&guest, &OWN, &[SINT2, UNKNOWN, SCONTROL]);
    assert_eq!(called, done(1, HvStatus::UnknownRegisterName));
    assert_eq!(output(&guest), [0xF3, 0]);
}

#[test]
fn get_into_a_block_that_ends_with_the_page_fills_it_and_stops() {
    let guest = Guest::new(Config::new(1));
    write_names(&guest, &OWN, &[SINT2; 3]);
    let input = HypercallInput {
        control: GET | reps(3),
        input: INPUT,
        output: OUTPUT + 0xFE0,
    };
    let called = guest.manager.hypercall(VP, input);
    assert_eq!(called, done(2, HvStatus::InvalidAlignment));
    assert_eq!(guest.read_u32(OUTPUT + 0xFF0), 0xF3);
    assert_eq!(guest.read_u32(OUTPUT + 0x1000), 0);
}

#[test]
fn set_of_several_registers_acts_as_their_msrs() {
    let guest = Guest::new(Config::new(1));
    let called = set(&guest, &OWN, &[(SINT2, 0x100F2), (SCONTROL, 0)]);
    assert_eq!(called, done(2, HvStatus::Success));
    assert_eq!(msr(&guest, 0, 0x4000_0092), 0x100F2);
    assert_eq!(msr(&guest, 0, 0x4000_0080), 0);
}

#[test]
fn set_on_another_vp_writes_that_one() {
    let guest = Guest::new(Config::new(2));
    guest.manager.add_vp(VpIndex::new(1)).unwrap();
    let called = set(&guest, &Header { vp: 1, ..OWN }, &[(SINT2, 0x44)]);
    assert_eq!(called, done(1, HvStatus::Success));
    assert_eq!(msr(&guest, 1, 0x4000_0092), 0x44);
    assert_eq!(msr(&guest, 0, 0x4000_0092), 0xF3);
}

#[test]
fn set_that_goes_on_from_a_rep_writes_only_the_rest() {
    let guest = Guest::new(Config::new(1));
    write_associations(&guest, &OWN, &[(SINT2, 0x44), (SINT3, 0x55)]);
    let called = guest.call(SET | reps(2) | start(1), INPUT);
    assert_eq!(called, done(2, HvStatus::Success));
    assert_eq!(msr(&guest, 0, 0x4000_0092), 0xF3);
    assert_eq!(msr(&guest, 0, 0x4000_0093), 0x55);
}

#[test]
fn set_of_a_bad_value_stops_there() {
    let guest = Guest::new(Config::new(1));
    for (name, value) in [
        (SINT2, 0x0F),
        (SINT2, 1 << 64),
        (SVERSION, 2),
        (VP_INDEX, 3),
        // SIMP, outside RAM.
        (0x000A_0013, u128::from(RAM_END) | 1),
    ] {
        let called = set(&guest, &OWN, &[(SINT3, 0x55), (name, value), (SINT3, 0x66)]);
        let expected = done(1, HvStatus::InvalidRegisterValue);
        assert_eq!(called, expected, "{name:#x} = {value:#x}");
        assert_eq!(msr(&guest, 0, 0x4000_0093), 0x55);
    }
}

#[test]
fn set_of_an_unknown_register_stops_there() {
    let guest = Guest::new(Config::new(1));
    let called = set(&guest, &OWN, &[(SINT3, 0x55), (UNKNOWN, 0)]);
    assert_eq!(called, done(1, HvStatus::UnknownRegisterName));
}

#[test]
fn set_of_more_registers_than_fit_a_page_stops_at_its_end() {
    let guest = Guest::new(Config::new(1));
    // 16 + 127 * 32 is the most that ends within 4096.
    let called = set(&guest, &OWN, &[(SINT3, 0x55); 128]);
    assert_eq!(called, done(127, HvStatus::InvalidAlignment));
}

#[test]
fn nested_registers_are_known_only_where_there_is_a_nested_bank() {
    let nested = Guest::new(Config {
        nested: true,
        ..Config::new(1)
    });
    let written = set(&nested, &OWN, &[(NESTED_SINT2, 0x44)]);
    assert_eq!(written, done(1, HvStatus::Success));
    assert_eq!(
        get(&nested, &OWN, &[NESTED_SINT2, SINT2]),
        done(2, HvStatus::Success)
    );
    assert_eq!(output(&nested), [0x44, 0xF3]);

    let plain = Guest::new(Config::new(1));
    let unknown = done(0, HvStatus::UnknownRegisterName);
    assert_eq!(get(&plain, &OWN, &[NESTED_SINT2]), unknown);
    assert_eq!(set(&plain, &OWN, &[(NESTED_SINT2, 0x44)]), unknown);
}

#[test]
fn header_that_names_no_target_is_refused_before_any_rep() {
    let guest = Guest::new(Config::new(2));
    for (header, status) in [
        (
            Header {
                partition: 1,
                ..OWN
            },
            HvStatus::InvalidPartitionId,
        ),
        (
            Header {
                partition: 0,
                ..OWN
            },
            HvStatus::InvalidPartitionId,
        ),
        (Header { vp: 1, ..OWN }, HvStatus::InvalidVpIndex),
        (
            Header {
                vp: u32::MAX,
                ..OWN
            },
            HvStatus::InvalidVpIndex,
        ),
        (Header { vtl: 0x11, ..OWN }, HvStatus::InvalidParameter),
        (Header { vtl: 0x100, ..OWN }, HvStatus::InvalidParameter),
    ] {
        assert_eq!(get(&guest, &header, &[SINT2]), done(0, status));
        assert_eq!(set(&guest, &header, &[(SINT2, 0x44)]), done(0, status));
    }
    assert_eq!(msr(&guest, 0, 0x4000_0092), 0xF3);
}

#[test]
fn header_that_names_vtl_0_is_taken() {
    let guest = Guest::new(Config::new(1));
    let header = Header { vtl: 0x10, ..OWN };
    assert_eq!(get(&guest, &header, &[SINT2]), done(1, HvStatus::Success));
}

#[test]
fn rep_call_with_a_bad_control_word_is_refused() {
    let guest = Guest::new(Config::new(1));
    write_names(&guest, &OWN, &[SINT2]);
    for (what, bits) in [
        ("no rep", 0),
        ("start at the count", reps(1) | start(1)),
        ("start beyond the count", reps(1) | start(2)),
        ("fast", reps(1) | FAST),
        ("variable header", reps(1) | 1 << 17),
        ("reserved bit 27", reps(1) | 1 << 27),
        ("nested", reps(1) | NESTED),
        ("reserved bit 44", reps(1) | 1 << 44),
        ("reserved bit 60", reps(1) | 1 << 60),
    ] {
        for code in [GET, SET] {
            let called = guest.call(code | bits, INPUT);
            assert_eq!(called, answer(HvStatus::InvalidHypercallInput), "{what}");
        }
    }
}

#[test]
fn rep_call_from_a_bad_block_is_refused() {
    let guest = Guest::new(Config::new(1));
    for block in [INPUT + 4, 0x1FF8, RAM_END, u64::MAX - 7] {
        for code in [GET, SET] {
            let called = guest.call(code | reps(1), block);
            assert_eq!(called, answer(HvStatus::InvalidAlignment), "{block:#x}");
        }
    }
}
