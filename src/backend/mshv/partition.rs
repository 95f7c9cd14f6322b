// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! A partition of /dev/mshv: messages, events, and the registers of its VPs, from any thread.

use std::fmt;
use std::sync::Arc;

use super::calls::{CallError, Hvcall, PartitionCalls};
use crate::abi::{Bank, PageRegister, Register, RegisterId, Scontrol, Sint};
use crate::{EventFlag, Message, NotReady, Partition, PartitionError, SintAddr, Slot, VpIndex};

/// A partition of /dev/mshv, whose hypervisor has the SynICs of its VPs.
///
/// All of it is done by hypercalls through the partition's file descriptor, with the same blocks on
/// every architecture; so no VP has to leave the guest.
#[derive(Clone)]
pub struct MshvPartition {
    calls: Arc<dyn PartitionCalls>,
}

impl MshvPartition {
    /// `calls`: an `Arc<mshv_ioctls::VmFd>`.
    pub fn new(calls: Arc<dyn PartitionCalls>) -> Self {
        Self { calls }
    }

    /// Reads one register. One at a time, because a hypervisor that lacks one of a list fails all of
    /// it.
    ///
    /// # Errors
    /// [`CallError`]; EINVAL for a register without a name.
    pub fn register(&self, vp: VpIndex, id: RegisterId) -> Result<u64, CallError> {
        let mut input = [0; HEADER + 4];
        header(&mut input, vp, id)?;
        let mut output = [0; 16];
        self.calls.hvcall(Hvcall {
            code: HVCALL_GET_VP_REGISTERS,
            reps: 1,
            input: &input,
            output: &mut output,
        })?;
        // Of 16 bytes; no register of the SynIC has more than 8.
        Ok(output
            .first_chunk()
            .map_or(0, |low| u64::from_le_bytes(*low)))
    }

    /// Writes one register.
    ///
    /// # Errors
    /// As for [`register`](Self::register).
    pub fn set_register(&self, vp: VpIndex, id: RegisterId, value: u64) -> Result<(), CallError> {
        let name = id.name().ok_or(EINVAL)?;
        self.set_by_name(vp, name, value.into())
    }

    /// Its file descriptor.
    pub(super) fn calls(&self) -> &Arc<dyn PartitionCalls> {
        &self.calls
    }

    fn set_by_name(&self, vp: VpIndex, name: u32, value: u128) -> Result<(), CallError> {
        let mut input = [0; HEADER + 32];
        put(&mut input, 8, &vp.get().to_le_bytes());
        put(&mut input, HEADER, &name.to_le_bytes());
        put(&mut input, HEADER + 16, &value.to_le_bytes());
        self.calls.hvcall(Hvcall {
            code: HVCALL_SET_VP_REGISTERS,
            reps: 1,
            input: &input,
            output: &mut [],
        })
    }

    /// What a SINT lacks, for whose message or event the hypervisor has no better answer than that it
    /// is not ready.
    fn cause(&self, addr: SintAddr, page: Register) -> Result<NotReady, CallError> {
        let read = |register| {
            let bank = addr.bank;
            self.register(addr.vp, RegisterId { bank, register })
        };
        let sint = Sint::from(read(Register::Sint(addr.sint))?);
        Ok(if sint.proxy() {
            NotReady::Proxied
        } else if !Scontrol::from(read(Register::Scontrol)?).enable() {
            NotReady::ScontrolOff
        } else if !PageRegister::from(read(page)?).enabled() {
            NotReady::PageOff
        } else {
            // Or it was, and no longer is.
            NotReady::Masked
        })
    }

    fn explain(&self, error: CallError, addr: SintAddr, page: Register) -> PartitionError {
        match error {
            CallError::Status(INVALID_SYNIC_STATE) => match self.cause(addr, page) {
                Ok(cause) => PartitionError::NotReady(cause),
                Err(error) => error.into(),
            },
            error => error.into(),
        }
    }
}

