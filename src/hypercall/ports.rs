// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! `HvCreatePort`, `HvConnectPort`, `HvDisconnectPort` and `HvDeletePort`: a guest that is a parent
//! of partitions has their doorbells ring on its SynIC.
//!
//! Only doorbell ports, in the guest's own partition and connected to a child's, exist: they are
//! what Linux's MSHV driver makes (`mshv_register_doorbell`).

use super::input::{HypercallInput, deny_if};
use crate::abi::{ConnectionId, HvStatus, PartitionId, PortId, SintIndex, VpIndex};
use crate::manager::SynicManager;
use crate::page::GuestSpace;
use crate::routing::{DoorbellPort, DoorbellSize, DoorbellSpec, DoorbellTarget};

/// Whether a call code is one of these.
pub(super) fn is_one(code: u16) -> bool {
    [DELETE_PORT, DISCONNECT_PORT, CREATE_PORT, CONNECT_PORT].contains(&code)
}

/// Answers the call with this code.
pub(super) fn call<AS: GuestSpace>(
    manager: &SynicManager<AS>,
    code: u16,
    input: HypercallInput,
) -> Result<(), HvStatus> {
    input.control().check_simple(manager.config().nested)?;
    match code {
        CREATE_PORT => create(manager, input),
        CONNECT_PORT => connect(manager, input),
        DELETE_PORT => delete(manager, input),
        DISCONNECT_PORT => disconnect(manager, input),
        _ => Err(HvStatus::InvalidHypercallCode),
    }
}

/// {u64 port partition, u32 port id, u8 port VTL, u8 least connection VTL, u16 0, u64 connection
/// partition, port info {u32 type, u32 0, u32 SINT, u32 VP, u64 0}, u64 proximity domain}.
fn create<AS: GuestSpace>(
    manager: &SynicManager<AS>,
    input: HypercallInput,
) -> Result<(), HvStatus> {
    let block: [u64; 7] = input.qwords(&*manager.guest_memory())?;
    let [
        port_partition,
        id,
        child,
        kind,
        target,
        must_be_zero,
        _proximity,
    ] = block;
    own_partition(port_partition)?;
    let ([id, vtls], [sint, vp]) = (halves(id), halves(target));
    deny_if(
        kind != DOORBELL || vtls != 0 || must_be_zero != 0,
        HvStatus::InvalidParameter,
    )?;
    let target = match vp {
        ANY_VP => DoorbellTarget::AnyVp,
        vp => DoorbellTarget::Vp(VpIndex::new(vp)),
    };
    let sint = SintIndex::try_from(sint).map_err(|_| HvStatus::InvalidParameter)?;
    let child = PartitionId::new(child);
    manager.create_guest_port(DoorbellPort::new(port_id(id)?, child, target, sint))
}

/// {u64 connection partition, u32 connection id, u8 VTL, u8[3] 0, u64 port partition, u32 port id,
/// u32 0, connection info {u32 type, u32 0, u64 GPA, u64 trigger value, u64 flags}, u64 proximity
/// domain}.
fn connect<AS: GuestSpace>(
    manager: &SynicManager<AS>,
    input: HypercallInput,
) -> Result<(), HvStatus> {
    let block: [u64; 9] = input.qwords(&*manager.guest_memory())?;
    let [
        child,
        id,
        port_partition,
        port,
        kind,
        gpa,
        value,
        flags,
        _proximity,
    ] = block;
    own_partition(port_partition)?;
    let ([id, vtl], [port, must_be_zero]) = (halves(id), halves(port));
    deny_if(
        kind != DOORBELL || vtl != 0 || must_be_zero != 0,
        HvStatus::InvalidParameter,
    )?;
    let spec = doorbell_spec(gpa, value, flags)?;
    let child = PartitionId::new(child);
    manager.connect_guest_port(child, connection_id(id)?, port_id(port)?, spec)
}

/// {u64 port partition, u32 port id, u32 0}.
fn delete<AS: GuestSpace>(
    manager: &SynicManager<AS>,
    input: HypercallInput,
) -> Result<(), HvStatus> {
    let [partition, port] = input.qwords(&*manager.guest_memory())?;
    own_partition(partition)?;
    let [id, must_be_zero] = halves(port);
    deny_if(must_be_zero != 0, HvStatus::InvalidParameter)?;
    manager.delete_guest_port(port_id(id)?)
}

/// {u64 connection partition, u32 connection id, u32 1: it is a doorbell's}.
fn disconnect<AS: GuestSpace>(
    manager: &SynicManager<AS>,
    input: HypercallInput,
) -> Result<(), HvStatus> {
    let [child, connection] = input.qwords(&*manager.guest_memory())?;
    let [id, is_doorbell] = halves(connection);
    deny_if(is_doorbell != 1, HvStatus::InvalidParameter)?;
    manager.disconnect_guest_port(PartitionId::new(child), connection_id(id)?)
}

/// A parent may make ports in a child's SynIC, too; no child has one here.
fn own_partition(id: u64) -> Result<(), HvStatus> {
    let is_own = PartitionId::new(id) == PartitionId::SELF;
    deny_if(!is_own, HvStatus::InvalidPartitionId)
}

/// Flags: 2:0 the size of the write, 31 any value (Linux `HV_DOORBELL_FLAG_TRIGGER_*`).
fn doorbell_spec(gpa: u64, value: u64, flags: u64) -> Result<DoorbellSpec, HvStatus> {
    let size = match flags & !ANY_VALUE {
        0 => DoorbellSize::Any,
        1 => DoorbellSize::Byte,
        2 => DoorbellSize::Word,
        3 => DoorbellSize::Dword,
        4 => DoorbellSize::Qword,
        _ => return Err(HvStatus::InvalidParameter),
    };
    deny_if(gpa >> GPA_BITS != 0, HvStatus::InvalidParameter)?;
    let value = (flags & ANY_VALUE == 0).then_some(value);
    Ok(DoorbellSpec { gpa, size, value })
}

fn port_id(id: u32) -> Result<PortId, HvStatus> {
    PortId::new(id).ok_or(HvStatus::InvalidPortId)
}

fn connection_id(id: u32) -> Result<ConnectionId, HvStatus> {
    ConnectionId::new(id).ok_or(HvStatus::InvalidConnectionId)
}

/// Low and high.
fn halves(qword: u64) -> [u32; 2] {
    [qword as u32, (qword >> 32) as u32]
}

pub(super) const DELETE_PORT: u16 = 0x0058;
pub(super) const DISCONNECT_PORT: u16 = 0x005B;
pub(super) const CREATE_PORT: u16 = 0x0095;
pub(super) const CONNECT_PORT: u16 = 0x0096;
/// `HV_PORT_TYPE_DOORBELL`, and the zero after it.
const DOORBELL: u64 = 4;
/// `HV_ANY_VP`.
const ANY_VP: u32 = u32::MAX;
const ANY_VALUE: u64 = 0x8000_0000;
/// The most that x64 has.
const GPA_BITS: u32 = 52;
