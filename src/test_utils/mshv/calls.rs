// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! The calls of a partition's file descriptor.

use super::blocks::{u16_at, u32_at, u64_at};
use super::{MshvDouble, State};
use crate::abi::{EventFlag, Message, MessageType, RegisterId, SintAddr, SintIndex, VpIndex};
use crate::backend::mshv::{CallError, Hvcall, PartitionCalls};
use crate::error::{PostError, SignalError};
use crate::sync::lock;
use mshv_bindings::{mshv_user_ioeventfd, mshv_user_irq_entry, mshv_user_irqfd};

impl PartitionCalls for MshvDouble {
    fn hvcall(&self, call: Hvcall<'_>) -> Result<(), CallError> {
        // Linux `mshv_ioctl_passthru_hvcall`.
        if !(8..=4096).contains(&call.input.len()) || call.output.len() > 4096 {
            return Err(EINVAL);
        }
        let mut state = lock(&self.state);
        state.made.push(call.code);
        let failures = state.failures.get_mut(&call.code);
        if let Some(error) = failures.and_then(|errors| errors.pop_front()).flatten() {
            return Err(error);
        }
        drop(state);
        match call.code {
            0x4D => self.install_intercept(call.input),
            0x50 => self.get_register(call),
            0x51 => self.set_register(call),
            0xC0 => self.signal(call),
            0xC1 => self.post(call.input),
            _ => Err(EINVAL),
        }
    }

    fn ioeventfd(&self, request: &mshv_user_ioeventfd) -> Result<(), CallError> {
        let mut state = lock(&self.state);
        let is_same = |there: &mshv_user_ioeventfd| {
            let key = |of: &mshv_user_ioeventfd| (of.fd, of.addr, of.len, of.datamatch);
            key(there) == key(request) && there.flags == request.flags & !DEASSIGN
        };
        if request.flags & DEASSIGN != 0 {
            let position = state.doorbells.iter().position(is_same);
            let position = position.ok_or(CallError::Os(ENOENT))?;
            state.doorbells.remove(position);
            return Ok(());
        }
        if !matches!(request.len, 0 | 1 | 2 | 4 | 8) {
            return Err(EINVAL);
        }
        let collides = |there: &mshv_user_ioeventfd| {
            let has_value = there.flags & request.flags & DATAMATCH != 0;
            let values_differ = has_value && there.datamatch != request.datamatch;
            (there.addr, there.len) == (request.addr, request.len) && !values_differ
        };
        if state.doorbells.iter().any(collides) {
            return Err(CallError::Os(EEXIST));
        }
        state.doorbells.push(*request);
        Ok(())
    }

    fn irqfd(&self, request: &mshv_user_irqfd) -> Result<(), CallError> {
        let mut state = lock(&self.state);
        let is_same = |there: &mshv_user_irqfd| (there.fd, there.gsi) == (request.fd, request.gsi);
        if request.flags & IRQFD_DEASSIGN != 0 {
            // The driver takes whatever it finds, and nothing amiss if there is nothing.
            state.irqfds.retain(|there| !is_same(there));
            return Ok(());
        }
        if state.irqfds.iter().any(|there| there.fd == request.fd) {
            return Err(CallError::Os(EBUSY));
        }
        let is_level = |entry: &mshv_user_irq_entry| entry.data & 1 << 15 != 0;
        let route = state.routes.iter().find(|entry| entry.gsi == request.gsi);
        if request.flags & IRQFD_RESAMPLE != 0 && !route.is_some_and(is_level) {
            return Err(EINVAL);
        }
        state.irqfds.push(*request);
        Ok(())
    }

    fn set_msi_routing(&self, entries: &[mshv_user_irq_entry]) -> Result<(), CallError> {
        let is_bad = |entry: &mshv_user_irq_entry| entry.gsi >= 4096 || entry.address_hi != 0;
        if entries.len() > 4096 || entries.iter().any(is_bad) {
            return Err(EINVAL);
        }
        lock(&self.state).routes = entries.to_vec();
        Ok(())
    }
}

impl MshvDouble {
    fn install_intercept(&self, input: &[u8]) -> Result<(), CallError> {
        if input.len() != 24 || u32_at(input, 8) != 4 {
            return Err(CallError::Status(INVALID_PARAMETER));
        }
        lock(&self.state).intercepts.push(u32_at(input, 12));
        Ok(())
    }

