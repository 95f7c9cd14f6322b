// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! The ACPI tables of this machine, hardware-reduced (ACPI Specification 6.5, 4.1).

use acpi_tables::aml::{
    AddressSpace, AddressSpaceCacheable, Device, EISAName, IO, Interrupt, Name, PackageBuilder,
    Path, ResourceTemplate, Scope,
};
use acpi_tables::fadt::{FADT, FADTBuilder, Flags, PmProfile};
use acpi_tables::gas::{AccessSize, AddressSpace as GasSpace, GAS};
use acpi_tables::madt::{
    EnabledStatus, IoApic, LocalInterruptController, MADT, ProcessorLocalApic,
};
use acpi_tables::rsdp::Rsdp;
use acpi_tables::sdt::Sdt;
use acpi_tables::xsdt::XSDT;
use acpi_tables::{Aml, aml};

use crate::devices::power;

/// Where the tables go, the RSDP first: in the area that an operating system searches for it, which
/// is how a kernel that kexec starts without a hint finds it.
pub const TABLES: u64 = 0xe_0000;
/// Where the I/O APIC is; its pins are the GSIs from 0.
pub const IOAPIC: u32 = 0xfec0_0000;
/// The first of COM1's eight ports.
pub const COM1: u16 = 0x3f8;
/// The GSI of COM1.
pub const COM1_IRQ: u32 = 4;

/// All tables of a machine of `vcpus` vCPUs, to be copied to [`TABLES`].
pub fn tables(vcpus: u8) -> Vec<u8> {
    let mut bytes = vec![0; Rsdp::len()];
    let dsdt = append(&mut bytes, &dsdt(vcpus));
    let fadt = append(&mut bytes, &fadt(dsdt));
    let madt = append(&mut bytes, &madt(vcpus));
    let mut xsdt = XSDT::new(OEM, OEM_TABLE, 1);
    xsdt.add_entry(fadt);
    xsdt.add_entry(madt);
    let xsdt = append(&mut bytes, &xsdt);
    let mut rsdp = Vec::new();
    Rsdp::new(OEM, xsdt).to_aml_bytes(&mut rsdp);
    bytes.splice(..rsdp.len(), rsdp);
    bytes
}

/// Adds a table, aligned; returns the address it will have.
fn append(bytes: &mut Vec<u8>, table: &dyn Aml) -> u64 {
    bytes.resize(bytes.len().next_multiple_of(16), 0);
    let address = TABLES + bytes.len() as u64;
    table.to_aml_bytes(bytes);
    address
}

fn fadt(dsdt: u64) -> FADT {
    let register = |port: u16| {
        GAS::new(
            GasSpace::SystemIo,
            8,
            0,
            AccessSize::ByteAccess,
            port.into(),
        )
    };
    let mut fadt = FADTBuilder::new(OEM, OEM_TABLE, 1)
        .dsdt_64(dsdt)
        .preferred_pm_profile(PmProfile::EnterpriseServer)
        .flag(Flags::Wbinvd)
        .flag(Flags::PwrButton)
        .flag(Flags::SlpButton)
        .flag(Flags::ResetRegSup)
        .flag(Flags::Headless)
        .flag(Flags::HwReducedAcpi);
    // Neither VGA nor a CMOS clock, and by the absence of a flag no keyboard controller.
    fadt.iapc_boot_arch = (1 << 2 | 1 << 5).into();
    fadt.reset_reg = register(power::RESET);
    fadt.reset_value = power::RESET_VALUE;
    fadt.sleep_control_reg = register(power::SLEEP_CONTROL);
    fadt.sleep_status_reg = register(power::SLEEP_STATUS);
    fadt.finalize()
}

fn madt(vcpus: u8) -> MADT {
    let lapic = LocalInterruptController::Address(LAPIC);
    let mut madt = MADT::new(OEM, OEM_TABLE, 1, lapic);
    for id in 0..vcpus {
        madt.add_structure(ProcessorLocalApic::new(id, id, EnabledStatus::Enabled));
    }
    madt.add_structure(IoApic::new(0, IOAPIC, 0));
    madt
}

fn dsdt(vcpus: u8) -> Sdt {
    let mut aml = Vec::new();
    sleep_state().to_aml_bytes(&mut aml);
    processors(vcpus, &mut aml);
    com1(&mut aml);
    vmbus(&mut aml);
    let mut dsdt = Sdt::new(*b"DSDT", SDT_HEADER, 6, OEM, OEM_TABLE, 1);
    dsdt.append_slice(&aml);
    dsdt
}

/// S5, "soft off", is the one sleep state.
fn sleep_state() -> Name {
    let mut package = PackageBuilder::new();
    package.add_element(&power::SOFT_OFF);
    Name::new(Path::new("_S5_"), &package)
}

fn processors(vcpus: u8, aml: &mut Vec<u8>) {
    for id in 0..vcpus {
        let hid = Name::new("_HID".into(), &"ACPI0007");
        let uid = Name::new("_UID".into(), &id);
        let name = format!("\\_SB_.C{id:03X}");
        Device::new(Path::new(&name), vec![&hid, &uid]).to_aml_bytes(aml);
    }
}

fn com1(aml: &mut Vec<u8>) {
    let hid = Name::new("_HID".into(), &EISAName::new("PNP0501"));
    let uid = Name::new("_UID".into(), &aml::ZERO);
    let ports = IO::new(COM1, COM1, 1, 8);
    let interrupt = Interrupt::new(true, true, false, false, COM1_IRQ);
    let resources = ResourceTemplate::new(vec![&ports, &interrupt]);
    let crs = Name::new("_CRS".into(), &resources);
    let device = Device::new("COM1".into(), vec![&hid, &uid, &crs]);
    Scope::new("\\_SB_".into(), vec![&device]).to_aml_bytes(aml);
}

/// VMBus below a module device, as Hyper-V has it; the module's window is where a channel's MMIO
/// would be (Linux: `vmbus_acpi_add`).
fn vmbus(aml: &mut Vec<u8>) {
    let window = AddressSpace::new_memory(
        AddressSpaceCacheable::NotCacheable,
        true,
        VMBUS_WINDOW,
        VMBUS_WINDOW + (VMBUS_WINDOW_SIZE - 1),
        None::<u64>,
    );
    let resources = ResourceTemplate::new(vec![&window]);
    let module_hid = Name::new("_HID".into(), &"ACPI0004");
    let module_uid = Name::new("_UID".into(), &aml::ZERO);
    let module_crs = Name::new("_CRS".into(), &resources);
    let hid = Name::new("_HID".into(), &"VMBus");
    let uid = Name::new("_UID".into(), &aml::ZERO);
    let bus = Device::new("VMBS".into(), vec![&hid, &uid]);
    let module = vec![&module_hid as &dyn Aml, &module_uid, &module_crs, &bus];
    let module = Device::new("VMOD".into(), module);
    Scope::new("\\_SB_".into(), vec![&module]).to_aml_bytes(aml);
}

const OEM: [u8; 6] = *b"RUSTVM";
const OEM_TABLE: [u8; 8] = *b"SYNICVMM";
const SDT_HEADER: u32 = 36;
const LAPIC: u32 = 0xfee0_0000;
/// Between the end of RAM and the I/O APIC.
const VMBUS_WINDOW: u64 = 0xf800_0000;
const VMBUS_WINDOW_SIZE: u64 = 64 << 20;

#[cfg(test)]
mod tests;