impl Partition for MshvPartition {
    fn post_message(&self, addr: SintAddr, message: &Message) -> Result<Slot, PartitionError> {
        if addr.bank != Bank::Plain {
            return Err(PartitionError::NoVp);
        }
        // {u64 partition, u32 vp, u8 vtl, 3, u32 sint, message, u32}
        let mut input = [0; 280];
        put(&mut input, 8, &addr.vp.get().to_le_bytes());
        put(&mut input, 16, &u32::from(addr.sint).to_le_bytes());
        put(&mut input, 20, &message.to_bytes());
        let posted = self.calls.hvcall(Hvcall {
            code: HVCALL_POST_MESSAGE_DIRECT,
            reps: 0,
            input: &input,
            output: &mut [],
        });
        match posted {
            Ok(()) => Ok(Slot::Filled),
            // The TLFS does not say which it is.
            Err(CallError::Status(OBJECT_IN_USE | INSUFFICIENT_BUFFERS)) => Ok(Slot::Busy),
            Err(error) => Err(self.explain(error, addr, Register::Simp)),
        }
    }

    fn signal_event(&self, addr: SintAddr, flag: EventFlag) -> Result<bool, PartitionError> {
        if addr.bank != Bank::Plain {
            return Err(PartitionError::NoVp);
        }
        // {u64 partition, u32 vp, u8 vtl, u8 sint, u16 flag}; {u8 newly signaled, 7}
        let mut input = [0; 16];
        put(&mut input, 8, &addr.vp.get().to_le_bytes());
        put(&mut input, 13, &[addr.sint.get()]);
        put(&mut input, 14, &flag.get().to_le_bytes());
        let mut output = [0; 8];
        let signalled = self.calls.hvcall(Hvcall {
            code: HVCALL_SIGNAL_EVENT_DIRECT,
            reps: 0,
            input: &input,
            output: &mut output,
        });
        signalled.map_err(|error| self.explain(error, addr, Register::Siefp))?;
        Ok(output != [0; 8])
    }

    fn notify_deliverable(&self, vp: VpIndex, sints: u16) -> Result<(), PartitionError> {
        // Bits 63:48; bits 5:0 are of other interrupts.
        let value = u128::from(sints) << 48;
        Ok(self.set_by_name(vp, REGISTER_DELIVERABILITY_NOTIFICATIONS, value)?)
    }
}

impl From<CallError> for PartitionError {
    fn from(error: CallError) -> Self {
        match error {
            CallError::Status(INVALID_VP_INDEX) => Self::NoVp,
            CallError::Status(status) => Self::Status(status),
            CallError::Os(errno) => Self::Os(errno),
        }
    }
}

impl fmt::Debug for MshvPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MshvPartition")
    }
}

/// {u64 partition, u32 vp, u8 vtl, 3}, and the name of one register.
fn header(input: &mut [u8], vp: VpIndex, id: RegisterId) -> Result<(), CallError> {
    let name = id.name().ok_or(EINVAL)?;
    put(input, 8, &vp.get().to_le_bytes());
    put(input, HEADER, &name.to_le_bytes());
    Ok(())
}

/// Writes bytes at an offset, as far as there is room: all blocks here are big enough.
fn put(block: &mut [u8], offset: usize, bytes: &[u8]) {
    let rest = block.get_mut(offset..).unwrap_or_default();
    rest.iter_mut()
        .zip(bytes)
        .for_each(|(to, from)| *to = *from);
}

const HEADER: usize = 16;
const HVCALL_GET_VP_REGISTERS: u16 = 0x50;
const HVCALL_SET_VP_REGISTERS: u16 = 0x51;
const HVCALL_SIGNAL_EVENT_DIRECT: u16 = 0xC0;
const HVCALL_POST_MESSAGE_DIRECT: u16 = 0xC1;
const REGISTER_DELIVERABILITY_NOTIFICATIONS: u32 = 0x0001_0006;
const INVALID_VP_INDEX: u16 = 0x0E;
const INSUFFICIENT_BUFFERS: u16 = 0x13;
const INVALID_SYNIC_STATE: u16 = 0x18;
const OBJECT_IN_USE: u16 = 0x19;
const EINVAL: CallError = CallError::Os(22);
