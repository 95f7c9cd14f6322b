// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! The SynIC registers: their numbers in both banks, and their bits.

use super::{Bank, SintIndex, TimerIndex};
use bitfield_struct::bitfield;
use std::fmt;

/// A register of one SynIC, or the VP's own index.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Register {
    /// The index of the VP; read-only, in the plain bank alone.
    VpIndex,
    /// The global enable bit.
    Scontrol,
    /// The version, always 1; read-only.
    Sversion,
    /// Base and enable bit of the event flags page.
    Siefp,
    /// Base and enable bit of the message page.
    Simp,
    /// End of message: written to ask for the next one, reads as 0.
    Eom,
    /// Base and enable bit of the event ring page.
    Sirbp,
    /// Vector and flags of one synthetic interrupt source.
    Sint(SintIndex),
    /// Mode and enable bit of one synthetic timer; in the plain bank alone.
    TimerConfig(TimerIndex),
    /// Expiration time or period of one synthetic timer; in the plain bank alone.
    TimerCount(TimerIndex),
}

impl Register {
    /// Whether it is of a synthetic timer.
    pub const fn is_timer(self) -> bool {
        matches!(self, Self::TimerConfig(_) | Self::TimerCount(_))
    }

    /// Whether a value of it enables or unmasks; never, for a register without such a bit.
    ///
    /// ```
    /// use vm_synic::SintIndex;
    /// use vm_synic::abi::Register;
    ///
    /// assert!(Register::Simp.is_on(0x5001));
    /// assert!(!Register::Sint(SintIndex::VMBUS).is_on(0x100F3));
    /// ```
    pub fn is_on(self, value: u64) -> bool {
        match self {
            Self::Scontrol => Scontrol::from(value).enable(),
            Self::Simp | Self::Siefp | Self::Sirbp => PageRegister::from(value).enabled(),
            Self::Sint(_) => !Sint::from(value).masked(),
            Self::TimerConfig(_) | Self::TimerCount(_) => false,
            Self::VpIndex | Self::Sversion | Self::Eom => false,
        }
    }

    /// CONFIG and COUNT of each timer alternate.
    fn of_timer(number: u32) -> Option<Self> {
        let timer = TimerIndex::try_from(number >> 1).ok()?;
        Some(if number & 1 == 0 {
            Self::TimerConfig(timer)
        } else {
            Self::TimerCount(timer)
        })
    }
}

impl fmt::Display for Register {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::VpIndex => f.write_str("VP_INDEX"),
            Self::Scontrol => f.write_str("SCONTROL"),
            Self::Sversion => f.write_str("SVERSION"),
            Self::Siefp => f.write_str("SIEFP"),
            Self::Simp => f.write_str("SIMP"),
            Self::Eom => f.write_str("EOM"),
            Self::Sirbp => f.write_str("SIRBP"),
            Self::Sint(sint) => sint.fmt(f),
            Self::TimerConfig(timer) => write!(f, "{timer}_CONFIG"),
            Self::TimerCount(timer) => write!(f, "{timer}_COUNT"),
        }
    }
}

/// A register and the bank it is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct RegisterId {
    /// Which SynIC.
    pub bank: Bank,
    /// Which register of it.
    pub register: Register,
}

impl RegisterId {
    /// The register behind an x86 MSR number; `None` if it is not of the SynIC.
    ///
    /// No MSR is defined for the nested SIRBP (Linux `hv_get_nested_msr` never redirects it);
    /// it is reached by its register name alone.
    pub fn from_msr(msr: u32) -> Option<Self> {
        if msr == MSR_VP_INDEX {
            return Some(Self::plain(Register::VpIndex));
        }
        if msr & !0xF == MSR_TIMERS {
            return Register::of_timer(msr & 0xF).map(Self::plain);
        }
        let bank = if msr & !0x1F == MSR_BASE {
            Bank::Plain
        } else if msr & !0x1F == MSR_BASE + NESTED_OFFSET {
            Bank::Nested
        } else {
            return None;
        };
        let register = match msr & 0x1F {
            0x00 => Register::Scontrol,
            0x01 => Register::Sversion,
            0x02 => Register::Siefp,
            0x03 => Register::Simp,
            0x04 => Register::Eom,
            0x05 if bank == Bank::Plain => Register::Sirbp,
            low @ 0x10..=0x1F => Register::Sint(low_nibble(low)?),
            _ => return None,
        };
        Some(Self { bank, register })
    }

