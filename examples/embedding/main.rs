// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! A VMM of Cloud Hypervisor's shape that embeds the SynIC, with a plain epoll loop.
//!
//! `glue.rs` is all that such a VMM writes, complete; `vmm.rs` has the traits that it meets there, as
//! stand-ins. Here a small guest runs on it: it has a message waiting when the VM is saved, and takes
//! it in the VM that is restored.
//!
//! ```console
//! $ cargo run --example embedding --features serde
//! ```

mod glue;
mod vmm;

use std::error::Error;
use std::sync::Arc;
use std::sync::mpsc;
use std::time::Duration;

use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};
use vm_synic::{DoorbellSink, DoorbellSpec, Message, MessageType, SintAddr, SintIndex, VpIndex};
use vmm_sys_util::eventfd::EventFd;

use glue::Synic;
use vmm::{Interrupts, Kicks, Pausable, Snapshottable, VmOps};

fn main() -> Result<(), Box<dyn Error>> {
    let ram = GuestMemoryMmap::<()>::from_ranges(&[(GuestAddress(0), 1 << 20)])?;
    let ram = Arc::new(ram);
    let addr = SintAddr::new(VpIndex::new(0), SintIndex::VMBUS);

    // The manager is there before the interrupt manager and the vCPUs are.
    let mut synic = Synic::new(VCPUS, ram.clone(), None)?;
    let interrupts = Arc::new(Interrupts::default());
    synic.bind(interrupts.clone(), Arc::new(Kicks::default()));
    start_guest(&synic)?;

    // A device has two messages for the guest, which takes neither.
    for body in [b"one", b"two"] {
        let message = Message::new(MessageType::VMBUS, body)?;
        let posted = synic.manager().post_message(addr, &message)?;
        println!("posted {:?}: {posted:?}", std::str::from_utf8(body)?);
    }
    println!("vCPU 0 was interrupted by {:x?}", interrupts.take());

    // The guest answers: it rings a doorbell of the device's, and signals a connection that is none.
    let fd = Arc::new(EventFd::new(0)?);
    let doorbell = DoorbellSink::Fd(fd.clone());
    let registered = synic
        .manager()
        .add_doorbell(DoorbellSpec::at(DOORBELL), doorbell)?;
    println!(
        "doorbell: {}, {} times",
        synic.mmio_write(DOORBELL, &[1]),
        fd.read()?
    );
    println!(
        "HvSignalEvent: status {:#x}",
        synic.hypercall(0, [0x1_005D, 0x40, 0])
    );
    drop(registered);

    // A doorbell that the kernel rings comes to the loop, and from there to the device.
    let (sender, receiver) = mpsc::channel();
    let doorbell = synic.manager().watch(move |count| {
        let _ = sender.send(count);
    })?;
    doorbell.fd().write(1)?;
    let rung = receiver.recv_timeout(Duration::from_secs(10))?;
    println!("the doorbell's watch was served in the VMM's own loop: {rung}");

    synic.pause()?;
    let state = synic.snapshot()?;
    drop(synic);
    println!("saved {} bytes of JSON", state.len());

    let mut restored = Synic::new(VCPUS, ram.clone(), Some(&state))?;
    let interrupts = Arc::new(Interrupts::default());
    restored.bind(interrupts.clone(), Arc::new(Kicks::default()));
    restored.resume()?;
    restored.vp_pre_run(0);
    // The guest goes on: it takes the first message, and says so.
    println!("taken {:?}", take(&restored, &ram)?);
    println!("vCPU 0 was interrupted by {:x?}", interrupts.take());
    let second = take(&restored, &ram)?;
    println!("taken {second:?}");
    match second.as_str() {
        "two" => Ok(()),
        other => Err(format!("the second message is {other:?}").into()),
    }
}

/// What Linux's VMBus writes: SIMP, SIEFP, SINT2, SCONTROL.
fn start_guest(vcpu: &dyn VmOps) -> Result<(), Box<dyn Error>> {
    let writes = [
        (0x4000_0083, SIMP | 1),
        (0x4000_0082, 0x9001),
        (0x4000_0092, 0xF3),
        (0x4000_0080, 1),
    ];
    for (msr, value) in writes {
        if !vcpu.wrmsr(0, msr, value) || vcpu.rdmsr(0, msr) != Some(value) {
            return Err(format!("MSR {msr:#x} does not take {value:#x}").into());
        }
    }
    Ok(())
}

/// Empties the slot, and writes EOM if another message waits.
fn take(vcpu: &dyn VmOps, ram: &GuestMemoryMmap<()>) -> Result<String, Box<dyn Error>> {
    let slot = SIMP + 2 * 256;
    let mut bytes = [0; 256];
    ram.read_slice(&mut bytes, GuestAddress(slot))?;
    ram.write_slice(&[0; 4], GuestAddress(slot))?;
    if bytes[5] & 1 != 0 {
        vcpu.wrmsr(0, 0x4000_0084, 0);
    }
    let payload = &bytes[16..16 + usize::from(bytes[4])];
    Ok(String::from_utf8(payload.to_vec())?)
}

const VCPUS: u32 = 2;
const SIMP: u64 = 0x8000;
/// An address without RAM.
const DOORBELL: u64 = 0xFEB0_0000;

#[cfg(test)]
mod tests {
    #[test]
    fn vmm_that_is_restored_delivers_what_waited() {
        super::main().unwrap();
    }
}
