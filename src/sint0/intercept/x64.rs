// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! x64 intercepts, as in Linux `hvhdk.h` and Microsoft's headers for `/dev/mshv`.

use super::x64_header::X64Header;
use super::x64_layout::{
    X64Cpuid, X64Exception, X64GpaAttribute, X64Hypercall, X64InterruptionDeliverable,
    X64InvalidVpRegister, X64IoPort, X64Memory, X64Msr, X64SevVmgexit, X64SintDeliverable, X64Sipi,
    X64UnsupportedFeature,
};
use crate::abi::VpIndex;
use crate::sint0::error::{ParseError, Payload};

/// An intercept of an x64 VP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum X64Intercept {
    /// 80000000: access to a page that is not mapped.
    UnmappedGpa(X64Memory),
    /// 80000001: access that the page's permissions do not allow.
    Gpa(X64Memory),
    /// 80000003: access to a page that a confidential guest has not accepted.
    UnacceptedGpa(X64Memory),
    /// 80000004: a confidential guest wants pages shared or private.
    GpaAttribute(X64GpaAttribute),
    /// 80000020: the VP cannot run with the registers it has.
    InvalidVpRegister(X64InvalidVpRegister),
    /// 80000021: triple fault.
    UnrecoverableException(X64Header),
    /// 80000022: the VP used what the hypervisor does not emulate.
    UnsupportedFeature(X64UnsupportedFeature),
    /// 80000050: a hypercall.
    Hypercall(X64Hypercall),
    /// 80000062: SINTs can take a message again.
    SintDeliverable(X64SintDeliverable),
    /// 80010000: IN or OUT.
    IoPort(X64IoPort),
    /// 80010001: RDMSR or WRMSR.
    Msr(X64Msr),
    /// 80010002: CPUID.
    Cpuid(X64Cpuid),
    /// 80010003: an exception.
    Exception(X64Exception),
    /// 80010007: HLT.
    Halt(X64Header),
    /// 80010008: the VP can take an interrupt again.
    InterruptionDeliverable(X64InterruptionDeliverable),
    /// 80010009: a start-up IPI.
    Sipi(X64Sipi),
    /// 80010013: VMGEXIT of an SEV guest.
    SevVmgexit(X64SevVmgexit),
}

impl X64Intercept {
    /// `Ok(None)` if the type is not an x64 intercept.
    pub(in crate::sint0) fn parse(payload: Payload<'_>) -> Result<Option<Self>, ParseError> {
        Ok(Some(match payload.message_type.get() {
            0x8000_0000 => Self::UnmappedGpa(payload.read()?),
            0x8000_0001 => Self::Gpa(payload.read()?),
            0x8000_0003 => Self::UnacceptedGpa(payload.read()?),
            0x8000_0004 => Self::GpaAttribute(gpa_attribute(payload)?),
            0x8000_0020 => Self::InvalidVpRegister(payload.read()?),
            0x8000_0021 => Self::UnrecoverableException(payload.read()?),
            0x8000_0022 => Self::UnsupportedFeature(payload.read()?),
            0x8000_0050 => Self::Hypercall(payload.read()?),
            0x8000_0062 => Self::SintDeliverable(payload.read()?),
            0x8001_0000 => Self::IoPort(payload.read()?),
            0x8001_0001 => Self::Msr(payload.read()?),
            0x8001_0002 => Self::Cpuid(payload.read()?),
            0x8001_0003 => Self::Exception(payload.read()?),
            0x8001_0007 => Self::Halt(payload.read()?),
            0x8001_0008 => Self::InterruptionDeliverable(payload.read()?),
            0x8001_0009 => Self::Sipi(payload.read()?),
            0x8001_0013 => Self::SevVmgexit(payload.read()?),
            _ => return Ok(None),
        }))
    }

    /// The VP that was stopped.
    pub const fn vp(&self) -> VpIndex {
        match self {
            Self::UnmappedGpa(memory) | Self::Gpa(memory) | Self::UnacceptedGpa(memory) => {
                memory.header.vp
            }
            Self::GpaAttribute(attribute) => attribute.vp,
            Self::InvalidVpRegister(invalid) => invalid.vp,
            Self::UnrecoverableException(header) | Self::Halt(header) => header.vp,
            Self::UnsupportedFeature(feature) => feature.vp,
            Self::Hypercall(call) => call.header.vp,
            Self::SintDeliverable(deliverable) => deliverable.header.vp,
            Self::IoPort(port) => port.header.vp,
            Self::Msr(msr) => msr.header.vp,
            Self::Cpuid(cpuid) => cpuid.header.vp,
            Self::Exception(exception) => exception.header.vp,
            Self::InterruptionDeliverable(deliverable) => deliverable.header.vp,
            Self::Sipi(sipi) => sipi.header.vp,
            Self::SevVmgexit(exit) => exit.header.vp,
        }
    }
}