    /// Its x86 MSR number, the inverse of [`from_msr`](Self::from_msr): a search, for whoever plays a
    /// guest.
    pub fn msr(self) -> Option<u32> {
        let plain = MSR_BASE..MSR_TIMERS + 8;
        let nested = MSR_BASE + NESTED_OFFSET..MSR_BASE + NESTED_OFFSET + 0x20;
        let mut all = plain.chain(nested).chain([MSR_VP_INDEX]);
        all.find(|msr| Self::from_msr(*msr) == Some(self))
    }

    /// The register behind an `HV_REGISTER_NAME`; `None` if it is not of the SynIC.
    pub fn from_name(name: u32) -> Option<Self> {
        if name == NAME_VP_INDEX {
            return Some(Self::plain(Register::VpIndex));
        }
        if name & !0xF == NAME_TIMERS {
            return Register::of_timer(name & 0xF).map(Self::plain);
        }
        let bank = match name & !0x1F {
            NAME_BASE => Bank::Plain,
            base if base == NAME_BASE + NESTED_OFFSET => Bank::Nested,
            _ => return None,
        };
        let register = match name & 0x1F {
            low @ 0x00..=0x0F => Register::Sint(low_nibble(low)?),
            0x10 => Register::Scontrol,
            0x11 => Register::Sversion,
            0x12 => Register::Siefp,
            0x13 => Register::Simp,
            0x14 => Register::Eom,
            0x15 => Register::Sirbp,
            _ => return None,
        };
        Some(Self { bank, register })
    }

    /// Its `HV_REGISTER_NAME`, the inverse of [`from_name`](Self::from_name); `None` for one of the
    /// nested bank that has none.
    pub fn name(self) -> Option<u32> {
        let offset = match self.bank {
            Bank::Plain => 0,
            Bank::Nested => NESTED_OFFSET,
        };
        let name = match self.register {
            Register::VpIndex => NAME_VP_INDEX,
            Register::Sint(sint) => NAME_BASE + offset + u32::from(sint),
            Register::Scontrol => NAME_BASE + offset + 0x10,
            Register::Sversion => NAME_BASE + offset + 0x11,
            Register::Siefp => NAME_BASE + offset + 0x12,
            Register::Simp => NAME_BASE + offset + 0x13,
            Register::Eom => NAME_BASE + offset + 0x14,
            Register::Sirbp => NAME_BASE + offset + 0x15,
            Register::TimerConfig(timer) => NAME_TIMERS + u32::from(timer) * 2,
            Register::TimerCount(timer) => NAME_TIMERS + u32::from(timer) * 2 + 1,
        };
        Some(name).filter(|name| Self::from_name(*name) == Some(self))
    }

    /// A register of the plain bank.
    pub const fn plain(register: Register) -> Self {
        Self {
            bank: Bank::Plain,
            register,
        }
    }
}

impl fmt::Display for RegisterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.bank {
            Bank::Plain => self.register.fmt(f),
            Bank::Nested => write!(f, "nested {}", self.register),
        }
    }
}

/// The low four bits of a register number, as a SINT.
fn low_nibble(number: u32) -> Option<SintIndex> {
    u8::try_from(number & 0xF).ok().and_then(SintIndex::new)
}

/// SCONTROL. Bits 63:1 are preserved as the guest wrote them.
#[bitfield(u64)]
#[derive(PartialEq, Eq)]
pub struct Scontrol {
    /// Messages and events are delivered only while set.
    pub enable: bool,
    #[bits(63)]
    _reserved: u64,
}

/// SIMP, SIEFP and SIRBP share one layout. Bits 11:1 are preserved as the guest wrote them.
#[bitfield(u64)]
#[derive(PartialEq, Eq)]
pub struct PageRegister {
    /// The page is in use.
    pub enabled: bool,
    #[bits(11)]
    _preserved: u16,
    /// Number of the 4 KiB page.
    #[bits(52)]
    pub page_number: u64,
}

impl PageRegister {
    /// An enabled page at a guest physical address (its low 12 bits are ignored).
    pub const fn at(gpa: u64) -> Self {
        Self::new().with_page_number(gpa >> 12).with_enabled(true)
    }

    /// Guest physical address of the page, 4 KiB-aligned.
    pub const fn gpa(self) -> u64 {
        self.page_number() << 12
    }
}

