// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! A scenario that has ended, and what was seen of it.

use std::time::Duration;

use serde_json::Value;
use vm_synic::{Role, Snapshot};

use super::Scenario;
use super::guest::GuestReport;
use super::judge::Evidence;
use super::relay::{Handovers, TIMEOUT};
use crate::vm::Stop;
use crate::vmbus::VmbusReport;

/// A scenario that has ended.
#[derive(Debug)]
pub struct Played {
    /// What was to be done.
    pub scenario: Scenario,
    /// What the guest is.
    pub role: Role,
    /// By how many vCPUs.
    pub vcpus: u32,
    /// Who had the SynIC.
    pub backend: String,
    /// What the guest says.
    pub guest: GuestReport,
    /// What VMBus's host side says.
    pub vmbus: VmbusReport,
    /// What the SynIC says.
    pub synic: Snapshot,
    /// Its timeline, if that was asked for.
    pub trace: Option<Value>,
    /// How long it took.
    pub elapsed: Duration,
    /// The end of what the guest wrote.
    pub console: String,
    /// How often it was saved and restored, if that was the scenario.
    pub handovers: Option<Handovers>,
    /// How it ended.
    pub end: End,
}

/// How a guest has ended.
#[derive(Debug, PartialEq, Eq)]
pub enum End {
    /// As it should.
    PowerOff,
    /// It had its time.
    TimedOut {
        /// And should have gone on so.
        waiting_for: String,
    },
    /// It could not go on.
    Fault(String),
}

impl Played {
    /// What went wrong.
    pub fn faults(&self) -> Vec<String> {
        let end = match &self.end {
            End::PowerOff => {
                return Evidence {
                    scenario: self.scenario,
                    role: self.role,
                    vcpus: self.vcpus,
                    guest: &self.guest,
                    vmbus: &self.vmbus,
                    synic: &self.synic,
                }
                .faults();
            }
            End::TimedOut { waiting_for } => format!("Timeout while waiting for {waiting_for}"),
            End::Fault(fault) => fault.clone(),
        };
        // The end explains all that is missing.
        let failures = self.guest.failures.iter().cloned();
        failures.chain([end]).collect()
    }

    /// Whether nothing went wrong.
    pub fn is_ok(&self) -> bool {
        self.faults().is_empty()
    }

    /// Whether the guest has not come to its end.
    pub fn timed_out(&self) -> bool {
        matches!(self.end, End::TimedOut { .. })
    }
}

impl End {
    /// A failure in words, which may be that of time.
    pub fn of_fault(fault: String) -> Self {
        match fault.contains(TIMEOUT) {
            true => Self::TimedOut { waiting_for: fault },
            false => Self::Fault(fault),
        }
    }

    /// What a VM came to.
    pub fn of(stop: Stop) -> Self {
        match stop {
            Stop::PowerOff => Self::PowerOff,
            Stop::Reset => Self::Fault("The guest has reset the machine unexpectedly".into()),
            Stop::TripleFault(vp) => Self::Fault(format!("{vp} took a triple fault")),
            Stop::Exit(value) => Self::Fault(format!("The guest ended with status {value}")),
            Stop::Failed(e) => Self::Fault(format!("{e:#}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn end_when_the_guest_did_not_power_off_is_a_fault() {
        assert_eq!(End::of(Stop::PowerOff), End::PowerOff);
        for stop in [
            Stop::Reset,
            Stop::Exit(0),
            Stop::TripleFault(vm_synic::VpIndex::new(1)),
        ] {
            assert!(matches!(End::of(stop), End::Fault(_)));
        }
    }
}
