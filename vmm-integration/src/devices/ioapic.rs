// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! An I/O APIC (Intel 82093AA) for VMs whose LAPICs alone are in the kernel.
//!
//! All interrupts of this machine are edge-triggered, and so is every pin here, whatever a guest
//! programs: a level-triggered one would need the LAPICs' EOIs.

use std::io;
use std::sync::{Mutex, MutexGuard};

use anyhow::Result;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use vm_synic::VpIndex;

use super::MmioDevice;

/// The interrupt of a pin, as a message to the LAPICs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Msi {
    /// The address, below 4 GiB.
    pub address: u32,
    /// The data.
    pub data: u32,
}

/// Brings a message to the LAPICs.
pub type SendMsi = Box<dyn Fn(Msi) -> io::Result<()> + Send + Sync>;

/// The device.
pub struct IoApic {
    state: Mutex<State>,
    send: SendMsi,
}

#[derive(Serialize, Deserialize)]
struct State {
    select: u8,
    id: u32,
    pins: [u64; PINS],
}

impl IoApic {
    /// An I/O APIC with all pins masked.
    pub fn new(send: SendMsi) -> Self {
        let state = Mutex::new(State::new());
        Self { state, send }
    }

    /// Has a rising edge at a pin; masked, it is lost, as on hardware.
    pub fn pulse(&self, pin: u32) -> io::Result<()> {
        let msi = usize::try_from(pin)
            .ok()
            .and_then(|pin| self.lock().pins.get(pin).copied())
            .and_then(message);
        msi.map_or(Ok(()), |msi| (self.send)(msi))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // The critical sections cannot panic, and the state is valid at any time.
        self.state.lock().unwrap_or_else(|e| e.into_inner())
    }
}

impl MmioDevice for IoApic {
    fn read(&self, offset: u64, data: &mut [u8]) {
        let state = self.lock();
        let value = match offset {
            SELECT => state.select.into(),
            WINDOW => state.read(),
            _ => return,
        };
        data.iter_mut()
            .zip(value.to_le_bytes())
            .for_each(|(to, from)| *to = from);
    }

    fn write(&self, _: VpIndex, offset: u64, data: &[u8]) {
        let bytes = data.iter().take(4).rev();
        let value = bytes.fold(0, |value, byte| value << 8 | u32::from(*byte));
        let mut state = self.lock();
        match offset {
            SELECT => state.select = value as u8,
            WINDOW => state.write(value),
            _ => {}
        }
    }

    fn reset(&self) {
        *self.lock() = State::new();
    }

    fn save(&self) -> Value {
        json!(*self.lock())
    }

    fn restore(&self, state: &Value) -> Result<()> {
        let mut state = State::deserialize(state)?;
        state.pins.iter_mut().for_each(|pin| *pin &= !READ_ONLY);
        *self.lock() = state;
        Ok(())
    }
}

impl State {
    fn new() -> Self {
        Self {
            select: 0,
            id: 0,
            pins: [MASKED; PINS],
        }
    }

    fn read(&self) -> u32 {
        match (self.select, pin(self.select)) {
            (REG_ID | REG_ARBITRATION, _) => self.id,
            (REG_VERSION, _) => VERSION | (PINS as u32 - 1) << 16,
            (_, Some((pin, shift))) => self.pins.get(pin).map_or(0, |p| (p >> shift) as u32),
            _ => 0,
        }
    }

    fn write(&mut self, value: u32) {
        match pin(self.select) {
            Some((pin, shift)) => {
                if let Some(pin) = self.pins.get_mut(pin) {
                    let kept = *pin & !(0xffff_ffff << shift);
                    *pin = (kept | u64::from(value) << shift) & !READ_ONLY;
                }
            }
            None if self.select == REG_ID => self.id = value & 0x0f00_0000,
            None => {}
        }
    }
}

/// The pin whose redirection entry a register is half of, and the shift of that half.
fn pin(select: u8) -> Option<(usize, u32)> {
    let register = select.checked_sub(REG_PINS)?;
    let pin = usize::from(register / 2);
    (pin < PINS).then_some((pin, u32::from(register % 2) * 32))
}

/// The message of a redirection entry, if it is not masked.
fn message(entry: u64) -> Option<Msi> {
    let logical = entry & 1 << 11 != 0;
    let destination = (entry >> 56) as u32;
    (entry & MASKED == 0).then_some(Msi {
        address: 0xfee0_0000 | destination << 12 | u32::from(logical) << 2,
        // Vector and delivery mode.
        data: (entry & 0x7ff) as u32,
    })
}

const PINS: usize = 24;
const SELECT: u64 = 0;
const WINDOW: u64 = 0x10;
const REG_ID: u8 = 0;
const REG_VERSION: u8 = 1;
const REG_ARBITRATION: u8 = 2;
const REG_PINS: u8 = 0x10;
const VERSION: u32 = 0x11;
const MASKED: u64 = 1 << 16;
/// Delivery status and remote IRR.
const READ_ONLY: u64 = 1 << 12 | 1 << 14;

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, mpsc};

    fn ioapic() -> (IoApic, mpsc::Receiver<Msi>) {
        let (sender, sent) = mpsc::channel();
        let send = move |msi| sender.send(msi).map_err(io::Error::other);
        (IoApic::new(Box::new(send)), sent)
    }

    fn set(ioapic: &IoApic, register: u8, value: u32) {
        let vp = VpIndex::new(0);
        ioapic.write(vp, SELECT, &u32::from(register).to_le_bytes());
        ioapic.write(vp, WINDOW, &value.to_le_bytes());
    }

    fn get(ioapic: &IoApic, register: u8) -> u32 {
        let mut data = [0; 4];
        ioapic.write(VpIndex::new(0), SELECT, &[register]);
        ioapic.read(WINDOW, &mut data);
        u32::from_le_bytes(data)
    }

    #[test]
    fn read_of_the_version_names_24_pins() {
        assert_eq!(get(&ioapic().0, 1), 0x17_0011);
    }

    #[test]
    fn read_of_an_entry_when_it_was_written_returns_it_without_its_read_only_bits() {
        let (ioapic, _sent) = ioapic();
        set(&ioapic, 0x19, 0x0300_0000);
        set(&ioapic, 0x18, 0x5022 | 1 << 11);
        assert_eq!(get(&ioapic, 0x18), 0x22 | 1 << 11);
        assert_eq!(get(&ioapic, 0x19), 0x0300_0000);
        assert_eq!(get(&ioapic, 0x1a), MASKED as u32);
    }

    #[test]
    fn pulse_when_the_pin_is_programmed_sends_its_message() {
        let (ioapic, sent) = ioapic();
        set(&ioapic, 0x19, 0x0300_0000);
        set(&ioapic, 0x18, 0x22 | 1 << 8 | 1 << 11);
        ioapic.pulse(4).unwrap();
        let msi = Msi {
            address: 0xfee0_3004,
            data: 0x122,
        };
        assert_eq!(sent.try_recv(), Ok(msi));
    }

    #[test]
    fn pulse_when_the_pin_is_masked_or_absent_or_after_a_reset_sends_nothing() {
        let (ioapic, sent) = ioapic();
        let ioapic = Arc::new(ioapic);
        ioapic.pulse(4).unwrap();
        ioapic.pulse(24).unwrap();
        set(&ioapic, 0x18, 0x22);
        ioapic.reset();
        ioapic.pulse(4).unwrap();
        assert!(sent.try_recv().is_err());
    }
}
