// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! Properties of partitions (Linux `enum hv_partition_property_code`).

use vm_synic::{HvStatus, HypercallInput, PartitionId};

use super::{Hypervisor, deny_if};

impl Hypervisor {
    /// {u64 partition, u32 code, u32 0}, to {u64 value}.
    pub(super) fn get_property(&self, input: HypercallInput) -> Result<(), HvStatus> {
        let memory = self.memory.as_ref();
        let [partition, code] = input.qwords(memory)?;
        let value = self.property(partition, property_code(code)?)?;
        input.write(memory, 0, &value.to_le_bytes())
    }

    /// {u64 partition, u32 code, u32 0, u64 argument}, to a value of the code's own size.
    pub(super) fn get_property_ex(&self, input: HypercallInput) -> Result<(), HvStatus> {
        let memory = self.memory.as_ref();
        let [partition, code, _argument] = input.qwords(memory)?;
        let code = property_code(code)?;
        if code == VMM_CAPABILITIES {
            let is_known = self.lock().has_partition(partition);
            deny_if(!is_known, HvStatus::InvalidPartitionId)?;
            let [banks, capabilities] = [1, CAN_PROVIDE_OVERLAY_GPFN].map(u64::to_le_bytes);
            return input.write(memory, 0, &[banks, capabilities].concat());
        }
        let value = self.property(partition, code)?;
        input.write(memory, 0, &value.to_le_bytes())
    }

    /// {u64 partition, u32 code, u32 0, u64 value}.
    pub(super) fn set_property(&self, input: HypercallInput) -> Result<(), HvStatus> {
        let [partition, code, value] = input.qwords(self.memory.as_ref())?;
        let code = property_code(code)?;
        let is_early = code == SYNTHETIC_PROC_FEATURES;
        let is_known = KNOWN.contains(&code);
        let mut state = self.lock();
        let partition = state.partition(partition)?;
        deny_if(!is_known, HvStatus::UnknownProperty)?;
        partition.set_property(code, value, is_early)
    }

    fn property(&self, partition: u64, code: u32) -> Result<u64, HvStatus> {
        let mut state = self.lock();
        let set = match PartitionId::new(partition) {
            PartitionId::SELF => None,
            _ => state.partition(partition)?.property(code),
        };
        let is_known = KNOWN.contains(&code) || READ_ONLY.contains(&code);
        deny_if(!is_known, HvStatus::UnknownProperty)?;
        Ok(set.unwrap_or(0))
    }
}

fn property_code(qword: u64) -> Result<u32, HvStatus> {
    u32::try_from(qword).map_err(|_| HvStatus::InvalidParameter)
}

const PRIVILEGE_FLAGS: u32 = 0x0001_0000;
const SYNTHETIC_PROC_FEATURES: u32 = 0x0001_0001;
const SUSPEND: u32 = 0x0002_0000;
const TIME_FREEZE: u32 = 0x0003_0003;
const UNIMPLEMENTED_MSR_ACTION: u32 = 0x0005_0017;
/// Those that can be set; they read 0 until then.
const KNOWN: [u32; 5] = [
    PRIVILEGE_FLAGS,
    SYNTHETIC_PROC_FEATURES,
    SUSPEND,
    TIME_FREEZE,
    UNIMPLEMENTED_MSR_ACTION,
];
/// The processor's features, two banks: what a VMM may give to its VPs. None here, without VPs.
const READ_ONLY: [u32; 2] = [0x0006_000A, 0x0006_000B];
/// {u16 number of banks, 6 bytes, u64 capabilities} (`hv_partition_property_vmm_capabilities`).
const VMM_CAPABILITIES: u32 = 0x0009_0007;
/// The parent names the page where the hypervisor is to show statistics
/// (`vmm_can_provide_overlay_gpfn`).
const CAN_PROVIDE_OVERLAY_GPFN: u64 = 1 << 1;
