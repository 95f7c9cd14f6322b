// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! The one key of QEMU's fw_cfg device that bare-metal test images read: the number of CPUs.

use std::sync::Mutex;

use vm_synic::VpIndex;

use super::{PortDevice, PortWrite};

/// Answers key 5 (`FW_CFG_NB_CPUS`); every other key reads as zeroes, as an unknown one does.
///
/// There is no signature key and no DMA: no image that runs here asks for them.
#[derive(Debug)]
pub struct FwCfg {
    vcpus: u16,
    state: Mutex<Selection>,
}

impl FwCfg {
    /// For a VM of `vcpus` vCPUs.
    pub fn new(vcpus: u16) -> Self {
        Self {
            vcpus,
            state: Mutex::default(),
        }
    }

    fn next_byte(&self) -> u8 {
        let mut state = self.state.lock().unwrap_or_else(|e| e.into_inner());
        let value = match state.key {
            NB_CPUS => self.vcpus.to_le_bytes(),
            _ => [0; 2],
        };
        let byte = value.get(usize::from(state.offset)).copied();
        state.offset = state.offset.saturating_add(1);
        byte.unwrap_or(0)
    }
}

impl PortDevice for FwCfg {
    fn read(&self, port: u16, data: &mut [u8]) {
        if port == DATA {
            data.fill_with(|| self.next_byte());
        }
    }

    fn write(&self, _: VpIndex, port: u16, data: &[u8]) -> PortWrite {
        if let (SELECTOR, Ok(key)) = (port, data.try_into()) {
            let key = u16::from_le_bytes(key);
            *self.state.lock().unwrap_or_else(|e| e.into_inner()) = Selection { key, offset: 0 };
        }
        PortWrite::Continue
    }
}

#[derive(Debug, Default)]
struct Selection {
    key: u16,
    offset: u8,
}

const SELECTOR: u16 = 0x510;
const DATA: u16 = 0x511;
const NB_CPUS: u16 = 5;

#[cfg(test)]
mod tests {
    use super::*;

    fn select(device: &FwCfg, key: u16) {
        let written = device.write(VpIndex::new(0), SELECTOR, &key.to_le_bytes());
        assert_eq!(written, PortWrite::Continue);
    }

    fn read<const N: usize>(device: &FwCfg) -> [u8; N] {
        std::array::from_fn(|_| {
            let mut byte = [0xff];
            device.read(DATA, &mut byte);
            byte[0]
        })
    }

    #[test]
    fn read_when_the_number_of_cpus_is_selected_yields_it_little_endian_then_zeroes() {
        let device = FwCfg::new(0x0102);
        select(&device, NB_CPUS);
        assert_eq!(read(&device), [2, 1, 0, 0]);
    }

    #[test]
    fn write_when_selecting_again_starts_over() {
        let device = FwCfg::new(4);
        select(&device, NB_CPUS);
        assert_eq!(read(&device), [4]);
        select(&device, NB_CPUS);
        assert_eq!(read(&device), [4, 0]);
    }

    #[test]
    fn read_when_an_unknown_key_is_selected_yields_zeroes() {
        let device = FwCfg::new(4);
        select(&device, 0x19);
        assert_eq!(read(&device), [0; 4]);
    }
}
