// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! The CPUID of the guest: what KVM supports, with Hyper-V's leaves in place of KVM's own.

use anyhow::{Context, Result};
use kvm_bindings::{CpuId, KVM_MAX_CPUID_ENTRIES, kvm_cpuid_entry2};
use kvm_ioctls::Kvm;
use vm_synic::Role;

use crate::enlightenments::{Enlightenments, Timers};

/// The leaves that do not differ between the vCPUs.
#[derive(Clone, Debug)]
pub struct Cpuid(Vec<kvm_cpuid_entry2>);

impl Cpuid {
    /// For a VM of `vcpus` vCPUs whose guest has this role.
    pub fn new(kvm: &Kvm, enlightenments: Enlightenments, role: Role, vcpus: u32) -> Result<Self> {
        let supported = kvm
            .get_supported_cpuid(KVM_MAX_CPUID_ENTRIES)
            .context("Cannot read the CPUID leaves that KVM supports")?;
        // Linux prefers KVM's signature over Hyper-V's if it finds both.
        let mut leaves: Vec<_> = supported
            .as_slice()
            .iter()
            .filter(|leaf| !HYPERVISOR_LEAVES.contains(&leaf.function))
            .copied()
            .collect();
        leaves.extend(hyperv_leaves(vcpus, enlightenments, role));
        Ok(Self(leaves))
    }

    /// The leaves of the vCPU with this APIC id.
    pub fn of_vcpu(&self, apic_id: u32) -> Result<CpuId> {
        let leaves: Vec<_> = self.0.iter().map(|leaf| of_vcpu(*leaf, apic_id)).collect();
        CpuId::from_entries(&leaves).context("Too many CPUID leaves")
    }
}

fn of_vcpu(mut leaf: kvm_cpuid_entry2, apic_id: u32) -> kvm_cpuid_entry2 {
    match leaf.function {
        0x1 => {
            leaf.ebx = leaf.ebx & 0x00ff_ffff | apic_id << 24;
            leaf.ecx |= HYPERVISOR_PRESENT;
        }
        0xb | 0x1f => leaf.edx = apic_id,
        _ => {}
    }
    leaf
}

/// What is announced is what the manager implements (TLFS "Feature and Interface Discovery").
fn hyperv_leaves(vcpus: u32, enlightenments: Enlightenments, role: Role) -> [kvm_cpuid_entry2; 7] {
    let (timers, direct) = match enlightenments.timers {
        Timers::Off => (0, 0),
        Timers::Message => (SYNTHETIC_TIMERS, 0),
        Timers::Direct => (SYNTHETIC_TIMERS, DIRECT_TIMERS),
    };
    let (low, misc) = (
        PRIVILEGES_LOW | timers,
        FREQUENCY_MSRS | CRASH_MSRS | direct,
    );
    let advice = match enlightenments.auto_eoi {
        true => 0,
        false => DEPRECATE_AUTO_EOI,
    };
    [
        leaf(0x4000_0000, [0x4000_0005, VENDOR[0], VENDOR[1], VENDOR[2]]),
        leaf(0x4000_0001, [INTERFACE, 0, 0, 0]),
        leaf(0x4000_0002, [build(role), 10 << 16, 0, 0]),
        leaf(0x4000_0003, [low, privileges_high(role), 0, misc]),
        leaf(0x4000_0004, [advice, 0, 0, 0]),
        leaf(0x4000_0005, [vcpus, vcpus, 0, 0]),
        // Read by Linux whatever the highest leaf is. Undefined, it would be an alias of the
        // highest basic leaf on a virtual Intel CPU (`kvm: get_out_of_range_cpuid_entry`).
        leaf(0x4000_0082, [0; 4]),
    ]
}

/// Linux's MSHV driver warns of hypervisors other than those that it was tried on
/// (`mshv_root_main.c`: 27744 to 27751).
fn build(role: Role) -> u32 {
    match role {
        Role::Guest => 1,
        Role::L1vh | Role::Root | Role::NestedRoot => 27744,
    }
}

