// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! Seeds of `message_parse`.

use super::Seeds;
use vm_synic::abi::{MESSAGE_PAYLOAD_MAX, MESSAGE_SIZE};

/// One slot of each type, its payload counting from 0, as long as a payload can be.
pub fn message_parse() -> Seeds {
    let mut seeds: Seeds = vec![("empty", vec![0; 1 + MESSAGE_SIZE])];
    for (name, message_type) in MESSAGE_TYPES {
        let mut slot = vec![u8::from(name.starts_with("arm64"))];
        slot.extend(message_type.to_le_bytes());
        slot.extend([MESSAGE_PAYLOAD_MAX as u8, 0, 0, 0]);
        slot.extend(9u64.to_le_bytes());
        slot.extend(payload(message_type));
        seeds.push((name, slot));
    }
    seeds
}

fn payload(message_type: u32) -> Vec<u8> {
    let mut payload: Vec<_> = (0..MESSAGE_PAYLOAD_MAX as u8).collect();
    match message_type {
        0x8000_0061 => payload[..4].copy_from_slice(&[5, 0, 0, 0]),
        0x8000_0100 => {
            payload[16..24].fill(0);
            payload[24..32].copy_from_slice(&[5, 0x80, 0, 0, 0, 0, 0, 0]);
        }
        0x8000_0101 => payload[4] = 19,
        _ => {}
    }
    payload
}

const MESSAGE_TYPES: [(&str, u32); 35] = [
    ("vmbus", 1),
    ("unmapped_gpa", 0x8000_0000),
    ("gpa_intercept", 0x8000_0001),
    ("not_a_type", 0x8000_0002),
    ("unaccepted_gpa", 0x8000_0003),
    ("gpa_attribute", 0x8000_0004),
    ("timer_expired", 0x8000_0010),
    ("invalid_vp_register", 0x8000_0020),
    ("unrecoverable_exception", 0x8000_0021),
    ("unsupported_feature", 0x8000_0022),
    ("opaque_intercept", 0x8000_003F),
    ("eventlog", 0x8000_0040),
    ("hypercall", 0x8000_0050),
    ("synic_event", 0x8000_0060),
    ("synic_sint", 0x8000_0061),
    ("sint_deliverable", 0x8000_0062),
    ("async_completion", 0x8000_0070),
    ("signal_bitset", 0x8000_0100),
    ("signal_pair", 0x8000_0101),
    ("io_port", 0x8001_0000),
    ("msr", 0x8001_0001),
    ("cpuid", 0x8001_0002),
    ("exception", 0x8001_0003),
    ("apic_eoi", 0x8001_0004),
    ("legacy_fp_error", 0x8001_0005),
    ("iommu_prq", 0x8001_0006),
    ("halt", 0x8001_0007),
    ("interruption_deliverable", 0x8001_0008),
    ("sipi", 0x8001_0009),
    ("vmgexit", 0x8001_0013),
    ("arm64_unmapped_gpa", 0x8000_0000),
    ("arm64_gpa_intercept", 0x8000_0001),
    ("arm64_sint_deliverable", 0x8000_0062),
    ("arm64_reset", 0x8001_000C),
    ("arm64_not_a_type", 0x8001_0001),
];
