// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! What the manager asks of this VMM: interrupts and kicks.

use std::io;
use std::sync::Arc;

use kvm_ioctls::VmFd;
use vm_synic::backend::emulated::{Asserted, SintInjector};
use vm_synic::{Host, SintInterrupt, VpIndex};

use crate::kick::Kicker;

/// Interrupts and kicks the vCPUs of one VM; VP index, APIC id and vCPU number are the same.
#[derive(Debug)]
pub struct VmHost {
    /// Brings the vectors of SINTs into the LAPICs.
    pub injector: SintInjector,
    kickers: Box<[Kicker]>,
}

impl VmHost {
    /// For the vCPUs 0 to `vcpus - 1` of `vm`.
    pub fn new(vm: Arc<VmFd>, vcpus: u32) -> Self {
        Self {
            injector: SintInjector::new(vm, 0..vcpus),
            kickers: (0..vcpus).map(|_| Kicker::default()).collect(),
        }
    }

    /// The kicker of `vp`, if there is such a VP.
    pub fn kicker(&self, vp: VpIndex) -> Option<&Kicker> {
        self.kickers.get(usize::try_from(vp.get()).ok()?)
    }

    /// Kicks every vCPU.
    pub fn kick_all(&self) {
        self.kickers.iter().for_each(Kicker::kick);
    }
}

impl Host for VmHost {
    fn assert_sint(&self, interrupt: SintInterrupt) -> io::Result<()> {
        if self.injector.assert(interrupt)? == Asserted::KickNeeded {
            self.kick(interrupt.addr.vp);
        }
        Ok(())
    }

    fn kick(&self, vp: VpIndex) {
        if let Some(kicker) = self.kicker(vp) {
            kicker.kick();
        }
    }
}
