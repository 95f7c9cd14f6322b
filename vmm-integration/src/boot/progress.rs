// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! How far a guest has come, told to a user who waits for it.

use std::fmt;
use std::io::{self, IsTerminal};
use std::sync::Arc;
use std::time::{Duration, Instant};

use vm_synic::{Snapshot, VpIndex};

use crate::devices::Console;
use crate::vm::{Manager, Vm};
use crate::vmbus::VmbusHost;

/// What a guest has to do next, in the order in which Linux does it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// To find out on what it runs.
    Detection,
    /// To load its VMBus driver, which enables the SynIC.
    Driver,
    /// To take VMBus messages.
    Sint,
    /// To contact the VMBus host.
    Contact,
    /// To end.
    End,
}

impl Stage {
    /// `guest_os_id` is `None` where KVM keeps it to itself, and `contacted` where there is no
    /// VMBus.
    pub fn of(guest_os_id: Option<u64>, snapshot: &Snapshot, contacted: Option<bool>) -> Self {
        let mut synics = snapshot.vps.iter().map(|vp| &vp.plain);
        let enabled = synics.clone().any(|synic| synic.scontrol & 1 != 0);
        let listens = synics.any(|synic| synic.sints[VMBUS_SINT] & SINT_MASKED == 0);
        match (enabled, listens, contacted) {
            (false, ..) if guest_os_id == Some(0) => Self::Detection,
            (_, _, None) | (true, true, Some(true)) => Self::End,
            (false, ..) => Self::Driver,
            (true, false, _) => Self::Sint,
            (true, true, Some(false)) => Self::Contact,
        }
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Detection => "the guest's hypervisor detection (it has not set GUEST_OS_ID)",
            Self::Driver => "the guest's VMBus driver (no VP has enabled its SynIC)",
            Self::Sint => "the guest's VMBus driver (SINT2 is masked)",
            Self::Contact => "the guest's VMBus contact",
            Self::End => "the guest's end",
        })
    }
}

/// Tells what a silent guest waits for.
pub struct Progress<'a> {
    manager: Arc<Manager>,
    knows_os_id: bool,
    vmbus: Option<&'a VmbusHost>,
    console: &'a Console,
    is_told: bool,
    written: u64,
    since: Instant,
    told: Option<Stage>,
}

impl<'a> Progress<'a> {
    /// On standard error, if somebody reads that: it is a terminal, or a log was asked for.
    pub fn new(vm: &Vm, vmbus: Option<&'a VmbusHost>, console: &'a Console) -> Self {
        Self {
            manager: vm.manager().clone(),
            knows_os_id: vm.backend().has_hypercall_port(),
            vmbus,
            console,
            is_told: io::stderr().is_terminal() || std::env::var_os("RUST_LOG").is_some(),
            written: 0,
            since: Instant::now(),
            told: None,
        }
    }

    /// What the guest has to do next.
    pub fn stage(&self) -> Stage {
        let vp = VpIndex::new(0);
        let guest_os_id = self
            .knows_os_id
            .then(|| self.manager.read_msr(vp, HV_X64_MSR_GUEST_OS_ID).ok());
        let contacted = self.vmbus.map(|vmbus| vmbus.report().contacts > 0);
        Stage::of(guest_os_id.flatten(), &self.manager.snapshot(), contacted)
    }

    /// Says so when the guest has been silent for long; once, as long as it does not get further.
    pub fn look(&mut self) {
        let written = self.console.written();
        if written != self.written {
            (self.written, self.since, self.told) = (written, Instant::now(), None);
        }
        if !self.is_told || self.since.elapsed() < SILENCE {
            return;
        }
        let stage = Some(self.stage()).filter(|stage| self.told != Some(*stage));
        if let Some(stage) = stage {
            let seconds = self.since.elapsed().as_secs();
            eprintln!("synic-vmm: no output for {seconds} s; waiting for {stage}");
            self.told = Some(stage);
        }
    }
}

const SILENCE: Duration = Duration::from_secs(5);
const HV_X64_MSR_GUEST_OS_ID: u32 = 0x4000_0000;
const VMBUS_SINT: usize = 2;
const SINT_MASKED: u64 = 1 << 16;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::boot::end::tests::snapshot;

    #[test]
    fn of_a_guest_that_does_nothing_is_detection() {
        let stage = Stage::of(Some(0), &snapshot(0, SINT_MASKED), Some(false));
        assert_eq!(stage, Stage::Detection);
    }

    #[test]
    fn of_a_guest_on_its_way_follows_the_registers() {
        let of = |scontrol, sint2, contacted| {
            Stage::of(Some(1), &snapshot(scontrol, sint2), Some(contacted))
        };
        assert_eq!(of(0, SINT_MASKED, false), Stage::Driver);
        assert_eq!(of(1, SINT_MASKED, false), Stage::Sint);
        assert_eq!(of(1, 0xf3, false), Stage::Contact);
        assert_eq!(of(1, 0xf3, true), Stage::End);
    }

    #[test]
    fn of_a_guest_whose_identity_only_kvm_knows_skips_detection() {
        let stage = Stage::of(None, &snapshot(0, SINT_MASKED), Some(false));
        assert_eq!(stage, Stage::Driver);
    }

    #[test]
    fn of_a_guest_without_vmbus_ends_with_detection() {
        assert_eq!(Stage::of(Some(1), &snapshot(0, 0), None), Stage::End);
    }
}
