// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! Reads the tables back as a guest does, from the RSDP on.

use super::*;

struct Tables(Vec<u8>);

impl Tables {
    fn bytes(&self, address: u64, length: usize) -> &[u8] {
        let at = usize::try_from(address - TABLES).unwrap();
        &self.0[at..at + length]
    }

    fn u32(&self, address: u64) -> u32 {
        u32::from_le_bytes(self.bytes(address, 4).try_into().unwrap())
    }

    fn u64(&self, address: u64) -> u64 {
        u64::from_le_bytes(self.bytes(address, 8).try_into().unwrap())
    }

    /// A table whose signature and checksum are right.
    fn table(&self, address: u64, signature: &[u8; 4]) -> &[u8] {
        let length = usize::try_from(self.u32(address + 4)).unwrap();
        let table = self.bytes(address, length);
        assert_eq!(&table[..4], signature);
        assert_eq!(sum(table), 0, "checksum of {signature:?}");
        table
    }

    /// The addresses in the XSDT.
    fn entries(&self) -> [u64; 2] {
        let xsdt = self.u64(TABLES + 24);
        assert_eq!(self.table(xsdt, b"XSDT").len(), 36 + 2 * 8);
        [self.u64(xsdt + 36), self.u64(xsdt + 44)]
    }

    fn dsdt(&self) -> &[u8] {
        let [fadt, _] = self.entries();
        self.table(self.u64(fadt + 140), b"DSDT")
    }
}

fn tables(vcpus: u8) -> Tables {
    Tables(super::tables(vcpus))
}

fn sum(bytes: &[u8]) -> u8 {
    bytes.iter().fold(0, |sum, byte| sum.wrapping_add(*byte))
}

fn count(haystack: &[u8], needle: &[u8]) -> usize {
    let windows = haystack.windows(needle.len());
    windows.filter(|window| *window == needle).count()
}

#[test]
fn rsdp_of_any_machine_has_both_checksums() {
    let tables = tables(1);
    assert_eq!(tables.bytes(TABLES, 8), b"RSD PTR ");
    assert_eq!(sum(tables.bytes(TABLES, 20)), 0);
    assert_eq!(sum(tables.bytes(TABLES, 36)), 0);
}

#[test]
fn fadt_of_any_machine_is_hardware_reduced_and_names_its_power_ports() {
    let tables = tables(1);
    let [fadt, _] = tables.entries();
    tables.table(fadt, b"FACP");
    let (flags, reset) = (tables.u32(fadt + 112), tables.u64(fadt + 120));
    assert_eq!(flags & (1 << 20 | 1 << 10), 1 << 20 | 1 << 10);
    assert_eq!((reset, tables.bytes(fadt + 128, 1)), (0xcf9, &[6][..]));
    let sleep = [248, 260].map(|register| tables.u64(fadt + register));
    assert_eq!(sleep, [0x600, 0x601]);
}

#[test]
fn madt_lists_every_vcpu_enabled_and_the_io_apic() {
    let tables = tables(3);
    let [_, madt] = tables.entries();
    let madt = tables.table(madt, b"APIC");
    for id in 0..3 {
        assert_eq!(count(madt, &[0, 8, id, id, 1, 0, 0, 0]), 1, "LAPIC {id}");
    }
    let ioapic = [1, 12, 0, 0, 0, 0, 0xc0, 0xfe, 0, 0, 0, 0];
    assert_eq!(count(madt, &ioapic), 1);
}

#[test]
fn dsdt_names_vmbus_com1_and_every_processor() {
    let tables = tables(4);
    let dsdt = tables.dsdt();
    assert_eq!(count(dsdt, b"VMBus\0"), 1);
    assert_eq!(count(dsdt, b"ACPI0004\0"), 1);
    // EISAID ("PNP0501").
    assert_eq!(count(dsdt, &[0x41, 0xd0, 0x05, 0x01]), 1);
    assert_eq!(count(dsdt, b"ACPI0007\0"), 4);
    // Name (_S5, Package () { 5 })
    assert_eq!(count(dsdt, b"_S5_\x12"), 1);
}

#[test]
fn tables_of_the_largest_machine_end_below_the_reset_vector() {
    assert!(TABLES as usize + tables(254).0.len() < 0xf_fff0);
}
