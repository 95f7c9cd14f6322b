// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! Turns the exits of KVM's SynIC into calls of the manager.

use kvm_bindings::{
    KVM_EXIT_HYPERV, KVM_EXIT_HYPERV_HCALL, KVM_EXIT_HYPERV_SYNIC, KVM_EXIT_X86_RDMSR,
    KVM_EXIT_X86_WRMSR, kvm_hyperv_exit__bindgen_ty_1__bindgen_ty_1 as SynicExit,
};
use kvm_ioctls::VcpuFd;

use super::{Error, MsrExit, vcpu};
use crate::abi::{Bank, Register, RegisterId};
use crate::{GuestSpace, HypercallInput, MsrError, SynicManager, VpIndex};

/// Serves a `Hyperv` exit, on the vCPU's thread and before the next `KVM_RUN`. A hypercall always
/// gets a result, as KVM gives the guest whatever stands there; `other` answers what is not the
/// SynIC's with the value of RAX; `|_| 2` is HV_STATUS_INVALID_HYPERCALL_CODE.
///
/// # Errors
/// [`Error::WrongExit`]; [`Error::SetMsr`] if KVM keeps a value that the manager refused.
pub fn serve_hyperv<AS: GuestSpace>(
    manager: &SynicManager<AS>,
    vp: VpIndex,
    vcpu: &mut VcpuFd,
    other: impl FnOnce(HypercallInput) -> u64,
) -> Result<(), Error> {
    let run = vcpu.get_kvm_run();
    if run.exit_reason != KVM_EXIT_HYPERV {
        return Err(Error::WrongExit(run.exit_reason));
    }
    // SAFETY: the exit reason says that this is the union's member; any bits are valid.
    let exit = unsafe { &mut run.__bindgen_anon_1.hyperv };
    match exit.type_ {
        KVM_EXIT_HYPERV_SYNIC => {
            // SAFETY: the type says that this is the union's member; any bits are valid.
            let exit = unsafe { exit.u.synic };
            registers_written(manager, vp, vcpu, exit)
        }
        KVM_EXIT_HYPERV_HCALL => {
            // SAFETY: as above.
            let call = unsafe { &mut exit.u.hcall };
            let input = hypercall_input(call.input, call.params);
            let result = manager.hypercall(vp, input);
            call.result = result.unwrap_or_else(|| other(input));
            Ok(())
        }
        // The synthetic debugger, which is off unless the VMM asks for it.
        _ => Ok(()),
    }
}

/// Serves an `X86Rdmsr` or `X86Wrmsr` exit of a trapped MSR. An MSR that is not the manager's is
/// prepared for #GP; a VMM that has it overrides that in `kvm_run.msr`.
///
/// # Errors
/// [`Error::WrongExit`]; [`Error::SetMsr`] if KVM refuses what the manager took.
pub fn serve_msr<AS: GuestSpace>(
    manager: &SynicManager<AS>,
    vp: VpIndex,
    vcpu: &mut VcpuFd,
) -> Result<MsrExit, Error> {
    let run = vcpu.get_kvm_run();
    let reason = run.exit_reason;
    // SAFETY: looked at only after the reason has told that this is the union's member; any bits
    // are valid.
    let exit = unsafe { run.__bindgen_anon_1.msr };
    let answer = match reason {
        KVM_EXIT_X86_RDMSR => manager.read_msr(vp, exit.index),
        KVM_EXIT_X86_WRMSR => write_msr(manager, vp, vcpu, exit.index, exit.data)?.map(|()| 0),
        other => return Err(Error::WrongExit(other)),
    };
    // SAFETY: as above; nothing has run the vCPU since.
    let exit = unsafe { &mut vcpu.get_kvm_run().__bindgen_anon_1.msr };
    exit.error = u8::from(answer.is_err());
    match answer {
        Ok(value) if reason == KVM_EXIT_X86_RDMSR => exit.data = value,
        Err(MsrError::NotMine(_)) => return Ok(MsrExit::NotMine),
        _ => {}
    }
    Ok(MsrExit::Done)
}

