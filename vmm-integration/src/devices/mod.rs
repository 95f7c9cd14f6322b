// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! Devices on I/O ports.

use std::ops::RangeInclusive;
use std::sync::Arc;

use vm_synic::VpIndex;

mod debug_exit;
mod fw_cfg;
mod hyperv_testdev;
mod serial;

pub use debug_exit::{DebugExit, exit_status};
pub use fw_cfg::FwCfg;
pub use hyperv_testdev::HypervTestdev;
pub use serial::{Console, SerialPort};

/// A device that a guest reaches by IN and OUT, from any of its vCPUs at the same time.
pub trait PortDevice: Send + Sync {
    /// Answers an IN; `data` holds all ones, which is what an empty bus reads as.
    fn read(&self, port: u16, data: &mut [u8]) {
        let _ = (port, data);
    }

    /// Takes an OUT. A string instruction may bring several accesses at once.
    fn write(&self, vp: VpIndex, port: u16, data: &[u8]) -> PortWrite;
}

/// What follows from an OUT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum PortWrite {
    /// The guest goes on.
    Continue,
    /// The guest asks to end the VM, with this value.
    Exit(u32),
}

/// The I/O ports of a VM.
#[derive(Clone, Default)]
pub struct PortBus(Vec<(RangeInclusive<u16>, Arc<dyn PortDevice>)>);

impl PortBus {
    /// Adds `device` at `ports`; where two overlap, the first one added answers.
    pub fn add(&mut self, ports: RangeInclusive<u16>, device: Arc<dyn PortDevice>) {
        self.0.push((ports, device));
    }

    /// Answers an IN.
    pub fn read(&self, port: u16, data: &mut [u8]) {
        data.fill(0xff);
        if let Some(device) = self.at(port) {
            device.read(port, data);
        }
    }

    /// Passes on an OUT; what no device takes is ignored.
    pub fn write(&self, vp: VpIndex, port: u16, data: &[u8]) -> PortWrite {
        self.at(port)
            .map_or(PortWrite::Continue, |device| device.write(vp, port, data))
    }

    fn at(&self, port: u16) -> Option<&dyn PortDevice> {
        let found = self.0.iter().find(|(ports, _)| ports.contains(&port));
        found.map(|(_, device)| device.as_ref())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn read_when_no_device_is_there_yields_all_ones() {
        let mut data = [0; 4];
        PortBus::default().read(0x1234, &mut data);
        assert_eq!(data, [0xff; 4]);
    }

    #[test]
    fn write_when_two_devices_are_there_reaches_the_one_at_the_port() {
        let mut bus = PortBus::default();
        bus.add(0xf4..=0xf7, Arc::new(DebugExit));
        let vp = VpIndex::new(0);
        assert_eq!(bus.write(vp, 0xf4, &7u32.to_le_bytes()), PortWrite::Exit(7));
        assert_eq!(
            bus.write(vp, 0xf8, &7u32.to_le_bytes()),
            PortWrite::Continue
        );
    }
}
