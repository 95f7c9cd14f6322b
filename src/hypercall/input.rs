// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! The control word and the input of a hypercall.

use crate::abi::HvStatus;
use bitfield_struct::bitfield;
use vm_memory::{Bytes, GuestAddress, GuestMemory};

/// The registers of a hypercall on x64.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HypercallInput {
    /// RCX: the control word.
    pub control: u64,
    /// RDX: guest physical address of the input, or the input itself if the call is fast.
    pub input: u64,
    /// R8: guest physical address of the output, or the second input if the call is fast.
    pub output: u64,
}

/// The control word (TLFS Hypercall Input Value).
#[bitfield(u64)]
#[derive(PartialEq, Eq)]
pub struct Control {
    /// The call code.
    pub code: u16,
    /// The input is in registers.
    pub fast: bool,
    /// Size of the variable header, in qwords.
    #[bits(10)]
    pub variable_header: u16,
    #[bits(4)]
    reserved: u8,
    /// For the hypervisor below, when we are nested.
    pub nested: bool,
    /// How many repetitions the call has.
    #[bits(12)]
    pub rep_count: u16,
    #[bits(4)]
    reserved2: u8,
    /// How many of them are done.
    #[bits(12)]
    pub rep_start: u16,
    #[bits(4)]
    reserved3: u8,
}

impl Control {
    /// Checks the control word of a call that repeats nothing; `nested`: there is a hypervisor
    /// below that a call may be for.
    ///
    /// # Errors
    /// [`HvStatus::InvalidHypercallInput`].
    pub fn check_simple(self, nested: bool) -> Result<(), HvStatus> {
        self.check(nested)?;
        let repeats = self.rep_count() != 0 || self.rep_start() != 0;
        deny_if(repeats, HvStatus::InvalidHypercallInput)
    }

    /// Checks the control word of a call that repeats, and has a list to do it with.
    ///
    /// # Errors
    /// [`HvStatus::InvalidHypercallInput`].
    pub fn check_rep(self, nested: bool) -> Result<(), HvStatus> {
        self.check(nested)?;
        let nothing_to_do = self.rep_start() >= self.rep_count();
        deny_if(
            nothing_to_do || self.fast(),
            HvStatus::InvalidHypercallInput,
        )
    }

    fn check(self, nested: bool) -> Result<(), HvStatus> {
        let reserved = self.reserved() | self.reserved2() | self.reserved3();
        let wrong = reserved != 0 || self.variable_header() != 0 || (self.nested() && !nested);
        deny_if(wrong, HvStatus::InvalidHypercallInput)
    }
}

impl HypercallInput {
    /// The control word, taken apart.
    pub fn control(&self) -> Control {
        self.control.into()
    }

    /// The input of a small call, from the registers if it is fast (two qwords at most), or from
    /// memory.
    ///
    /// ```
    /// use vm_memory::GuestMemoryMmap;
    /// use vm_synic::HypercallInput;
    ///
    /// let ram = GuestMemoryMmap::<()>::new();
    /// let delete_port = HypercallInput {
    ///     control: 0x1_0058,
    ///     input: u64::MAX,
    ///     output: 7,
    /// };
    /// assert_eq!(delete_port.qwords(&ram), Ok([u64::MAX, 7]));
    /// ```
    ///
    /// # Errors
    /// [`HvStatus::InvalidHypercallInput`] for a fast call that has no room for so much;
    /// [`HvStatus::InvalidAlignment`] for a bad input block.
    pub fn qwords<const N: usize>(&self, memory: &impl GuestMemory) -> Result<[u64; N], HvStatus> {
        let mut qwords = [0; N];
        if self.control().fast() {
            deny_if(N > 2, HvStatus::InvalidHypercallInput)?;
            let registers = [self.input, self.output];
            qwords
                .iter_mut()
                .zip(registers)
                .for_each(|(to, from)| *to = from);
        } else {
            for (index, qword) in qwords.iter_mut().enumerate() {
                let mut bytes = [0; 8];
                self.read(memory, index * 8, &mut bytes)?;
                *qword = u64::from_le_bytes(bytes);
            }
        }
        Ok(qwords)
    }

    /// Reads from the input block: 8-byte aligned, and not across a page.
    ///
    /// # Errors
    /// [`HvStatus::InvalidAlignment`].
    pub fn read(
        &self,
        memory: &impl GuestMemory,
        offset: usize,
        bytes: &mut [u8],
    ) -> Result<(), HvStatus> {
        let gpa = inside_page(self.input, offset, bytes.len())?;
        let read = memory.read_slice(bytes, gpa);
        read.map_err(|_| HvStatus::InvalidAlignment)
    }

    /// Writes to the output block, under the same rule.
    ///
    /// # Errors
    /// [`HvStatus::InvalidAlignment`].
    pub fn write(
        &self,
        memory: &impl GuestMemory,
        offset: usize,
        bytes: &[u8],
    ) -> Result<(), HvStatus> {
        let gpa = inside_page(self.output, offset, bytes.len())?;
        let written = memory.write_slice(bytes, gpa);
        written.map_err(|_| HvStatus::InvalidAlignment)
    }
}

/// KVM answers a block that it cannot read with the same status (`kvm_hvcall_signal_event`).
fn inside_page(block: u64, offset: usize, len: usize) -> Result<GuestAddress, HvStatus> {
    let offset = u64::try_from(offset).map_err(|_| HvStatus::InvalidAlignment)?;
    let len = u64::try_from(len).map_err(|_| HvStatus::InvalidAlignment)?;
    let end = (block % PAGE).saturating_add(offset).saturating_add(len);
    deny_if(block % 8 != 0 || end > PAGE, HvStatus::InvalidAlignment)?;
    let gpa = block
        .checked_add(offset)
        .ok_or(HvStatus::InvalidAlignment)?;
    Ok(GuestAddress(gpa))
}

pub(crate) fn deny_if(wrong: bool, status: HvStatus) -> Result<(), HvStatus> {
    if wrong { Err(status) } else { Ok(()) }
}

const PAGE: u64 = 4096;
