// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! Devices on I/O ports and in the memory space.

use std::collections::BTreeMap;
use std::ops::{Range, RangeInclusive};
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use vm_synic::VpIndex;

pub(crate) mod cmos;
mod console;
mod debug_exit;
mod fw_cfg;
mod hyperv_testdev;
mod ioapic;
pub(crate) mod power;
mod serial;
mod serial_input;

pub use cmos::Cmos;
pub use console::Console;
pub use debug_exit::{DebugExit, exit_status};
pub use fw_cfg::FwCfg;
pub use hyperv_testdev::HypervTestdev;
pub use ioapic::{IoApic, Msi, SendMsi};
pub use power::Power;
pub use serial::{InterruptLine, SerialPort};
pub use serial_input::SerialInput;

/// A device that a guest reaches by IN and OUT, from any of its vCPUs at the same time.
pub trait PortDevice: Send + Sync {
    /// Answers an IN; `data` holds all ones, which is what an empty bus reads as.
    fn read(&self, port: u16, data: &mut [u8]) {
        let _ = (port, data);
    }

    /// Takes an OUT. A string instruction may bring several accesses at once.
    fn write(&self, vp: VpIndex, port: u16, data: &[u8]) -> PortWrite;

    /// The VM is reset; no vCPU runs.
    fn reset(&self) {}

    /// What it has to say in a saved state; no vCPU runs.
    fn save(&self) -> Value {
        Value::Null
    }

    /// Takes what it said.
    fn restore(&self, state: &Value) -> Result<()> {
        ensure!(state.is_null(), "the device has no state");
        Ok(())
    }
}

/// A device that a guest reaches by loads and stores, from any of its vCPUs at the same time.
pub trait MmioDevice: Send + Sync {
    /// Answers a load; `data` holds all ones, which is what an empty bus reads as.
    fn read(&self, offset: u64, data: &mut [u8]) {
        let _ = (offset, data);
    }

    /// Takes a store.
    fn write(&self, vp: VpIndex, offset: u64, data: &[u8]);

    /// The VM is reset; no vCPU runs.
    fn reset(&self) {}

    /// What it has to say in a saved state; no vCPU runs.
    fn save(&self) -> Value {
        Value::Null
    }

    /// Takes what it said.
    fn restore(&self, state: &Value) -> Result<()> {
        ensure!(state.is_null(), "the device has no state");
        Ok(())
    }
}

/// What follows from an OUT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum PortWrite {
    /// The guest goes on.
    Continue,
    /// The guest asks to end the VM, with this value.
    Exit(u32),
    /// The guest turns the machine off.
    PowerOff,
    /// The guest resets the machine.
    Reset,
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

    /// Resets every device.
    pub fn reset(&self) {
        self.0.iter().for_each(|(_, device)| device.reset());
    }

    /// What each device has to say in a saved state.
    pub fn save(&self) -> Saved {
        self.by_place()
            .map(|(place, device)| (place, device.save()))
            .collect()
    }

    /// Devices at the same places take what those said.
    pub fn restore(&self, saved: &Saved) -> Result<()> {
        restore_each(saved, self.by_place(), |device, state| {
            device.restore(state)
        })
    }

    fn by_place(&self) -> impl Iterator<Item = (String, &dyn PortDevice)> {
        let devices = self.0.iter();
        devices.map(|(ports, device)| (format!("{:#x}", ports.start()), device.as_ref()))
    }

    fn at(&self, port: u16) -> Option<&dyn PortDevice> {
        let found = self.0.iter().find(|(ports, _)| ports.contains(&port));
        found.map(|(_, device)| device.as_ref())
    }
}

/// The memory space of a VM beside its RAM.
#[derive(Clone, Default)]
pub struct MmioBus(Vec<(Range<u64>, Arc<dyn MmioDevice>)>);

impl MmioBus {
    /// Adds `device` at `gpas`; where two overlap, the first one added answers.
    pub fn add(&mut self, gpas: Range<u64>, device: Arc<dyn MmioDevice>) {
        self.0.push((gpas, device));
    }

    /// Answers a load.
    pub fn read(&self, gpa: u64, data: &mut [u8]) {
        data.fill(0xff);
        if let Some((offset, device)) = self.at(gpa) {
            device.read(offset, data);
        }
    }

    /// Passes on a store; false if no device is there.
    pub fn write(&self, vp: VpIndex, gpa: u64, data: &[u8]) -> bool {
        let found = self.at(gpa);
        found
            .inspect(|(offset, device)| device.write(vp, *offset, data))
            .is_some()
    }

    /// Resets every device.
    pub fn reset(&self) {
        self.0.iter().for_each(|(_, device)| device.reset());
    }

    /// What each device has to say in a saved state.
    pub fn save(&self) -> Saved {
        self.by_place()
            .map(|(place, device)| (place, device.save()))
            .collect()
    }

    /// Devices at the same places take what those said.
    pub fn restore(&self, saved: &Saved) -> Result<()> {
        restore_each(saved, self.by_place(), |device, state| {
            device.restore(state)
        })
    }

    fn by_place(&self) -> impl Iterator<Item = (String, &dyn MmioDevice)> {
        let devices = self.0.iter();
        devices.map(|(gpas, device)| (format!("{:#x}", gpas.start), device.as_ref()))
    }

    fn at(&self, gpa: u64) -> Option<(u64, &dyn MmioDevice)> {
        let found = self.0.iter().find(|(gpas, _)| gpas.contains(&gpa));
        found.map(|(gpas, device)| (gpa - gpas.start, device.as_ref()))
    }
}

/// What devices have to say, by the first port or address of each.
pub type Saved = BTreeMap<String, Value>;

/// Has each device take its part; there is to be no other.
fn restore_each<D>(
    saved: &Saved,
    devices: impl Iterator<Item = (String, D)>,
    restore: impl Fn(D, &Value) -> Result<()>,
) -> Result<()> {
    let devices: Vec<_> = devices.collect();
    let is_there = |place: &String| devices.iter().any(|(there, _)| there == place);
    let stray = saved.keys().find(|place| !is_there(place));
    ensure!(stray.is_none(), "{stray:?}: there is no such device");
    devices.into_iter().try_for_each(|(place, device)| {
        let state = saved.get(&place).unwrap_or(&Value::Null);
        restore(device, state).with_context(|| format!("{place:?}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU64, Ordering};

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

    /// Answers a load with its offset.
    struct Offsets(AtomicU64);

    impl MmioDevice for Offsets {
        fn read(&self, offset: u64, data: &mut [u8]) {
            data.fill(offset as u8);
        }

        fn write(&self, _: VpIndex, offset: u64, _: &[u8]) {
            self.0.store(offset, Ordering::SeqCst);
        }
    }

    #[test]
    fn mmio_access_of_a_device_reaches_it_by_its_offset_and_nothing_else_does() {
        let device = Arc::new(Offsets(AtomicU64::new(0)));
        let mut bus = MmioBus::default();
        bus.add(0x1000..0x2000, device.clone());
        let (vp, mut data) = (VpIndex::new(0), [0; 2]);
        assert!(bus.write(vp, 0x1010, &[1]) && !bus.write(vp, 0x2000, &[1]));
        assert_eq!(device.0.load(Ordering::SeqCst), 0x10);
        bus.read(0x1020, &mut data);
        assert_eq!(data, [0x20; 2]);
        bus.read(0xfff, &mut data);
        assert_eq!(data, [0xff; 2]);
    }
}
