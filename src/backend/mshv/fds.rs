// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! The file descriptors of mshv-ioctls.

use std::os::fd::AsRawFd;

use mshv_bindings::{
    mshv_get_set_vp_state, mshv_root_hvcall, mshv_user_ioeventfd, mshv_user_irq_entry,
    mshv_user_irq_table, mshv_user_irqfd,
};
use mshv_ioctls::{MshvError, VcpuFd, VmFd};
use vmm_sys_util::ioctl::{ioctl_with_ptr, ioctl_with_ref};
use vmm_sys_util::{ioctl_iow_nr, ioctl_iowr_nr};

use super::{CallError, Hvcall, PartitionCalls, StatePage, VpCalls};

impl PartitionCalls for VmFd {
    fn hvcall(&self, call: Hvcall<'_>) -> Result<(), CallError> {
        let mut args = mshv_root_hvcall {
            code: call.code,
            reps: call.reps,
            in_sz: size(call.input.len())?,
            out_sz: size(call.output.len())?,
            in_ptr: call.input.as_ptr() as u64,
            out_ptr: match call.output {
                [] => 0,
                output => output.as_mut_ptr() as u64,
            },
            ..Default::default()
        };
        self.hvcall(&mut args).map_err(CallError::from)
    }

    // mshv-ioctls knows no doorbell for every size, and none of a size for every value.
    fn ioeventfd(&self, request: &mshv_user_ioeventfd) -> Result<(), CallError> {
        ioctl(self, MSHV_IOEVENTFD(), request)
    }

    fn irqfd(&self, request: &mshv_user_irqfd) -> Result<(), CallError> {
        ioctl(self, MSHV_IRQFD(), request)
    }

    fn set_msi_routing(&self, entries: &[mshv_user_irq_entry]) -> Result<(), CallError> {
        let nr = u32::try_from(entries.len()).map_err(|_| EINVAL)?;
        // u32 nr, u32 0, and the entries: in words, as all of it is.
        let mut table = vec![nr, 0];
        for entry in entries {
            table.extend([entry.gsi, entry.address_lo, entry.address_hi, entry.data]);
        }
        // SAFETY: the fd is a partition's, and the driver reads a header and `nr` entries, which
        // the table holds and which outlive the call.
        let ret = unsafe { ioctl_with_ptr(self, MSHV_SET_MSI_ROUTING(), table.as_ptr()) };
        check(ret)
    }
}

impl VpCalls for VcpuFd {
    fn get_state(&self, kind: u8, page: &mut StatePage) -> Result<(), CallError> {
        let args = state(kind, page.0.as_mut_ptr() as u64);
        // SAFETY: the fd is a VP's, and the driver writes to the page that the arguments name,
        // of the size that they name; it is ours alone until the call returns.
        check(unsafe { ioctl_with_ref(self, MSHV_GET_VP_STATE(), &args) })
    }

    fn set_state(&self, kind: u8, page: &StatePage) -> Result<(), CallError> {
        let args = state(kind, page.0.as_ptr() as u64);
        // SAFETY: as above, but that the driver reads.
        check(unsafe { ioctl_with_ref(self, MSHV_SET_VP_STATE(), &args) })
    }
}

fn state(kind: u8, buf_ptr: u64) -> mshv_get_set_vp_state {
    mshv_get_set_vp_state {
        type_: kind,
        buf_sz: size_of::<StatePage>() as u32,
        buf_ptr,
        ..Default::default()
    }
}

fn ioctl<T>(fd: &impl AsRawFd, request: u64, args: &T) -> Result<(), CallError> {
    // SAFETY: the fd is a partition's, and the request reads a `T`, which outlives the call.
    check(unsafe { ioctl_with_ref(fd, request, args) })
}

fn check(ret: i32) -> Result<(), CallError> {
    match ret {
        0 => Ok(()),
        _ => Err(CallError::Os(vmm_sys_util::errno::Error::last().errno())),
    }
}

fn size(bytes: usize) -> Result<u16, CallError> {
    u16::try_from(bytes).map_err(|_| EINVAL)
}

impl From<MshvError> for CallError {
    fn from(error: MshvError) -> Self {
        match error {
            MshvError::Hypercall { status_raw, .. } => Self::Status(status_raw),
            MshvError::Errno(error) => Self::Os(error.errno()),
        }
    }
}

// Linux `include/uapi/linux/mshv.h`, the same on every architecture; mshv-ioctls has those of VP
// states for x86-64 alone.
ioctl_iow_nr!(MSHV_IRQFD, MSHV_IOCTL, 0x03, mshv_user_irqfd);
ioctl_iow_nr!(MSHV_IOEVENTFD, MSHV_IOCTL, 0x04, mshv_user_ioeventfd);
ioctl_iow_nr!(MSHV_SET_MSI_ROUTING, MSHV_IOCTL, 0x05, mshv_user_irq_table);
ioctl_iowr_nr!(MSHV_GET_VP_STATE, MSHV_IOCTL, 0x01, mshv_get_set_vp_state);
ioctl_iowr_nr!(MSHV_SET_VP_STATE, MSHV_IOCTL, 0x02, mshv_get_set_vp_state);
const MSHV_IOCTL: u32 = 0xB8;
/// As the driver answers to what is beyond its bounds.
const EINVAL: CallError = CallError::Os(22);
