// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! The thread of one vCPU.

use std::sync::atomic::Ordering;

use anyhow::{Context, Error, Result, anyhow};
use kvm_bindings::{KVM_EXIT_INTERNAL_ERROR, KVM_SYSTEM_EVENT_CRASH};
use kvm_ioctls::{ReadMsrExit, VcpuExit, VcpuFd, WriteMsrExit};
use vm_synic::backend::emulated::{self, MsrExit};
use vm_synic::backend::kvm;
use vm_synic::{HvStatus, HypercallInput, VpIndex};

use crate::backend::Backend;
use crate::devices::PortWrite;
use crate::reference_time::ReferenceTime;
use crate::vm::{Shared, Stop};

/// Runs the vCPU until the VM stops (`None`) or the vCPU itself ends it.
pub(crate) fn run(vp: VpIndex, vcpu: &mut VcpuFd, vm: &Shared) -> Option<Stop> {
    let kicker = vm.host.kicker(vp)?;
    let attached = kicker.attach(vcpu);
    let stop = loop {
        attached.rearm(vcpu);
        if vm.stopping.load(Ordering::SeqCst) {
            break None;
        }
        match step(vp, vcpu, vm) {
            Ok(None) => {}
            Ok(Some(stop)) => break Some(stop),
            Err(e) => break Some(Stop::Failed(describe(e, vp, vcpu))),
        }
    };
    complete_exit(vcpu);
    stop
}

/// Has KVM finish the instruction that has exited last, without running the guest. Left undone, it
/// would be finished upon the state that a reset sets (KVM API, 5 "immediate_exit").
fn complete_exit(vcpu: &mut VcpuFd) {
    vcpu.set_kvm_immediate_exit(1);
    // EINTR, or whatever a vCPU answers that has failed.
    let _ = vcpu.run();
}

/// Delivers what waits, runs the guest until its next exit, and serves that.
fn step(vp: VpIndex, vcpu: &mut VcpuFd, vm: &Shared) -> Result<Option<Stop>> {
    vm.manager.pre_run(vp);
    vm.host.pre_run(vp, vcpu)?;
    let exit = match vcpu.run() {
        Ok(exit) => exit,
        Err(e) if e.errno() == libc::EINTR => return Ok(None),
        Err(e) if e.errno() == libc::EAGAIN => {
            return vm.host.prepare(vp, vcpu).map(|()| None);
        }
        Err(e) => return Err(e).context("KVM_RUN failed"),
    };
    vm.host.count_exit(vp);
    match serve(vp, exit, vm)? {
        Served::Resume => Ok(None),
        Served::Stop(stop) => Ok(Some(stop)),
        Served::Hypercall => {
            emulated::hypercall(&vm.manager, vp, vcpu, |input| other_hypercall(input, vm))?;
            Ok(None)
        }
        Served::ReferenceTime(index) => read_reference_time(index, vcpu, vm).map(|()| None),
        Served::KernelMsr => {
            let _ = kvm::serve_msr(&vm.manager, vp, vcpu)?;
            Ok(None)
        }
        Served::KernelSynic => {
            kvm::serve_hyperv(&vm.manager, vp, vcpu, |input| other_hypercall(input, vm))?;
            Ok(None)
        }
    }
}

/// What is not the SynIC's: a parent's, or nobody's.
fn other_hypercall(input: HypercallInput, vm: &Shared) -> u64 {
    match &vm.hypervisor {
        Some(hypervisor) => hypervisor.hypercall(input),
        None => HvStatus::InvalidHypercallCode.into(),
    }
}

enum Served {
    Resume,
    /// Needs the vCPU's registers, which the exit still borrows.
    Hypercall,
    /// Needs the vCPU's TSC, likewise: a register of the reference time is read.
    ReferenceTime(u32),
    /// Needs the vCPU, to keep KVM's SynIC in step: a trapped MSR.
    KernelMsr,
    /// Likewise: one of KVM's own SynIC exits.
    KernelSynic,
    Stop(Stop),
}

