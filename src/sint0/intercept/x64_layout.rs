// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! Payloads of the x64 intercepts, offset by offset.

use super::x64_header::{
    X64ExceptionInfo, X64GpaAttributeRequest, X64Header, X64MemoryAccess, X64PortAccess, X64Segment,
};
use super::{in_use, sints_in};
use crate::abi::{SintIndex, VpIndex};
use crate::sint0::wire::layout;

layout! {
    /// An access to memory.
    pub struct X64Memory[80] {
        /// The stopped VP.
        0 => header: X64Header,
        /// Cacheability of the access (`HV_CACHE_TYPE`).
        40 => cache_type: u32,
        /// How many of the instruction bytes are valid.
        44 => instruction_byte_count: u8,
        /// Which of the addresses are valid, and more.
        45 => access_info: X64MemoryAccess,
        /// Task priority.
        46 => tpr_priority: u8,
        /// Guest virtual address.
        48 => gva: u64,
        /// Guest physical address.
        56 => gpa: u64,
        /// The instruction; see [`X64Memory::instruction`].
        64 => instruction_bytes: [u8; 16],
    }

    /// A confidential guest's wish for pages to become shared or private.
    pub struct X64GpaAttribute[240] {
        /// The VP.
        0 => vp: VpIndex,
        /// What is wished for.
        4 => request: X64GpaAttributeRequest,
        /// `HV_GPA_PAGE_RANGE`s; see [`X64GpaAttribute::ranges`].
        8 => page_ranges: [u64; 29],
    }

    /// Registers that no VP can run with.
    pub struct X64InvalidVpRegister[8] {
        /// The VP.
        0 => vp: VpIndex,
    }

    /// Use of what the hypervisor does not emulate.
    pub struct X64UnsupportedFeature[16] {
        /// The VP.
        0 => vp: VpIndex,
        /// Which feature (`HV_UNSUPPORTED_FEATURE_CODE`).
        4 => feature_code: u32,
        /// More about it.
        8 => feature_parameter: u64,
    }

    /// A hypercall.
    pub struct X64Hypercall[192] {
        /// The stopped VP.
        0 => header: X64Header,
        /// RAX.
        40 => rax: u64,
        /// RBX.
        48 => rbx: u64,
        /// RCX: the control word.
        56 => rcx: u64,
        /// RDX: input.
        64 => rdx: u64,
        /// R8: output.
        72 => r8: u64,
        /// RSI.
        80 => rsi: u64,
        /// RDI.
        88 => rdi: u64,
        /// XMM0 to XMM5: more input of a fast call.
        96 => xmm: [u128; 6],
        /// Bit 0: from an isolated guest. Older headers end the message before it.
        192 => flags: Option<u32>,
    }

    /// SINTs that can take a message again, as asked for by `HvRegisterDeliverabilityNotifications`.
    pub struct X64SintDeliverable[48] {
        /// The VP.
        0 => header: X64Header,
        /// Bit n for SINTn; see [`X64SintDeliverable::sints`].
        40 => deliverable_sints: u16,
    }

    /// IN or OUT.
    pub struct X64IoPort[128] {
        /// The stopped VP.
        0 => header: X64Header,
        /// The port.
        40 => port: u16,
        /// Size and form of the access.
        42 => access_info: X64PortAccess,
        /// How many of the instruction bytes are valid.
        43 => instruction_byte_count: u8,
        /// RAX.
        48 => rax: u64,
        /// The instruction; see [`X64IoPort::instruction`].
        56 => instruction_bytes: [u8; 16],
        /// DS.
        72 => ds: X64Segment,
        /// ES.
        88 => es: X64Segment,
        /// RCX.
        104 => rcx: u64,
        /// RSI.
        112 => rsi: u64,
        /// RDI.
        120 => rdi: u64,
    }

    /// RDMSR or WRMSR.
    pub struct X64Msr[64] {
        /// The stopped VP.
        0 => header: X64Header,
        /// Number of the MSR.
        40 => msr: u32,
        /// RDX.
        48 => rdx: u64,
        /// RAX.
        56 => rax: u64,
    }

    /// CPUID, with the result that the hypervisor would give.
    pub struct X64Cpuid[104] {
        /// The stopped VP.
        0 => header: X64Header,
        /// RAX: the leaf.
        40 => rax: u64,
        /// RCX: the subleaf.
        48 => rcx: u64,
        /// RDX.
        56 => rdx: u64,
        /// RBX.
        64 => rbx: u64,
        /// RAX of the default result.
        72 => default_rax: u64,
        /// RCX of the default result.
        80 => default_rcx: u64,
        /// RDX of the default result.
        88 => default_rdx: u64,
        /// RBX of the default result.
        96 => default_rbx: u64,
    }

    /// An exception.
    pub struct X64Exception[240] {
        /// The stopped VP.
        0 => header: X64Header,
        /// Vector of the exception.
        40 => vector: u16,
        /// Whether it has an error code, and more.
        42 => info: X64ExceptionInfo,
        /// How many of the instruction bytes are valid.
        43 => instruction_byte_count: u8,
        /// Error code.
        44 => error_code: u32,
        /// More about the exception: CR2 of a page fault.
        48 => parameter: u64,
        /// The instruction; see [`X64Exception::instruction`].
        64 => instruction_bytes: [u8; 16],
        /// DS.
        80 => ds: X64Segment,
        /// SS.
        96 => ss: X64Segment,
        /// RAX, RCX, RDX, RBX, RSP, RBP, RSI, RDI, then R8 to R15.
        112 => gprs: [u64; 16],
    }

    /// An interrupt can be injected again.
    pub struct X64InterruptionDeliverable[48] {
        /// The VP.
        0 => header: X64Header,
        /// Which kind: 0 an interrupt, 2 an NMI, 3 an exception (`hv_x64_pending_interruption_type`).
        40 => deliverable_type: u32,
    }

    /// A start-up IPI.
    pub struct X64Sipi[48] {
        /// The VP that sent it.
        0 => header: X64Header,
        /// The VP to start.
        40 => target: VpIndex,
        /// The vector, which says where it starts.
        44 => vector: u32,
    }

    /// VMGEXIT of an SEV guest.
    pub struct X64SevVmgexit[104] {
        /// The stopped VP.
        0 => header: X64Header,
        /// The GHCB MSR.
        40 => ghcb_msr: u64,
        /// Bit 0: what follows was read from the GHCB page.
        48 => flags: u64,
        /// Use of the GHCB page.
        56 => ghcb_usage: u32,
        /// Version of the GHCB protocol.
        64 => ghcb_protocol_version: u16,
        /// SW_EXITCODE.
        72 => sw_exit_code: u64,
        /// SW_EXITINFO1.
        80 => sw_exit_info1: u64,
        /// SW_EXITINFO2.
        88 => sw_exit_info2: u64,
        /// SW_SCRATCH.
        96 => sw_scratch: u64,
    }
}

