// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! `HvPostMessage` and `HvSignalEvent`: the guest speaks to a port.

use super::input::{Control, HypercallInput, deny_if};
use crate::abi::{
    ConnectionId, EventFlag, HvStatus, MESSAGE_PAYLOAD_MAX, Message, MessageType, SintAddr, VpIndex,
};
use crate::error::{PostError, SignalError};
use crate::manager::SynicManager;
use crate::page::GuestSpace;
use crate::routing::{EventSink, GuestMessage, MessageSink, Port, PortSpec};

/// `HvPostMessage`, in memory only: {u32 connection, u32 0, u32 type, u32 size, payload}.
pub(super) fn post_message<AS: GuestSpace>(
    manager: &SynicManager<AS>,
    vp: VpIndex,
    control: Control,
    input: HypercallInput,
) -> Result<(), HvStatus> {
    let config = manager.config();
    control.check_simple(config.nested)?;
    // A message does not fit into two registers.
    deny_if(control.fast(), HvStatus::InvalidHypercallInput)?;
    deny_if(!config.may_post_messages, HvStatus::AccessDenied)?;
    let memory = manager.guest_memory();
    let mut header = [0; HEADER];
    input.read(&*memory, 0, &mut header)?;
    let [connection, _reserved, message_type, size] = words(header);
    let message_type = MessageType::new(message_type)
        .filter(|message_type| message_type.is_guest_defined())
        .ok_or(HvStatus::InvalidParameter)?;
    let mut buffer = [0; MESSAGE_PAYLOAD_MAX];
    let payload = usize::try_from(size)
        .ok()
        .and_then(|size| buffer.get_mut(..size))
        .ok_or(HvStatus::InvalidParameter)?;
    input.read(&*memory, HEADER, payload)?;
    let connection = connection_id(connection)?;
    let message = GuestMessage {
        from: vp,
        connection,
        message_type,
        payload,
    };
    manager
        .with_connection(connection, |port| deliver(manager, port, message))
        .unwrap_or(Err(HvStatus::InvalidConnectionId))
}

/// `HvSignalEvent`: {u32 connection, u16 flag, u16 0}.
pub(super) fn signal_event<AS: GuestSpace>(
    manager: &SynicManager<AS>,
    control: Control,
    input: HypercallInput,
) -> Result<(), HvStatus> {
    let config = manager.config();
    control.check_simple(config.nested)?;
    deny_if(!config.may_signal_events, HvStatus::AccessDenied)?;
    let [value] = input.qwords(&*manager.guest_memory())?;
    let [connection, flag] = [value as u32, (value >> 32) as u32];
    // KVM has this status for reserved bits of the value, `kvm_hvcall_signal_event`.
    let flag = u16::try_from(flag).map_err(|_| HvStatus::InvalidHypercallInput)?;
    let connection = ConnectionId::new(connection).ok_or(HvStatus::InvalidHypercallInput)?;
    manager
        .with_connection(connection, |port| signal(manager, port, flag))
        .unwrap_or(Err(HvStatus::InvalidConnectionId))
}

fn deliver<AS: GuestSpace>(
    manager: &SynicManager<AS>,
    port: &Port,
    message: GuestMessage<'_>,
) -> Result<(), HvStatus> {
    match &port.spec {
        PortSpec::Message(_) if port.is_deleted() => Err(HvStatus::InvalidPortId),
        PortSpec::Message(MessageSink::Call(handler)) => {
            handler(message).map_err(|_| HvStatus::InsufficientBuffers)
        }
        PortSpec::Message(MessageSink::Sint(addr)) => {
            let message = Message::new(message.message_type, message.payload)
                .map_err(|_| HvStatus::InvalidParameter)?
                .with_sender(port.id.get().into());
            manager.post_message(*addr, &message).map_err(post_status)?;
            Ok(())
        }
        PortSpec::Event { .. } => Err(HvStatus::InvalidPortId),
    }
}

fn signal<AS: GuestSpace>(
    manager: &SynicManager<AS>,
    port: &Port,
    flag: u16,
) -> Result<(), HvStatus> {
    let PortSpec::Event { sink, flags } = &port.spec else {
        return Err(HvStatus::InvalidPortId);
    };
    deny_if(port.is_deleted(), HvStatus::InvalidPortId)?;
    deny_if(flag >= *flags, HvStatus::InvalidParameter)?;
    match sink {
        EventSink::Call(handler) => handler(flag),
        EventSink::Fd(fd) => {
            if let Err(error) = fd.write(1) {
                log::error!("Cannot signal the eventfd of {}: {error}", port.id);
            }
        }
        EventSink::Sint { addr, base } => signal_sint(manager, *addr, *base, flag)?,
    }
    Ok(())
}

fn signal_sint<AS: GuestSpace>(
    manager: &SynicManager<AS>,
    addr: SintAddr,
    base: u16,
    flag: u16,
) -> Result<(), HvStatus> {
    let flag = base.checked_add(flag).and_then(EventFlag::new);
    let flag = flag.ok_or(HvStatus::InvalidParameter)?;
    match manager.signal_event(addr, flag) {
        Ok(_) => Ok(()),
        Err(SignalError::NoVp(_)) => Err(HvStatus::InvalidVpIndex),
        Err(SignalError::NotReady { .. }) => Err(HvStatus::InvalidSynicState),
        Err(SignalError::Failed { .. }) => Err(HvStatus::InsufficientBuffers),
    }
}

fn post_status(error: PostError) -> HvStatus {
    match error {
        PostError::NoVp(_) => HvStatus::InvalidVpIndex,
        PostError::NotReady { .. } => HvStatus::InvalidSynicState,
        // The guest may try again, and has done nothing wrong.
        PostError::WouldBlock(_) | PostError::Failed { .. } => HvStatus::InsufficientBuffers,
    }
}

fn connection_id(value: u32) -> Result<ConnectionId, HvStatus> {
    ConnectionId::new(value).ok_or(HvStatus::InvalidConnectionId)
}

fn words(bytes: [u8; HEADER]) -> [u32; HEADER / 4] {
    std::array::from_fn(|i| {
        let word = bytes.get(i * 4..).and_then(|rest| rest.first_chunk());
        u32::from_le_bytes(word.copied().unwrap_or_default())
    })
}

const HEADER: usize = 16;
