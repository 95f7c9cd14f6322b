// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! GUEST_OS_ID and the hypercall page: how the guest reaches us.
//!
//! Under a KVM without Hyper-V support a VMCALL never leaves the kernel. So the page that we write
//! leaves the guest by an `out` to a port of our own; the VMM sees a port-I/O exit, hands us the
//! registers and sets RAX.

use crate::config::{Config, Provider};
use crate::error::MsrError;
use crate::sync::lock;
use std::sync::Mutex;
use vm_memory::{Bytes, GuestAddress, GuestMemory};

/// The partition-wide MSRs behind hypercalls.
#[derive(Debug)]
pub(crate) struct HypercallPage {
    /// `None`: the hypervisor has the MSRs, and these are what is known of them.
    port: Option<u8>,
    msrs: Mutex<Msrs>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Msrs {
    guest_os_id: u64,
    hypercall: u64,
}

/// What a write meant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Written {
    /// The guest's kernel has given up its identity: it is about to hand over to another.
    pub guest_left: bool,
}

impl HypercallPage {
    pub fn new(config: &Config) -> Self {
        let is_ours = config.hypercall_page == Provider::Manager;
        Self {
            port: is_ours.then_some(config.hypercall_port),
            msrs: Mutex::default(),
        }
    }

    /// `None`: not one of these two MSRs.
    pub fn read_msr(&self, msr: u32) -> Option<u64> {
        self.port?;
        match msr {
            MSR_GUEST_OS_ID => Some(self.guest_os_id()),
            MSR_HYPERCALL => Some(self.hypercall()),
            _ => None,
        }
    }

    pub fn write_msr(
        &self,
        msr: u32,
        value: u64,
        memory: &impl GuestMemory,
    ) -> Result<Written, MsrError> {
        let port = self.port.ok_or(MsrError::NotMine(msr))?;
        let mut msrs = lock(&self.msrs);
        match msr {
            MSR_GUEST_OS_ID => Ok(msrs.set_guest_os_id(value)),
            MSR_HYPERCALL => msrs.set_hypercall(value, port, memory),
            _ => Err(MsrError::NotMine(msr)),
        }
    }

    pub fn guest_os_id(&self) -> u64 {
        lock(&self.msrs).guest_os_id
    }

    pub fn hypercall(&self) -> u64 {
        lock(&self.msrs).hypercall
    }

    /// Values of a saved state, or what the hypervisor tells. The page itself is guest memory and
    /// comes back with it.
    pub fn hold(&self, guest_os_id: u64, hypercall: u64) {
        *lock(&self.msrs) = Msrs {
            guest_os_id,
            hypercall,
        };
    }

    pub fn reset(&self) {
        *lock(&self.msrs) = Msrs::default();
    }
}

impl Msrs {
    fn set_guest_os_id(&mut self, value: u64) -> Written {
        let guest_left = value == 0 && self.guest_os_id != 0;
        self.guest_os_id = value;
        if value == 0 {
            // A guest without an identity makes no hypercalls (TLFS; KVM `kvm_hv_set_msr_pw`).
            self.hypercall &= !ENABLE;
        }
        Written { guest_left }
    }

    fn set_hypercall(
        &mut self,
        value: u64,
        port: u8,
        memory: &impl GuestMemory,
    ) -> Result<Written, MsrError> {
        let ignored = self.guest_os_id == 0 || self.hypercall & LOCKED != 0;
        if !ignored {
            if value & ENABLE != 0 {
                let code = [OUT_IMM8_AL, port, RET];
                let written = memory.write_slice(&code, GuestAddress(value & !0xFFF));
                written.map_err(|_| MsrError::Fault)?;
            }
            self.hypercall = value;
        }
        Ok(Written::default())
    }
}

const MSR_GUEST_OS_ID: u32 = 0x4000_0000;
const MSR_HYPERCALL: u32 = 0x4000_0001;
const ENABLE: u64 = 1;
/// Until reset, the MSR keeps its value.
const LOCKED: u64 = 2;
const OUT_IMM8_AL: u8 = 0xE6;
const RET: u8 = 0xC3;

#[cfg(test)]
mod tests {
    use super::*;
    use vm_memory::GuestMemoryMmap;

    fn page() -> HypercallPage {
        HypercallPage::new(&Config::new(1))
    }

    #[test]
    fn msrs_where_the_hypervisor_has_them_are_not_the_managers() {
        let page = HypercallPage::new(&Config {
            hypercall_page: Provider::Hypervisor,
            ..Config::new(1)
        });
        for msr in [MSR_GUEST_OS_ID, MSR_HYPERCALL] {
            assert_eq!(page.read_msr(msr), None);
            let written = page.write_msr(msr, 1, &ram());
            assert_eq!(written, Err(MsrError::NotMine(msr)));
        }
    }

    fn ram() -> GuestMemoryMmap<()> {
        GuestMemoryMmap::from_ranges(&[(GuestAddress(0), 0x2000)]).unwrap()
    }

    #[test]
    fn hypercall_before_the_guest_has_an_id_is_ignored() {
        let (page, ram) = (page(), ram());
        page.write_msr(MSR_HYPERCALL, 0x1001, &ram).unwrap();
        assert_eq!(page.read_msr(MSR_HYPERCALL), Some(0));
        assert_eq!(ram.read_obj::<u8>(GuestAddress(0x1000)).unwrap(), 0);
    }

    #[test]
    fn hypercall_when_enabled_holds_code_that_leaves_by_the_port() {
        let (page, ram) = (page(), ram());
        page.write_msr(MSR_GUEST_OS_ID, 1, &ram).unwrap();
        page.write_msr(MSR_HYPERCALL, 0x1001, &ram).unwrap();
        let code = ram.read_obj::<[u8; 3]>(GuestAddress(0x1000)).unwrap();
        assert_eq!(code, [0xE6, 0xE4, 0xC3]);
    }

    #[test]
    fn hypercall_outside_ram_faults_and_keeps_its_value() {
        let (page, ram) = (page(), ram());
        page.write_msr(MSR_GUEST_OS_ID, 1, &ram).unwrap();
        let written = page.write_msr(MSR_HYPERCALL, 0x9001, &ram);
        assert_eq!(written, Err(MsrError::Fault));
        assert_eq!(page.read_msr(MSR_HYPERCALL), Some(0));
    }

    #[test]
    fn guest_os_id_cleared_disables_hypercalls_and_tells_that_the_guest_left() {
        let (page, ram) = (page(), ram());
        page.write_msr(MSR_GUEST_OS_ID, 1, &ram).unwrap();
        page.write_msr(MSR_HYPERCALL, 0x1001, &ram).unwrap();
        let written = page.write_msr(MSR_GUEST_OS_ID, 0, &ram);
        assert_eq!(written, Ok(Written { guest_left: true }));
        assert_eq!(page.read_msr(MSR_HYPERCALL), Some(0x1000));
    }

    #[test]
    fn hypercall_when_locked_keeps_its_value_until_reset() {
        let (page, ram) = (page(), ram());
        page.write_msr(MSR_GUEST_OS_ID, 1, &ram).unwrap();
        page.write_msr(MSR_HYPERCALL, 0x1003, &ram).unwrap();
        page.write_msr(MSR_HYPERCALL, 0, &ram).unwrap();
        assert_eq!(page.read_msr(MSR_HYPERCALL), Some(0x1003));
        page.reset();
        assert_eq!(page.read_msr(MSR_HYPERCALL), Some(0));
    }
}
