// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! Turns a vCPU's exits into calls of the manager.

use kvm_bindings::kvm_sregs;
use kvm_ioctls::{ReadMsrExit, VcpuFd, WriteMsrExit};

use super::Error;
use crate::{GuestSpace, HypercallInput, MsrError, SynicManager, VpIndex};

/// Who has answered an MSR exit.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[must_use]
pub enum MsrExit {
    /// The manager: a value, or the #GP it asked for.
    Done,
    /// Nobody yet. The exit is set up to inject #GP; a VMM that has the MSR overrides that.
    NotMine,
}

/// Answers a guest's RDMSR from the manager.
pub fn read_msr<AS: GuestSpace>(
    manager: &SynicManager<AS>,
    vp: VpIndex,
    exit: &mut ReadMsrExit<'_>,
) -> MsrExit {
    let value = manager.read_msr(vp, exit.index);
    *exit.data = *value.as_ref().unwrap_or(&0);
    finish(value, exit.error)
}

/// Passes a guest's WRMSR to the manager.
pub fn write_msr<AS: GuestSpace>(
    manager: &SynicManager<AS>,
    vp: VpIndex,
    exit: &mut WriteMsrExit<'_>,
) -> MsrExit {
    finish(manager.write_msr(vp, exit.index, exit.data), exit.error)
}

/// Serves the `out` of the hypercall page that the manager laid out in guest memory.
///
/// Call it for an `IoOut` exit on the port the manager was configured with, on the vCPU's thread
/// and before the next `KVM_RUN`. `other` answers what is not a SynIC hypercall with the value of
/// RAX; `|_| 2` is HV_STATUS_INVALID_HYPERCALL_CODE.
///
/// The page's port can be written by any code that may use port I/O, so the rules for the caller
/// are checked here (TLFS "Hypercall Interface"): from CPL above 0, or outside 64-bit mode, the
/// call is not made and fails with HV_STATUS_ACCESS_DENIED or HV_STATUS_INVALID_HYPERCALL_INPUT.
/// A trap by port I/O leaves no room for the #UD of a real hypercall instruction.
///
/// # Errors
///
/// The vCPU's registers could not be read or written.
pub fn hypercall<AS: GuestSpace>(
    manager: &SynicManager<AS>,
    vp: VpIndex,
    vcpu: &VcpuFd,
    other: impl FnOnce(HypercallInput) -> u64,
) -> Result<(), Error> {
    let unreadable = |source| Error::GetRegisters {
        vp: vp.get(),
        source,
    };
    let mut regs = vcpu.get_regs().map_err(unreadable)?;
    let sregs = vcpu.get_sregs().map_err(unreadable)?;
    let input = HypercallInput {
        control: regs.rcx,
        input: regs.rdx,
        output: regs.r8,
    };
    // The OUT is complete or will be by itself; RIP must stay as it is (`kvm:
    // complete_fast_pio_out`).
    regs.rax = refusal(&sregs)
        .or_else(|| manager.hypercall(vp, input))
        .unwrap_or_else(|| other(input));
    vcpu.set_regs(&regs).map_err(|source| Error::SetRegisters {
        vp: vp.get(),
        source,
    })
}

fn finish<T>(result: Result<T, MsrError>, error: &mut u8) -> MsrExit {
    *error = u8::from(result.is_err());
    match result {
        Err(MsrError::NotMine(_)) => MsrExit::NotMine,
        _ => MsrExit::Done,
    }
}

fn refusal(sregs: &kvm_sregs) -> Option<u64> {
    if sregs.ss.dpl != 0 {
        Some(HV_STATUS_ACCESS_DENIED)
    } else if sregs.efer & EFER_LMA == 0 || sregs.cs.l == 0 {
        Some(HV_STATUS_INVALID_HYPERCALL_INPUT)
    } else {
        None
    }
}

const EFER_LMA: u64 = 1 << 10;
const HV_STATUS_INVALID_HYPERCALL_INPUT: u64 = 3;
const HV_STATUS_ACCESS_DENIED: u64 = 6;

#[cfg(test)]
mod tests {
    use super::*;

    fn long_mode_kernel() -> kvm_sregs {
        let mut sregs = kvm_sregs {
            efer: EFER_LMA,
            ..Default::default()
        };
        sregs.cs.l = 1;
        sregs
    }

    #[test]
    fn refusal_when_called_from_a_64_bit_kernel_is_none() {
        assert_eq!(refusal(&long_mode_kernel()), None);
    }

    #[test]
    fn refusal_when_called_from_user_mode_is_access_denied() {
        let mut sregs = long_mode_kernel();
        sregs.ss.dpl = 3;
        assert_eq!(refusal(&sregs), Some(HV_STATUS_ACCESS_DENIED));
    }

    #[test]
    fn refusal_when_called_outside_64_bit_mode_is_invalid_input() {
        let mut compatibility = long_mode_kernel();
        compatibility.cs.l = 0;
        let protected = kvm_sregs::default();
        for sregs in [compatibility, protected] {
            assert_eq!(refusal(&sregs), Some(HV_STATUS_INVALID_HYPERCALL_INPUT));
        }
    }

    #[test]
    fn finish_when_not_mine_prepares_a_fault_and_leaves_it_to_the_vmm() {
        let mut error = 0;
        assert_eq!(
            finish::<u64>(Err(MsrError::NotMine(0)), &mut error),
            MsrExit::NotMine
        );
        assert_eq!(error, 1);
        assert_eq!(finish(Ok(()), &mut error), MsrExit::Done);
        assert_eq!(error, 0);
        assert_eq!(
            finish::<()>(Err(MsrError::Fault), &mut error),
            MsrExit::Done
        );
        assert_eq!(error, 1);
    }
}