    fn get_register(&self, call: Hvcall<'_>) -> Result<(), CallError> {
        let (vp, id) = (self.vp(call.input)?, register(u32_at(call.input, 16))?);
        let value = self.vm.manager.read_register(vp, id);
        let value = value.map_err(|_| CallError::Status(UNKNOWN_REGISTER))?;
        let value = u128::from(value).to_le_bytes();
        call.output[..value.len()].copy_from_slice(&value);
        Ok(())
    }

    fn set_register(&self, call: Hvcall<'_>) -> Result<(), CallError> {
        let vp = self.vp(call.input)?;
        let (name, value) = (u32_at(call.input, 16), u64_at(call.input, 32));
        if name == DELIVERABILITY_NOTIFICATIONS {
            let sints = (value >> 48) as u16;
            lock(&self.state).awaited.insert(vp, sints);
            return Ok(());
        }
        let written = (self.vm.manager).write_register(vp, register(name)?, value);
        written.map_err(|_| CallError::Status(INVALID_REGISTER_VALUE))
    }

    fn post(&self, input: &[u8]) -> Result<(), CallError> {
        let addr = SintAddr::new(self.vp(input)?, sint(u32_at(input, 16))?);
        let message = &input[20..276];
        let message_type = MessageType::new(u32_at(message, 0));
        let message_type = message_type.ok_or(CallError::Status(INVALID_PARAMETER))?;
        let payload = message.get(16..16 + usize::from(message[4]));
        let payload = payload.ok_or(CallError::Status(INVALID_PARAMETER))?;
        let posted = Message::new(message_type, payload).expect("a slot has room for 240 bytes");
        let posted = posted.with_sender(u64_at(message, 8));
        match self.vm.manager.post_message(addr, &posted) {
            Ok(_) => Ok(()),
            Err(PostError::WouldBlock(_)) => Err(CallError::Status(OBJECT_IN_USE)),
            Err(PostError::NoVp(_)) => Err(CallError::Status(INVALID_VP_INDEX)),
            Err(_) => Err(CallError::Status(INVALID_SYNIC_STATE)),
        }
    }

    fn signal(&self, call: Hvcall<'_>) -> Result<(), CallError> {
        let sint = sint(call.input[13].into())?;
        let flag = EventFlag::new(u16_at(call.input, 14));
        let flag = flag.ok_or(CallError::Status(INVALID_PARAMETER))?;
        let addr = SintAddr::new(self.vp(call.input)?, sint);
        match self.vm.manager.signal_event(addr, flag) {
            Ok(fresh) => {
                call.output[0] = fresh.into();
                Ok(())
            }
            Err(SignalError::NoVp(_)) => Err(CallError::Status(INVALID_VP_INDEX)),
            Err(_) => Err(CallError::Status(INVALID_SYNIC_STATE)),
        }
    }

    /// The VP of a block that begins {u64 partition, u32 vp, u8 vtl}.
    fn vp(&self, input: &[u8]) -> Result<VpIndex, CallError> {
        let vp = VpIndex::new(u32_at(input, 8));
        match self.vm.manager.has_vp(vp) && input[12] == 0 {
            true => Ok(vp),
            false => Err(CallError::Status(INVALID_VP_INDEX)),
        }
    }
}

impl State {
    pub(super) fn exits(&self, kind: u32) -> bool {
        self.intercepts.contains(&kind)
    }
}

fn register(name: u32) -> Result<RegisterId, CallError> {
    RegisterId::from_name(name).ok_or(CallError::Status(UNKNOWN_REGISTER))
}

fn sint(index: u32) -> Result<SintIndex, CallError> {
    SintIndex::try_from(index).map_err(|_| CallError::Status(INVALID_PARAMETER))
}

const DELIVERABILITY_NOTIFICATIONS: u32 = 0x0001_0006;
const INVALID_PARAMETER: u16 = 0x05;
const INVALID_VP_INDEX: u16 = 0x0E;
const INVALID_SYNIC_STATE: u16 = 0x18;
const OBJECT_IN_USE: u16 = 0x19;
const INVALID_REGISTER_VALUE: u16 = 0x50;
const UNKNOWN_REGISTER: u16 = 0x87;
const DATAMATCH: u32 = 1;
const DEASSIGN: u32 = 1 << 2;
const IRQFD_DEASSIGN: u32 = 1;
const IRQFD_RESAMPLE: u32 = 1 << 1;
const EINVAL: CallError = CallError::Os(22);
const ENOENT: i32 = 2;
const EBUSY: i32 = 16;
const EEXIST: i32 = 17;
