// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! Stand-ins for what a VMM of that shape has already.

use std::error::Error;
use std::io;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

/// What vCPU threads call, from the exits of their vCPUs.
pub trait VmOps: Send + Sync {
    /// Before each entry into the guest.
    fn vp_pre_run(&self, vp: u32);
    /// `None`: #GP.
    fn rdmsr(&self, vp: u32, msr: u32) -> Option<u64>;
    /// False: #GP.
    fn wrmsr(&self, vp: u32, msr: u32, value: u64) -> bool;
    /// RCX, RDX, R8; gives RAX.
    fn hypercall(&self, vp: u32, registers: [u64; 3]) -> u64;
    /// A write to an address without RAM; false: it is a device's.
    fn mmio_write(&self, gpa: u64, data: &[u8]) -> bool;
}

/// Raises interrupts; there only once devices are.
pub trait InterruptManager: Send + Sync {
    /// A fixed, edge-triggered vector.
    fn trigger(&self, vp: u32, vector: u8) -> io::Result<()>;
}

/// Has vCPUs leave the guest. Takes no lock that is held while a vCPU is waited for.
pub trait VcpuKick: Send + Sync {
    /// Soon.
    fn signal_vcpu(&self, vp: u32);
}

/// Called right after the vCPUs have stopped, and right before they go on.
pub trait Pausable {
    /// Nothing is written to guest memory any more.
    fn pause(&mut self) -> Result<(), Box<dyn Error>>;
    /// It may be again.
    fn resume(&mut self) -> Result<(), Box<dyn Error>>;
}

/// Saved after it was paused.
pub trait Snapshottable {
    /// As JSON.
    fn snapshot(&mut self) -> Result<String, Box<dyn Error>>;
}

/// Writes vectors down.
#[derive(Debug, Default)]
pub struct Interrupts(Mutex<Vec<u8>>);

impl Interrupts {
    /// Since this was asked last.
    pub fn take(&self) -> Vec<u8> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(|e| e.into_inner()))
    }
}

impl InterruptManager for Interrupts {
    fn trigger(&self, _vp: u32, vector: u8) -> io::Result<()> {
        let mut vectors = self.0.lock().unwrap_or_else(|e| e.into_inner());
        vectors.push(vector);
        Ok(())
    }
}

/// Counts kicks.
#[derive(Debug, Default)]
pub struct Kicks(AtomicU64);

impl VcpuKick for Kicks {
    fn signal_vcpu(&self, _vp: u32) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}
