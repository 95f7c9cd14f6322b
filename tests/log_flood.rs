// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! A guest that can make the host fail again and again cannot fill the host's log with it.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use log::{Level, LevelFilter, Log, Metadata, Record};
use vm_memory::{GuestAddress, GuestMemoryMmap};
use vm_synic::{Config, Host, SintAddr, SintIndex, SintInterrupt, SynicManager, VpIndex};

/// Counts what is reported as an error. The only test here, so that every line is its own.
struct Errors(AtomicUsize);

static ERRORS: Errors = Errors(AtomicUsize::new(0));

impl Log for Errors {
    fn enabled(&self, _metadata: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        let is_error = record.level() == Level::Error;
        self.0.fetch_add(usize::from(is_error), Ordering::SeqCst);
    }

    fn flush(&self) {}
}

/// A host that can do nothing for a SINT.
struct Helpless;

impl Host for Helpless {
    fn assert_sint(&self, _interrupt: SintInterrupt) -> io::Result<()> {
        Err(io::ErrorKind::NotFound.into())
    }

    fn route(&self, _addr: SintAddr, _vector: Option<u8>) -> io::Result<()> {
        Err(io::ErrorKind::NotFound.into())
    }
}

#[test]
fn guest_when_the_host_fails_each_time_logs_one_error_per_sint() {
    log::set_logger(&ERRORS).unwrap();
    log::set_max_level(LevelFilter::Trace);
    let memory = GuestMemoryMmap::<()>::from_ranges(&[(GuestAddress(0), 0x4000)]).unwrap();
    let manager = SynicManager::new(Config::new(1), Arc::new(memory), Arc::new(Helpless));
    let vp = VpIndex::new(0);
    manager.add_vp(vp).unwrap();
    let write = |msr, value| manager.write_msr(vp, msr, value).unwrap();
    write(0x4000_0082, 0x1001);
    write(0x4000_0080, 1);

    for flag in 0..100 {
        write(0x4000_0092, 0xF3);
        let flag = vm_synic::EventFlag::new(flag).unwrap();
        let vmbus = SintAddr::new(vp, SintIndex::VMBUS);
        assert!(manager.signal_event(vmbus, flag).unwrap());
    }

    let snapshot = manager.snapshot();
    let vmbus = snapshot.vps[0].plain.counters(SintIndex::VMBUS);
    assert_eq!(vmbus.interrupts.failed, 200, "routes and interrupts");
    assert_eq!(ERRORS.0.load(Ordering::SeqCst), 1);
}
