// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! Doorbells of a partition: the driver signals an eventfd when a VP writes to an address.

use std::os::fd::AsRawFd;
use std::sync::Arc;

use mshv_bindings::{
    MSHV_IOEVENTFD_BIT_DATAMATCH, MSHV_IOEVENTFD_BIT_DEASSIGN, mshv_user_ioeventfd,
};
use vmm_sys_util::eventfd::EventFd;

use super::{CallError, MshvPartition};
use crate::{DoorbellSize, DoorbellSpec, Registration};

impl MshvPartition {
    /// Has a write of the guest's signal `fd`, without an exit, until the registration is dropped.
    /// The driver makes a doorbell port of its own for it, on SINT5 of the host, and takes the fd
    /// only for this.
    ///
    /// Neither does the guest's write exit, nor does it need RAM there. Where the hypervisor offers no
    /// doorbells, serve the write from its exit, by
    /// [`SynicManager::mmio_write`](crate::SynicManager::mmio_write).
    ///
    /// # Errors
    /// EEXIST for a doorbell that could be rung by the same write; EIO, ENOMEM and others where the
    /// hypervisor refuses the port.
    pub fn add_doorbell(
        &self,
        spec: DoorbellSpec,
        fd: Arc<EventFd>,
    ) -> Result<Registration, CallError> {
        let request = request(spec, &fd);
        self.calls().ioeventfd(&request)?;
        let calls = self.calls().clone();
        let what = format!("doorbell of the partition at {:#x}", spec.gpa);
        Ok(Registration::new(what, move || {
            // The driver compares all of it with what was registered (`mshv_deassign_ioeventfd`).
            let request = mshv_user_ioeventfd {
                flags: request.flags | 1 << MSHV_IOEVENTFD_BIT_DEASSIGN,
                ..request
            };
            if let Err(error) = calls.ioeventfd(&request) {
                log::error!("Cannot remove a doorbell at {:#x}: {error}", spec.gpa);
            }
            drop(fd);
        }))
    }
}

fn request(spec: DoorbellSpec, fd: &EventFd) -> mshv_user_ioeventfd {
    mshv_user_ioeventfd {
        datamatch: spec.value.unwrap_or_default(),
        addr: spec.gpa,
        len: match spec.size {
            DoorbellSize::Any => 0,
            DoorbellSize::Byte => 1,
            DoorbellSize::Word => 2,
            DoorbellSize::Dword => 4,
            DoorbellSize::Qword => 8,
        },
        fd: fd.as_raw_fd(),
        flags: u32::from(spec.value.is_some()) << MSHV_IOEVENTFD_BIT_DATAMATCH,
        ..Default::default()
    }
}