/// Refuses more ranges than the message can hold.
fn gpa_attribute(payload: Payload<'_>) -> Result<X64GpaAttribute, ParseError> {
    let attribute: X64GpaAttribute = payload.read()?;
    let count = attribute.request.range_count();
    if usize::from(count) > attribute.page_ranges.len() {
        return Err(payload.bad_field("range_count", count));
    }
    Ok(attribute)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::abi::{MessageType, SintIndex};
    use crate::sint0::Access;

    fn parse(message_type: u32, bytes: &[u8]) -> Result<Option<X64Intercept>, ParseError> {
        X64Intercept::parse(Payload {
            message_type: MessageType::new(message_type).unwrap(),
            bytes,
        })
    }

    /// A payload of `N` bytes: a header, and fields given as offset and bytes. All else is 0xEE.
    fn intercept<const N: usize>(fields: &[(usize, &[u8])]) -> [u8; N] {
        let mut bytes = [0xEE; N];
        let header: [(usize, &[u8]); 8] = [
            (0, &[7, 0, 0, 0]),
            (4, &[0x52]),
            (5, &[1]),
            (6, &[0x17, 0x01]),
            (
                8,
                &[0, 0, 0, 0, 0, 0, 0, 1, 0xFF, 0xFF, 0, 0, 8, 0, 0x9B, 0xA0],
            ),
            (24, &[0x10, 0, 0, 0, 0, 0, 0xFF, 0xFF]),
            (32, &[0x46, 2, 0, 0, 0, 0, 0, 0]),
            (40, &[]),
        ];
        for (at, field) in header.iter().chain(fields) {
            bytes[*at..at + field.len()].copy_from_slice(field);
        }
        bytes
    }

    const ONE: &[u8] = &[1, 0, 0, 0, 0, 0, 0, 0x10];
    const TWO: &[u8] = &[2, 0, 0, 0, 0, 0, 0, 0x20];

    #[test]
    fn header_fields_are_at_their_offsets() {
        let Ok(Some(X64Intercept::Halt(header))) = parse(0x8001_0007, &intercept::<40>(&[])) else {
            panic!("not a halt");
        };
        assert_eq!(header.vp, VpIndex::new(7));
        assert_eq!(
            (header.instruction.length(), header.instruction.cr8()),
            (2, 5)
        );
        assert_eq!(header.access, Access::Write);
        assert_eq!(
            (header.execution_state.cpl(), header.execution_state.vtl()),
            (3, 2)
        );
        assert!(header.execution_state.cr0_pe() && header.execution_state.efer_lma());
        assert!(!header.execution_state.cr0_am());
        assert_eq!((header.cs.base, header.cs.limit), (1 << 56, 0xFFFF));
        assert_eq!((header.cs.selector, header.cs.attributes), (8, 0xA09B));
        assert_eq!(header.rip, 0xFFFF_0000_0000_0010);
        assert_eq!(header.rflags, 0x246);
    }

    #[test]
    fn memory_access_has_its_addresses_and_instruction() {
        let bytes = intercept::<80>(&[
            (40, &[6, 0, 0, 0, 3, 0x05, 9]),
            (48, ONE),
            (56, TWO),
            (64, &[0x48, 0x89, 0x07]),
        ]);
        let Ok(Some(X64Intercept::UnmappedGpa(memory))) = parse(0x8000_0000, &bytes) else {
            panic!("not an access to an unmapped page");
        };
        assert_eq!(memory.cache_type, 6);
        assert!(memory.access_info.gva_valid() && !memory.access_info.gva_gpa_valid());
        assert!(memory.access_info.hypercall_output_pending());
        assert_eq!(memory.tpr_priority, 9);
        assert_eq!(
            (memory.gva, memory.gpa),
            (0x1000_0000_0000_0001, 0x2000_0000_0000_0002)
        );
        assert_eq!(memory.instruction(), [0x48, 0x89, 0x07]);
        assert!(matches!(
            parse(0x8000_0001, &bytes),
            Ok(Some(X64Intercept::Gpa(_)))
        ));
        assert!(matches!(
            parse(0x8000_0003, &bytes),
            Ok(Some(X64Intercept::UnacceptedGpa(_)))
        ));
    }

    #[test]
    fn port_access_has_its_registers_and_segments() {
        let bytes = intercept::<128>(&[
            (40, &[0xF8, 0x03, 0x19, 2]),
            (48, ONE),
            (56, &[0xF3, 0x6C]),
            (72, &[0; 16]),
            (88, &[1, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 3, 0, 4, 0]),
            (104, TWO),
            (112, ONE),
            (120, TWO),
        ]);
        let Ok(Some(X64Intercept::IoPort(port))) = parse(0x8001_0000, &bytes) else {
            panic!("not a port access");
        };
        assert_eq!((port.port, port.access_info.size()), (0x3F8, 1));
        assert!(port.access_info.string() && port.access_info.rep());
        assert_eq!(port.instruction(), [0xF3, 0x6C]);
        assert_eq!((port.es.base, port.es.limit), (1, 2));
        assert_eq!((port.es.selector, port.es.attributes), (3, 4));
        assert_eq!(
            (port.rax, port.rcx),
            (0x1000_0000_0000_0001, 0x2000_0000_0000_0002)
        );
        assert_eq!((port.rsi, port.rdi), (port.rax, port.rcx));
    }

    #[test]
    fn msr_and_cpuid_registers_are_at_their_offsets() {
        let msr = intercept::<64>(&[(40, &[0x83, 0, 0, 0x40]), (48, ONE), (56, TWO)]);
        let Ok(Some(X64Intercept::Msr(msr))) = parse(0x8001_0001, &msr) else {
            panic!("not an MSR access");
        };
        assert_eq!(msr.msr, 0x4000_0083);
        assert_eq!(
            (msr.rdx, msr.rax),
            (0x1000_0000_0000_0001, 0x2000_0000_0000_0002)
        );

        let fields: Vec<_> = [ONE, TWO]
            .into_iter()
            .cycle()
            .zip((40..104).step_by(8))
            .collect();
        let fields: Vec<_> = fields.into_iter().map(|(value, at)| (at, value)).collect();
        let Ok(Some(X64Intercept::Cpuid(cpuid))) = parse(0x8001_0002, &intercept::<104>(&fields))
        else {
            panic!("not CPUID");
        };
        let ones = [cpuid.rax, cpuid.rdx, cpuid.default_rax, cpuid.default_rdx];
        let twos = [cpuid.rcx, cpuid.rbx, cpuid.default_rcx, cpuid.default_rbx];
        assert_eq!(ones, [0x1000_0000_0000_0001; 4]);
        assert_eq!(twos, [0x2000_0000_0000_0002; 4]);
    }

    #[test]
    fn hypercall_ends_with_or_without_its_flags() {
        let bytes = intercept::<196>(&[(40, ONE), (88, TWO), (176, ONE), (192, &[1, 0, 0, 0])]);
        for (bytes, isolated) in [(&bytes[..], Some(true)), (&bytes[..192], None)] {
            let Ok(Some(X64Intercept::Hypercall(call))) = parse(0x8000_0050, bytes) else {
                panic!("not a hypercall");
            };
            assert_eq!(
                (call.rax, call.rdi),
                (0x1000_0000_0000_0001, 0x2000_0000_0000_0002)
            );
            assert_eq!(call.xmm[5] as u64, 0x1000_0000_0000_0001);
            assert_eq!(call.isolated(), isolated);
        }
    }

    #[test]
    fn exception_registers_end_with_the_message() {
        let bytes = intercept::<240>(&[
            (40, &[14, 0, 1, 1, 4, 0, 0, 0]),
            (48, ONE),
            (64, &[0xCC]),
            (112, TWO),
            (232, ONE),
        ]);
        let Ok(Some(X64Intercept::Exception(exception))) = parse(0x8001_0003, &bytes) else {
            panic!("not an exception");
        };
        assert_eq!((exception.vector, exception.error_code), (14, 4));
        assert!(exception.info.error_code_valid() && !exception.info.software_exception());
        assert_eq!(exception.instruction(), [0xCC]);
        assert_eq!(exception.parameter, 0x1000_0000_0000_0001);
        assert_eq!(exception.gprs[0], 0x2000_0000_0000_0002);
        assert_eq!(exception.gprs[15], 0x1000_0000_0000_0001);
    }

    #[test]
    fn deliverable_sints_are_a_set_of_sixteen() {
        let bytes = intercept::<48>(&[(40, &[0x04, 0x80])]);
        let Ok(Some(X64Intercept::SintDeliverable(deliverable))) = parse(0x8000_0062, &bytes)
        else {
            panic!("not deliverable");
        };
        assert!(deliverable.sints().map(SintIndex::get).eq([2, 15]));
    }

    #[test]
    fn ranges_above_what_the_message_holds_are_refused() {
        let mut bytes = [0; 240];
        bytes[..16].copy_from_slice(&[7, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0x10]);
        let Ok(Some(X64Intercept::GpaAttribute(attribute))) = parse(0x8000_0004, &bytes) else {
            panic!("not a page attribute");
        };
        assert_eq!(attribute.ranges(), [0x1000_0000_0000_0001]);
        bytes[4] = 0x20 | 30;
        let refused = ParseError::Field {
            message_type: 0x8000_0004,
            field: "range_count",
            value: 30,
        };
        assert_eq!(parse(0x8000_0004, &bytes), Err(refused));
    }
}
