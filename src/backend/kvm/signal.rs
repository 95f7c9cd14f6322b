// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! HvSignalEvent without an exit: KVM signals the eventfd of the connection itself.

use std::os::fd::AsRawFd;
use std::sync::Arc;

use kvm_bindings::{KVM_HYPERV_EVENTFD_DEASSIGN, KVMIO, kvm_hyperv_eventfd};
use kvm_ioctls::{Error as KvmError, VmFd};
use vmm_sys_util::eventfd::EventFd;
use vmm_sys_util::ioctl::ioctl_with_ref;
use vmm_sys_util::ioctl_iow_nr;

use super::Error;
use crate::ConnectionId;

/// A connection whose HvSignalEvent signals an eventfd, without an exit, until this is dropped.
///
/// It holds for flag number 0 of the connection; other flags still exit. The same eventfd should be
/// the sink of the manager's port ([`EventSink::Fd`](crate::EventSink::Fd)), so that it does not
/// matter which way a signal took.
#[derive(Debug)]
pub struct SignalBinding {
    vm: Arc<VmFd>,
    connection: ConnectionId,
}

impl SignalBinding {
    /// Binds `connection` to `fd`.
    ///
    /// # Errors
    /// [`Error::BindSignal`]: EEXIST for a connection that is bound already.
    pub fn new(vm: Arc<VmFd>, connection: ConnectionId, fd: &EventFd) -> Result<Self, Error> {
        bind(&vm, connection, fd.as_raw_fd(), 0)
            .map_err(|source| Error::BindSignal { connection, source })?;
        Ok(Self { vm, connection })
    }
}

impl Drop for SignalBinding {
    fn drop(&mut self) {
        if let Err(error) = bind(&self.vm, self.connection, -1, KVM_HYPERV_EVENTFD_DEASSIGN) {
            log::error!(
                "Cannot unbind {} from its eventfd: {error}",
                self.connection
            );
        }
    }
}

fn bind(vm: &VmFd, connection: ConnectionId, fd: i32, flags: u32) -> Result<(), KvmError> {
    let binding = kvm_hyperv_eventfd {
        conn_id: connection.get(),
        fd,
        flags,
        ..Default::default()
    };
    // SAFETY: the fd is a VM's, and KVM_HYPERV_EVENTFD reads a `kvm_hyperv_eventfd`, which outlives
    // the call.
    match unsafe { ioctl_with_ref(vm, KVM_HYPERV_EVENTFD(), &binding) } {
        0 => Ok(()),
        _ => Err(KvmError::last()),
    }
}

ioctl_iow_nr!(KVM_HYPERV_EVENTFD, KVMIO, 0xbd, kvm_hyperv_eventfd);