/// SINTn. Reserved bits are preserved as the guest wrote them, as KVM does.
#[bitfield(u64)]
#[derive(PartialEq, Eq)]
pub struct Sint {
    /// Interrupt vector; below 16 only while masked.
    pub vector: u8,
    #[bits(8)]
    _reserved: u8,
    /// Nothing is delivered.
    pub masked: bool,
    /// The interrupt needs no EOI.
    pub auto_eoi: bool,
    /// Messages and flags are written, but no interrupt is raised.
    pub polling: bool,
    /// The event ring of this SINT announces itself by a message on SINT0.
    pub as_intercept: bool,
    /// The source belongs to a paravisor.
    pub proxy: bool,
    #[bits(43)]
    _reserved2: u64,
}

impl Sint {
    /// The value at reset: masked, everything else clear (0x10000).
    pub const RESET: Self = Self::new().with_masked(true);

    /// Whether a guest may write this value: an unmasked source needs a vector of 16 or more
    /// (TLFS; KVM `synic_set_sint`).
    pub const fn is_valid(self) -> bool {
        self.masked() || self.vector() >= 16
    }
}

const MSR_VP_INDEX: u32 = 0x4000_0002;
const MSR_BASE: u32 = 0x4000_0080;
const MSR_TIMERS: u32 = 0x4000_00B0;
const NAME_VP_INDEX: u32 = 0x0009_0003;
const NAME_BASE: u32 = 0x000A_0000;
const NAME_TIMERS: u32 = 0x000B_0000;
/// From a plain register's number to the nested one's, for MSRs and names alike.
const NESTED_OFFSET: u32 = 0x1000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn msr_numbers_map_to_the_registers_of_both_banks() {
        let plain = |register| Some(RegisterId::plain(register));
        let sint15 = SintIndex::new(15).unwrap();
        assert_eq!(RegisterId::from_msr(0x4000_0080), plain(Register::Scontrol));
        assert_eq!(RegisterId::from_msr(0x4000_0085), plain(Register::Sirbp));
        assert_eq!(
            RegisterId::from_msr(0x4000_009F),
            plain(Register::Sint(sint15))
        );
        assert_eq!(
            RegisterId::from_msr(0x4000_1083),
            Some(RegisterId {
                bank: Bank::Nested,
                register: Register::Simp
            })
        );
    }

    #[test]
    fn msr_outside_the_synic_is_nobodys() {
        for msr in [0x4000_0086, 0x4000_008F, 0x4000_00A0, 0x4000_1085, 0x10] {
            assert_eq!(RegisterId::from_msr(msr), None, "{msr:#x}");
        }
    }

    #[test]
    fn register_names_reach_the_nested_sirbp_that_has_no_msr() {
        assert_eq!(
            RegisterId::from_name(0x000A_1015),
            Some(RegisterId {
                bank: Bank::Nested,
                register: Register::Sirbp
            })
        );
        assert_eq!(RegisterId::from_name(0x000A_0016), None);
    }

    #[test]
    fn timer_numbers_alternate_between_config_and_count() {
        let timer3 = TimerIndex::new(3).unwrap();
        let count = Some(RegisterId::plain(Register::TimerCount(timer3)));
        let config = Some(RegisterId::plain(Register::TimerConfig(timer3)));
        assert_eq!(RegisterId::from_msr(0x4000_00B6), config);
        assert_eq!(RegisterId::from_msr(0x4000_00B7), count);
        assert_eq!(RegisterId::from_name(0x000B_0006), config);
        assert_eq!(RegisterId::from_name(0x000B_0007), count);
        assert_eq!(RegisterId::from_msr(0x4000_00B8), None);
        assert_eq!(RegisterId::from_name(0x000B_0008), None);
    }

    #[test]
    fn sint_bits_are_where_the_headers_put_them() {
        let sint = Sint::new().with_vector(0xF3).with_as_intercept(true);
        assert_eq!(u64::from(sint), 0x800F3);
        assert_eq!(u64::from(Sint::RESET), 0x10000);
        assert_eq!(u64::from(Sint::new().with_proxy(true)), 1 << 20);
    }

    #[test]
    fn sint_with_vector_below_16_is_valid_only_masked() {
        assert!(!Sint::new().with_vector(15).is_valid());
        assert!(Sint::new().with_vector(15).with_masked(true).is_valid());
        assert!(Sint::new().with_vector(16).is_valid());
    }
}