fn write_msr<AS: GuestSpace>(
    manager: &SynicManager<AS>,
    vp: VpIndex,
    vcpu: &VcpuFd,
    msr: u32,
    value: u64,
) -> Result<Result<(), MsrError>, Error> {
    match RegisterId::from_msr(msr) {
        Some(id) if id == RegisterId::plain(Register::Eom) => {
            let written = manager.write_msr(vp, msr, value);
            // KVM's own part of an EOM: its timers' messages (`kvm: kvm_hv_notify_acked_sint`).
            vcpu::set(vcpu, vp, msr, value)?;
            Ok(written)
        }
        Some(RegisterId {
            bank: Bank::Plain,
            register: Register::Sint(_),
        }) => {
            // KVM first: the manager may raise the SINT as soon as it is unmasked.
            vcpu::set(vcpu, vp, msr, value)?;
            let written = manager.write_msr(vp, msr, value);
            insist(manager, vp, vcpu, msr, value)?;
            Ok(written)
        }
        _ => Ok(manager.write_msr(vp, msr, value)),
    }
}

/// The guest has written SCONTROL, SIEFP or SIMP, and KVM has taken it. Where the manager refuses
/// the value, KVM gets the old one back; it is too late for a #GP.
fn registers_written<AS: GuestSpace>(
    manager: &SynicManager<AS>,
    vp: VpIndex,
    vcpu: &VcpuFd,
    exit: SynicExit,
) -> Result<(), Error> {
    let value = match RegisterId::from_msr(exit.msr).map(|id| id.register) {
        Some(Register::Scontrol) => exit.control,
        Some(Register::Siefp) => exit.evt_page,
        Some(Register::Simp) => exit.msg_page,
        _ => return Ok(()),
    };
    if let Err(error) = manager.write_msr(vp, exit.msr, value) {
        log::debug!("{vp}: {error}");
    }
    insist(manager, vp, vcpu, exit.msr, value)
}

/// Has KVM hold what the manager holds, if that is not `value`.
fn insist<AS: GuestSpace>(
    manager: &SynicManager<AS>,
    vp: VpIndex,
    vcpu: &VcpuFd,
    msr: u32,
    value: u64,
) -> Result<(), Error> {
    match manager.read_msr(vp, msr) {
        Ok(held) if held != value => vcpu::set(vcpu, vp, msr, held),
        _ => Ok(()),
    }
}

/// KVM has read the parameter of a slow HvSignalEvent already, and hands it over in the place of
/// its address with the control word unchanged (`kvm: kvm_hvcall_signal_event`, since Linux 5.14):
/// to the manager it is a fast call. Earlier kernels hand over the address, and the call fails with
/// an invalid connection; Linux never makes a slow one.
fn hypercall_input(control: u64, params: [u64; 2]) -> HypercallInput {
    let [input, output] = params;
    let is_signal = control & CODE == SIGNAL_EVENT;
    HypercallInput {
        control: if is_signal { control | FAST } else { control },
        input,
        output,
    }
}

const CODE: u64 = 0xFFFF;
const FAST: u64 = 1 << 16;
const SIGNAL_EVENT: u64 = 0x5D;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hypercall_input_when_a_slow_signal_was_read_by_kvm_is_a_fast_one() {
        let input = hypercall_input(SIGNAL_EVENT, [0x1234, 0]);
        assert_eq!(input.control, SIGNAL_EVENT | FAST);
        assert_eq!(input.input, 0x1234);
    }

    #[test]
    fn hypercall_input_when_a_message_is_posted_keeps_its_form() {
        let input = hypercall_input(0x5C, [0x5000, 0x6000]);
        assert_eq!(
            (input.control, input.input, input.output),
            (0x5C, 0x5000, 0x6000)
        );
    }
}
