// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! The clock in a PC's CMOS (Motorola MC146818A), to be read only.
//!
//! ACPI says that there is none, because it has no alarm and cannot be set. Linux asks it for the
//! time at boot all the same (`mach_get_cmos_time`), and where nothing answers it waits a second for
//! an update to end, which is thousands of exits.

use std::fmt;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Result;
use serde::Deserialize;
use serde_json::Value;
use vm_synic::VpIndex;

use super::{PortDevice, PortWrite};

/// The clock, at two ports.
pub struct Cmos {
    index: AtomicU8,
    now: Box<dyn Fn() -> u64 + Send + Sync>,
}

impl Cmos {
    /// It tells the host's time, in UTC.
    pub fn new() -> Self {
        let since_1970 = || SystemTime::now().duration_since(UNIX_EPOCH);
        Self::with(Box::new(move || since_1970().map_or(0, |t| t.as_secs())))
    }

    /// `now` is in seconds since 1970.
    fn with(now: Box<dyn Fn() -> u64 + Send + Sync>) -> Self {
        let index = AtomicU8::new(0);
        Self { index, now }
    }

    fn register(&self) -> u8 {
        let now = (self.now)();
        let (year, month, day) = date(now / SECONDS_PER_DAY);
        let of_day = now % SECONDS_PER_DAY;
        // 1970-01-01 was a Thursday, and Sunday is 1.
        let weekday = (now / SECONDS_PER_DAY + 4) % 7 + 1;
        match self.index.load(Ordering::SeqCst) {
            0x0 => bcd(of_day % 60),
            0x2 => bcd(of_day / 60 % 60),
            0x4 => bcd(of_day / 3600),
            0x6 => bcd(weekday),
            0x7 => bcd(day),
            0x8 => bcd(month),
            0x9 => bcd(year % 100),
            REGISTER_B => MODE_24_HOURS,
            REGISTER_D => TIME_IS_VALID,
            // Register A among them: no update is in progress.
            _ => 0,
        }
    }
}

impl Default for Cmos {
    fn default() -> Self {
        Self::new()
    }
}

impl PortDevice for Cmos {
    fn read(&self, port: u16, data: &mut [u8]) {
        if port == DATA {
            data.fill_with(|| self.register());
        }
    }

    fn write(&self, _: VpIndex, port: u16, data: &[u8]) -> PortWrite {
        if let (INDEX, Some(index)) = (port, data.last()) {
            // Bit 7 masks NMIs.
            self.index.store(index & 0x7f, Ordering::SeqCst);
        }
        PortWrite::Continue
    }

    /// The index; the time is the host's.
    fn save(&self) -> Value {
        self.index.load(Ordering::SeqCst).into()
    }

    fn restore(&self, state: &Value) -> Result<()> {
        let index = u8::deserialize(state)?;
        self.index.store(index & 0x7f, Ordering::SeqCst);
        Ok(())
    }
}

impl fmt::Debug for Cmos {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cmos").finish_non_exhaustive()
    }
}

/// Year, month and day of a day since 1970, by eras of 400 years that begin in March.
fn date(days: u64) -> (u64, u64, u64) {
    let since_0000_03_01 = days + 719_468;
    let (era, day) = (since_0000_03_01 / 146_097, since_0000_03_01 % 146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let of_year = day - (365 * year + year / 4 - year / 100);
    let march_based = (5 * of_year + 2) / 153;
    let day = of_year - (153 * march_based + 2) / 5 + 1;
    let month = (march_based + 2) % 12 + 1;
    (era * 400 + year + u64::from(month <= 2), month, day)
}

/// Of a number below 100.
fn bcd(number: u64) -> u8 {
    (number / 10 * 16 + number % 10) as u8
}

/// The first of the two ports.
pub const INDEX: u16 = 0x70;
/// The second.
pub const DATA: u16 = 0x71;

const SECONDS_PER_DAY: u64 = 86_400;
const REGISTER_B: u8 = 0xb;
const REGISTER_D: u8 = 0xd;
const MODE_24_HOURS: u8 = 1 << 1;
const TIME_IS_VALID: u8 = 1 << 7;

#[cfg(test)]
mod tests {
    use super::*;

    fn read(cmos: &Cmos, register: u8) -> u8 {
        let mut data = [0xff];
        let written = cmos.write(VpIndex::new(0), INDEX, &[register]);
        assert_eq!(written, PortWrite::Continue);
        cmos.read(DATA, &mut data);
        data[0]
    }

    #[test]
    fn read_of_the_clock_is_the_time_in_bcd() {
        // 2024-02-29 23:59:58, a Thursday.
        let cmos = Cmos::with(Box::new(|| 1_709_251_198));
        let time = [9, 8, 7, 6, 4, 2, 0].map(|register| read(&cmos, register));
        assert_eq!(time, [0x24, 0x02, 0x29, 0x05, 0x23, 0x59, 0x58]);
    }

    #[test]
    fn read_of_the_status_is_a_valid_24_hour_clock_that_does_not_update() {
        let cmos = Cmos::new();
        assert_eq!([0x8a, 0xb, 0xd].map(|r| read(&cmos, r)), [0, 0x02, 0x80]);
    }

    #[test]
    fn date_of_days_around_the_ends_of_years_and_centuries_is_right() {
        let dates = [0, 58, 59, 364, 365, 10_956, 11_016, 47_541].map(date);
        let expected = [
            (1970, 1, 1),
            (1970, 2, 28),
            (1970, 3, 1),
            (1970, 12, 31),
            (1971, 1, 1),
            (1999, 12, 31),
            (2000, 2, 29),
            (2100, 3, 1),
        ];
        assert_eq!(dates, expected);
    }
}