/// Linux takes itself for a parent by CreatePartitions, and for the root by CpuManagement with it
/// (`hv_identify_partition_type`).
fn privileges_high(role: Role) -> u32 {
    match role {
        Role::Guest => PRIVILEGES_HIGH,
        Role::L1vh => PRIVILEGES_HIGH | PARENT,
        Role::Root | Role::NestedRoot => PRIVILEGES_HIGH | PARENT | CPU_MANAGEMENT,
    }
}

fn leaf(function: u32, [eax, ebx, ecx, edx]: [u32; 4]) -> kvm_cpuid_entry2 {
    kvm_cpuid_entry2 {
        function,
        eax,
        ebx,
        ecx,
        edx,
        ..Default::default()
    }
}

const HYPERVISOR_LEAVES: std::ops::Range<u32> = 0x4000_0000..0x5000_0000;
const HYPERVISOR_PRESENT: u32 = 1 << 31;
/// "Microsoft Hv".
const VENDOR: [u32; 3] = [
    u32::from_le_bytes(*b"Micr"),
    u32::from_le_bytes(*b"osof"),
    u32::from_le_bytes(*b"t Hv"),
];
/// "Hv#1".
const INTERFACE: u32 = u32::from_le_bytes(*b"Hv#1");
/// Reference counter, SynIC MSRs, hypercall MSRs, VP index, reference TSC page, frequency MSRs.
const PRIVILEGES_LOW: u32 = 1 << 1 | 1 << 2 | 1 << 5 | 1 << 6 | 1 << 9 | 1 << 11;
const SYNTHETIC_TIMERS: u32 = 1 << 3;
/// HvPostMessage and HvSignalEvent.
const PRIVILEGES_HIGH: u32 = 1 << 4 | 1 << 5;
/// CreatePartitions, AccessMemoryPool, CreatePort, ConnectPort, AccessStats. Not AccessPartitionId:
/// an L1VH names itself by `HV_PARTITION_ID_SELF`.
const PARENT: u32 = 1 << 0 | 1 << 2 | 1 << 6 | 1 << 7 | 1 << 8;
const CPU_MANAGEMENT: u32 = 1 << 12;
/// The frequency MSRs are there; with them Linux needs no PIT to measure the TSC by.
const FREQUENCY_MSRS: u32 = 1 << 8;
/// The guest can report that it has crashed.
const CRASH_MSRS: u32 = 1 << 10;
const DIRECT_TIMERS: u32 = 1 << 19;
const DEPRECATE_AUTO_EOI: u32 = 1 << 9;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_vcpu_when_the_leaf_names_the_cpu_carries_its_apic_id() {
        let first = of_vcpu(leaf(1, [0, 0xaa12_3456, 0, 0]), 3);
        assert_eq!((first.ebx, first.ecx), (0x0312_3456, HYPERVISOR_PRESENT));
        assert_eq!(of_vcpu(leaf(0xb, [0; 4]), 3).edx, 3);
    }

    #[test]
    fn hyperv_leaves_spell_vendor_and_interface() {
        let [vendor, interface, ..] = hyperv_leaves(2, Enlightenments::default(), Role::Guest);
        assert_eq!(
            (vendor.ebx, vendor.ecx, vendor.edx),
            (0x7263_694d, 0x666f_736f, 0x7648_2074)
        );
        assert_eq!(interface.eax, 0x3123_7648);
    }

    #[test]
    fn hyperv_leaves_tell_a_parent_from_a_guest_and_the_root_from_an_l1vh() {
        let high = |role| hyperv_leaves(2, Enlightenments::default(), role)[3].ebx;
        let (create, manage) = (1, 1 << 12);
        let bits = [Role::Guest, Role::L1vh, Role::Root].map(|role| high(role) & (create | manage));
        assert_eq!(bits, [0, create, create | manage]);
    }
}
