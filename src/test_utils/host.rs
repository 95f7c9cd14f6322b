// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! A host that writes down what it is asked for.

use crate::abi::{SintAddr, VpIndex};
use crate::host::{Host, SintInterrupt};
use crate::sync::lock;
use std::io;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// One call of the manager.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HostCall {
    /// [`Host::assert_sint`].
    Assert(SintInterrupt),
    /// [`Host::route`].
    Route(SintAddr, Option<u8>),
    /// [`Host::kick`].
    Kick(VpIndex),
    /// [`Host::writable`].
    Writable(SintAddr),
    /// [`Host::assert_vector`].
    AssertVector(VpIndex, u8),
    /// [`Host::set_timer`].
    SetTimer(VpIndex, Option<u64>),
}

/// Writes down each call, and fails interrupts and routes when told to.
#[derive(Debug, Default)]
pub struct RecordingHost {
    calls: Mutex<Vec<HostCall>>,
    failing: AtomicBool,
    time: AtomicU64,
}

impl RecordingHost {
    /// The calls since they were last taken, in order.
    pub fn take_calls(&self) -> Vec<HostCall> {
        std::mem::take(&mut *lock(&self.calls))
    }

    /// The interrupts since calls were last taken, in order; forgets the other calls, too.
    pub fn take_interrupts(&self) -> Vec<SintInterrupt> {
        let calls = self.take_calls().into_iter();
        let interrupts = calls.filter_map(|call| match call {
            HostCall::Assert(interrupt) => Some(interrupt),
            _ => None,
        });
        interrupts.collect()
    }

    /// The SINTs of one VP that were raised since they were last taken, as a set of bits; calls
    /// for other VPs stay.
    pub fn take_raised(&self, vp: VpIndex) -> u16 {
        let mut raised = 0;
        lock(&self.calls).retain(|call| match call {
            HostCall::Assert(interrupt) if interrupt.addr.vp == vp => {
                raised |= interrupt.addr.sint.bit();
                false
            }
            _ => true,
        });
        raised
    }

    /// The SINTs that became writable since calls were last taken; forgets the other calls, too.
    pub fn take_writable(&self) -> Vec<SintAddr> {
        let calls = self.take_calls().into_iter();
        let writable = calls.filter_map(|call| match call {
            HostCall::Writable(addr) => Some(addr),
            _ => None,
        });
        writable.collect()
    }

    /// Fails interrupts and routes from now on, or no longer. They are written down all the same.
    pub fn set_failing(&self, failing: bool) {
        self.failing.store(failing, Ordering::SeqCst);
    }

    /// Sets the reference time.
    pub fn set_time(&self, time: u64) {
        self.time.store(time, Ordering::SeqCst);
    }

    /// The deadlines of the VPs' timers since calls were last taken, in order; forgets the other
    /// calls, too.
    pub fn take_deadlines(&self) -> Vec<(VpIndex, Option<u64>)> {
        let calls = self.take_calls().into_iter();
        let deadlines = calls.filter_map(|call| match call {
            HostCall::SetTimer(vp, deadline) => Some((vp, deadline)),
            _ => None,
        });
        deadlines.collect()
    }

    fn record(&self, call: HostCall) {
        lock(&self.calls).push(call);
    }

    fn answer(&self) -> io::Result<()> {
        if self.failing.load(Ordering::SeqCst) {
            Err(io::Error::other("the test says so"))
        } else {
            Ok(())
        }
    }
}

impl Host for RecordingHost {
    fn assert_sint(&self, interrupt: SintInterrupt) -> io::Result<()> {
        self.record(HostCall::Assert(interrupt));
        self.answer()
    }

    fn route(&self, addr: SintAddr, vector: Option<u8>) -> io::Result<()> {
        self.record(HostCall::Route(addr, vector));
        self.answer()
    }

    fn assert_vector(&self, vp: VpIndex, vector: u8) -> io::Result<()> {
        self.record(HostCall::AssertVector(vp, vector));
        self.answer()
    }

    fn reference_time(&self) -> u64 {
        self.time.load(Ordering::SeqCst)
    }

    fn set_timer(&self, vp: VpIndex, deadline: Option<u64>) {
        self.record(HostCall::SetTimer(vp, deadline));
    }

    fn kick(&self, vp: VpIndex) {
        self.record(HostCall::Kick(vp));
    }

    fn writable(&self, addr: SintAddr) {
        self.record(HostCall::Writable(addr));
    }
}
