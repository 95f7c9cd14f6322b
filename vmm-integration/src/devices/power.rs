// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! The ports by which a guest turns the machine off or resets it.

use vm_synic::VpIndex;

use super::{PortDevice, PortWrite};

/// ACPI's sleep registers, its reset register, which is that of a PC's chipset, and the reset line
/// of a PC's keyboard controller. Without state: a guest is off or reset at once.
#[derive(Clone, Copy, Debug)]
pub struct Power;

impl PortDevice for Power {
    /// All zero: never woken up, and a keyboard controller that is ready for a command.
    fn read(&self, _: u16, data: &mut [u8]) {
        data.fill(0);
    }

    fn write(&self, _: VpIndex, port: u16, data: &[u8]) -> PortWrite {
        let Some(value) = data.first().copied() else {
            return PortWrite::Continue;
        };
        let sleep_type = value >> SLEEP_TYPE_SHIFT & SLEEP_TYPE_MASK;
        match port {
            SLEEP_CONTROL if value & SLEEP_ENABLE != 0 && sleep_type == SOFT_OFF => {
                PortWrite::PowerOff
            }
            RESET if value & RESET_CPU != 0 => PortWrite::Reset,
            KEYBOARD if value == KEYBOARD_PULSE_RESET => PortWrite::Reset,
            _ => PortWrite::Continue,
        }
    }
}

/// All ports of the device.
pub const PORTS: [u16; 4] = [SLEEP_CONTROL, SLEEP_STATUS, RESET, KEYBOARD];
/// The FADT's SLEEP_CONTROL_REG (ACPI Specification 6.5, 4.8.3.7).
pub const SLEEP_CONTROL: u16 = 0x600;
/// The FADT's SLEEP_STATUS_REG.
pub const SLEEP_STATUS: u16 = 0x601;
/// The sleep type of S5 in the DSDT.
pub const SOFT_OFF: u8 = 5;
/// The FADT's RESET_REG: the reset control register of PC chipsets, which guests also write
/// without asking ACPI.
pub const RESET: u16 = 0xcf9;
/// The FADT's RESET_VALUE.
pub const RESET_VALUE: u8 = RESET_CPU | 1 << 1;

const SLEEP_TYPE_SHIFT: u8 = 2;
const SLEEP_TYPE_MASK: u8 = 0x7;
const SLEEP_ENABLE: u8 = 1 << 5;
const RESET_CPU: u8 = 1 << 2;
const KEYBOARD: u16 = 0x64;
const KEYBOARD_PULSE_RESET: u8 = 0xfe;

#[cfg(test)]
mod tests {
    use super::*;

    fn write(port: u16, value: u8) -> PortWrite {
        Power.write(VpIndex::new(0), port, &[value])
    }

    #[test]
    fn write_of_sleep_control_when_it_enables_s5_powers_off() {
        assert_eq!(write(SLEEP_CONTROL, 5 << 2 | 1 << 5), PortWrite::PowerOff);
    }

    #[test]
    fn write_of_sleep_control_when_it_is_not_enabled_or_not_s5_does_nothing() {
        assert_eq!(write(SLEEP_CONTROL, 5 << 2), PortWrite::Continue);
        assert_eq!(write(SLEEP_CONTROL, 3 << 2 | 1 << 5), PortWrite::Continue);
        // Linux clears WAK_STS before it sleeps.
        assert_eq!(write(SLEEP_STATUS, 1 << 7), PortWrite::Continue);
    }

    #[test]
    fn write_of_each_way_to_reset_resets() {
        assert_eq!(write(RESET, RESET_VALUE), PortWrite::Reset);
        assert_eq!(write(KEYBOARD, 0xfe), PortWrite::Reset);
    }

    #[test]
    fn write_of_the_reset_port_when_the_cpu_bit_is_clear_does_nothing() {
        // Linux announces a hard reset (`native_machine_emergency_restart`) before it asks for it.
        assert_eq!(write(RESET, 1 << 1), PortWrite::Continue);
        assert_eq!(write(KEYBOARD, 0x20), PortWrite::Continue);
    }
}