fn serve(vp: VpIndex, exit: VcpuExit<'_>, vm: &Shared) -> Result<Served> {
    match exit {
        VcpuExit::X86Rdmsr(_) | VcpuExit::X86Wrmsr(_) if vm.backend != Backend::Emulated => {
            return Ok(Served::KernelMsr);
        }
        VcpuExit::Hyperv => return Ok(Served::KernelSynic),
        VcpuExit::X86Rdmsr(mut exit) => return Ok(read_msr(vp, &mut exit, vm)),
        VcpuExit::X86Wrmsr(mut exit) => write_msr(vp, &mut exit, vm),
        VcpuExit::IoOut(port, _) if vm.hypercall_port == Some(port) => {
            return Ok(Served::Hypercall);
        }
        VcpuExit::IoOut(port, data) => return Ok(served(vm.ports.write(vp, port, data))),
        VcpuExit::IoIn(port, data) => vm.ports.read(port, data),
        VcpuExit::MmioWrite(gpa, data) => {
            // A write that rings no doorbell and reaches no device goes to an empty bus.
            let _ = vm.mmio.write(vp, gpa, data) || vm.manager.mmio_write(gpa, data);
        }
        VcpuExit::MmioRead(gpa, data) => vm.mmio.read(gpa, data),
        VcpuExit::IrqWindowOpen | VcpuExit::Intr => {}
        VcpuExit::SystemEvent(KVM_SYSTEM_EVENT_CRASH, _) => vm.msrs.report_crash(vp),
        VcpuExit::Shutdown => return Ok(Served::Stop(Stop::TripleFault(vp))),
        exit => return Err(anyhow!("Unexpected exit {exit:?}")),
    }
    Ok(Served::Resume)
}

fn served(write: PortWrite) -> Served {
    match write {
        PortWrite::Continue => Served::Resume,
        PortWrite::Exit(value) => Served::Stop(Stop::Exit(value)),
        PortWrite::PowerOff => Served::Stop(Stop::PowerOff),
        PortWrite::Reset => Served::Stop(Stop::Reset),
    }
}

fn read_msr(vp: VpIndex, exit: &mut ReadMsrExit<'_>, vm: &Shared) -> Served {
    match emulated::read_msr(&vm.manager, vp, exit) {
        MsrExit::NotMine if ReferenceTime::has(exit.index) => Served::ReferenceTime(exit.index),
        MsrExit::NotMine => {
            let value = vm.msrs.read(vp, exit.index);
            *exit.error = u8::from(value.is_none());
            *exit.data = value.unwrap_or_default();
            Served::Resume
        }
        MsrExit::Done => Served::Resume,
    }
}

fn write_msr(vp: VpIndex, exit: &mut WriteMsrExit<'_>, vm: &Shared) {
    if emulated::write_msr(&vm.manager, vp, exit) == MsrExit::NotMine {
        let memory = vm.memory.as_ref();
        let done = vm.time.write(exit.index, exit.data, memory)
            || vm.msrs.write(vp, exit.index, exit.data, memory);
        *exit.error = u8::from(!done);
    }
}

fn read_reference_time(index: u32, vcpu: &mut VcpuFd, vm: &Shared) -> Result<()> {
    let value = vm.time.read(index, vcpu)?;
    // SAFETY: the last exit was an MSR exit, so that this is the union's member; any bits are
    // valid.
    let exit = unsafe { &mut vcpu.get_kvm_run().__bindgen_anon_1.msr };
    exit.data = value;
    exit.error = 0;
    Ok(())
}

/// Adds to an error which vCPU it hit, and where in the guest.
fn describe(error: Error, vp: VpIndex, vcpu: &mut VcpuFd) -> Error {
    let place = match vcpu.get_regs() {
        Ok(regs) => format!("RIP {:#x}", regs.rip),
        Err(e) => format!("RIP unknown: {e}"),
    };
    let run = vcpu.get_kvm_run();
    let cause = if run.exit_reason == KVM_EXIT_INTERNAL_ERROR {
        // SAFETY: the exit reason says that KVM has filled in this member of the union.
        format!(", KVM suberror {}", unsafe {
            run.__bindgen_anon_1.internal.suberror
        })
    } else {
        String::new()
    };
    error.context(format!("{vp} cannot go on ({place}{cause})"))
}