impl X64Memory {
    /// The valid bytes of the instruction.
    pub fn instruction(&self) -> &[u8] {
        in_use(&self.instruction_bytes, self.instruction_byte_count)
    }
}

impl X64GpaAttribute {
    /// The ranges in use: page number in bits 63:12, additional pages in bits 10:0.
    pub fn ranges(&self) -> &[u64] {
        in_use(&self.page_ranges, self.request.range_count())
    }
}

impl X64Hypercall {
    /// Whether the caller is an isolated guest; `None` if the hypervisor does not say.
    pub fn isolated(&self) -> Option<bool> {
        self.flags.map(|flags| flags & 1 != 0)
    }
}

impl X64SintDeliverable {
    /// The SINTs, ascending.
    pub fn sints(&self) -> impl Iterator<Item = SintIndex> {
        sints_in(self.deliverable_sints)
    }
}

impl X64IoPort {
    /// The valid bytes of the instruction.
    pub fn instruction(&self) -> &[u8] {
        in_use(&self.instruction_bytes, self.instruction_byte_count)
    }
}

impl X64Exception {
    /// The valid bytes of the instruction.
    pub fn instruction(&self) -> &[u8] {
        in_use(&self.instruction_bytes, self.instruction_byte_count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sint0::wire::Wire;

    /// A payload whose byte n is n, so that each field holds its own offset.
    fn counting<T: Wire>() -> T {
        let bytes: [u8; 240] = std::array::from_fn(|at| u8::try_from(at).unwrap());
        T::read(&bytes, 0).unwrap()
    }

    fn offsets_of(fields: &[u64]) -> Vec<u64> {
        fields.iter().map(|field| field & 0xFF).collect()
    }

    #[test]
    fn vmgexit_fields_are_at_their_offsets() {
        let exit: X64SevVmgexit = counting();
        let words = [exit.ghcb_msr, exit.flags, exit.ghcb_usage.into()];
        assert_eq!(offsets_of(&words), [40, 48, 56]);
        assert_eq!(exit.ghcb_protocol_version, 0x4140);
        let software = [exit.sw_exit_code, exit.sw_exit_info1, exit.sw_exit_info2];
        assert_eq!(offsets_of(&software), [72, 80, 88]);
        assert_eq!(exit.sw_scratch, 0x6766_6564_6362_6160);
    }

    #[test]
    fn sipi_and_interruption_fields_follow_the_header() {
        let sipi: X64Sipi = counting();
        assert_eq!(
            (sipi.target, sipi.vector),
            (VpIndex::new(0x2B2A_2928), 0x2F2E_2D2C)
        );
        let deliverable: X64InterruptionDeliverable = counting();
        assert_eq!(deliverable.deliverable_type, 0x2B2A_2928);
    }

    #[test]
    fn messages_without_a_header_start_with_the_vp() {
        let vp = VpIndex::new(0x0302_0100);
        let feature: X64UnsupportedFeature = counting();
        assert_eq!((feature.vp, feature.feature_code), (vp, 0x0706_0504));
        assert_eq!(feature.feature_parameter, 0x0F0E_0D0C_0B0A_0908);
        assert_eq!(counting::<X64InvalidVpRegister>().vp, vp);
        let attribute: X64GpaAttribute = counting();
        assert_eq!((attribute.vp, attribute.request.range_count()), (vp, 4));
        assert_eq!(offsets_of(attribute.ranges()), [8, 16, 24, 32]);
    }
}
