// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! Makes a vCPU leave `KVM_RUN`, or not enter it.
//!
//! No kick is lost: who kicks publishes the work first and then sends a signal, whose handler
//! runs on the vCPU's thread and sets `kvm_run.immediate_exit`. The thread clears that flag
//! *before* it looks for work. A signal that comes before the look has its work seen; one that
//! comes after it makes the next `KVM_RUN` return at once.

use std::cell::Cell;
use std::ptr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result};
use kvm_ioctls::VcpuFd;
use libc::{c_int, c_void, pthread_t, siginfo_t};
use vmm_sys_util::signal::{SIGRTMIN, register_signal_handler};

/// Installs the handler of the signal that kicks; once per process is enough, more does no harm.
pub fn install_signal_handler() -> Result<()> {
    register_signal_handler(SIGRTMIN(), handle_signal)
        .context("Cannot install the signal handler that kicks vCPUs")
}

/// Kicks one vCPU.
#[derive(Debug, Default)]
pub struct Kicker {
    /// Another thread has sent a signal, and the vCPU has not begun to look for work since.
    kicked: AtomicBool,
    /// The vCPU's thread while it runs; held while signalling, so that the thread cannot end.
    thread: Mutex<Option<pthread_t>>,
}

impl Kicker {
    /// Makes the vCPU look for work soon. Any thread; what is to be seen must be stored before.
    pub fn kick(&self) {
        let thread = self.lock();
        let Some(target) = *thread else {
            // The vCPU looks for work before it runs for the first time.
            return;
        };
        // SAFETY: `pthread_self` has no preconditions.
        if target == unsafe { libc::pthread_self() } {
            request_immediate_exit();
        } else if !self.kicked.swap(true, Ordering::SeqCst) {
            // SAFETY: `target` is a live thread: it clears `thread`, which is locked here, before
            // it ends. The signal's handler was installed before any thread attached.
            unsafe { libc::pthread_kill(target, SIGRTMIN()) };
        }
    }

    /// Lets the calling thread, which is about to run `vcpu`, be kicked until the guard is dropped.
    pub fn attach(&self, vcpu: &mut VcpuFd) -> Attached<'_> {
        RUN_IMMEDIATE_EXIT.set(&raw mut vcpu.get_kvm_run().immediate_exit);
        // SAFETY: `pthread_self` has no preconditions.
        *self.lock() = Some(unsafe { libc::pthread_self() });
        Attached(self)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<pthread_t>> {
        // The critical sections cannot panic, and the value is valid at any time.
        self.thread.lock().unwrap_or_else(|e| e.into_inner())
    }
}

/// The calling thread can be kicked; it must not outlive the vCPU it was made for.
#[derive(Debug)]
pub struct Attached<'a>(&'a Kicker);

impl Attached<'_> {
    /// Forgets earlier kicks. The thread calls it before it looks for work, each time.
    pub fn rearm(&self, vcpu: &mut VcpuFd) {
        self.0.kicked.store(false, Ordering::SeqCst);
        vcpu.set_kvm_immediate_exit(0);
    }
}

impl Drop for Attached<'_> {
    fn drop(&mut self) {
        *self.0.lock() = None;
        RUN_IMMEDIATE_EXIT.set(ptr::null_mut());
    }
}

extern "C" fn handle_signal(_: c_int, _: *mut siginfo_t, _: *mut c_void) {
    request_immediate_exit();
}

/// Makes the next `KVM_RUN` of the calling thread return at once, if it is a vCPU's.
fn request_immediate_exit() {
    let flag = RUN_IMMEDIATE_EXIT.get();
    if !flag.is_null() {
        // SAFETY: `flag` is in the vCPU's mapped `kvm_run`, which lives as long as the `VcpuFd`
        // whose thread this is; `Attached` clears it before. A byte store is atomic, and of this
        // process only this thread accesses the flag.
        unsafe { ptr::write_volatile(flag, 1) };
    }
}

thread_local! {
    // Initialised by a constant and without a destructor, so that a signal handler may read it.
    static RUN_IMMEDIATE_EXIT: Cell<*mut u8> = const { Cell::new(ptr::null_mut()) };
}

#[cfg(test)]
mod tests;
