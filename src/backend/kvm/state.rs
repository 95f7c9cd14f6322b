// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! A vCPU's SynIC in KVM and the manager brought in step: for a new vCPU, a reset, a saved state.

use kvm_ioctls::VcpuFd;

use super::Error;
use super::vcpu::{get, set};
use crate::abi::{StimerConfig, TimerIndex};
use crate::stimer::HeldTimer;
use crate::{GuestSpace, Provider, SynicManager, VpIndex};

/// Gives KVM the registers that the manager holds for a VP, and the VP's index. The vCPU must not
/// run.
///
/// # Errors
/// [`Error::SetMsr`]: the vCPU's SynIC is not enabled, as a rule.
pub fn load<AS: GuestSpace>(
    manager: &SynicManager<AS>,
    vp: VpIndex,
    vcpu: &VcpuFd,
) -> Result<(), Error> {
    set(vcpu, vp, MSR_VP_INDEX, vp.get().into())?;
    let sints = (0..16).map(|sint| MSR_SINT0 + sint);
    for msr in [MSR_SIEFP, MSR_SIMP]
        .into_iter()
        .chain(sints)
        .chain([MSR_SCONTROL])
    {
        // A VP that the manager does not know has nothing to give.
        if let Ok(value) = manager.read_msr(vp, msr) {
            set(vcpu, vp, msr, value)?;
        }
    }
    Ok(())
}

/// After the manager was reset: KVM's part of the vCPU's Hyper-V state, which a reset of the vCPU
/// leaves alone (`kvm: kvm_vcpu_reset`), likewise.
///
/// # Errors
/// As for [`load`].
pub fn reset<AS: GuestSpace>(
    manager: &SynicManager<AS>,
    vp: VpIndex,
    vcpu: &VcpuFd,
) -> Result<(), Error> {
    for timer in TimerIndex::all() {
        load_timer(vcpu, vp, timer, HeldTimer::default())?;
    }
    // GUEST_OS_ID takes HYPERCALL with it.
    for msr in [MSR_VP_ASSIST_PAGE, MSR_REFERENCE_TSC, MSR_GUEST_OS_ID] {
        set(vcpu, vp, msr, 0)?;
    }
    load(manager, vp, vcpu)
}

/// Brings to the manager, before its [`save`](SynicManager::save), what KVM alone has of a VP: its
/// timers, if they are KVM's, and the registers of the hypercall page, likewise. The vCPU must not
/// run.
///
/// A periodic timer's phase is not told: its state expires one period after this call. Neither is a
/// message that waits for its slot: its timer's state is due, and sends it anew.
///
/// # Errors
/// [`Error::GetMsr`].
pub fn capture<AS: GuestSpace>(
    manager: &SynicManager<AS>,
    vp: VpIndex,
    vcpu: &VcpuFd,
) -> Result<(), Error> {
    let config = manager.config();
    if config.hypercall_page == Provider::Hypervisor {
        let guest_os_id = get(vcpu, vp, MSR_GUEST_OS_ID)?;
        manager.hold_hypercall_page(guest_os_id, get(vcpu, vp, MSR_HYPERCALL)?);
    }
    if config.timers == Some(Provider::Hypervisor) {
        let now = get(vcpu, vp, MSR_TIME_REF_COUNT)?;
        for timer in TimerIndex::all() {
            manager.hold_timer(vp, timer, capture_timer(vcpu, vp, timer, now)?);
        }
    }
    Ok(())
}

/// After the manager's [`restore`](SynicManager::restore): [`load`], and what
/// [`capture`] has brought to the manager that was saved. The vCPU must not run, and KVM's clock must
/// be as it was (`KVM_SET_CLOCK`): timers go by it. Where KVM writes the hypercall page, it does so
/// now.
///
/// # Errors
/// [`Error::SetMsr`].
pub fn restore<AS: GuestSpace>(
    manager: &SynicManager<AS>,
    vp: VpIndex,
    vcpu: &VcpuFd,
) -> Result<(), Error> {
    load(manager, vp, vcpu)?;
    let config = manager.config();
    if config.hypercall_page == Provider::Hypervisor {
        let (guest_os_id, hypercall) = manager.held_hypercall_page();
        // Without an identity there is no page (TLFS; `kvm: kvm_hv_set_msr_pw`).
        set(vcpu, vp, MSR_GUEST_OS_ID, guest_os_id)?;
        set(vcpu, vp, MSR_HYPERCALL, hypercall)?;
    }
    if config.timers == Some(Provider::Hypervisor) {
        for (timer, held) in manager.held_timers(vp) {
            load_timer(vcpu, vp, timer, held)?;
        }
    }
    Ok(())
}

fn capture_timer(
    vcpu: &VcpuFd,
    vp: VpIndex,
    timer: TimerIndex,
    now: u64,
) -> Result<HeldTimer, Error> {
    let [config, count] = msrs_of(timer);
    let (config, count) = (get(vcpu, vp, config)?, get(vcpu, vp, count)?);
    let is_periodic = StimerConfig::from(config).periodic();
    Ok(HeldTimer {
        config,
        count,
        // As KVM itself starts it (`kvm: stimer_start`).
        expiration: if is_periodic {
            now.saturating_add(count)
        } else {
            count
        },
    })
}

/// The count last: KVM starts the timer by what it holds then.
fn load_timer(vcpu: &VcpuFd, vp: VpIndex, timer: TimerIndex, held: HeldTimer) -> Result<(), Error> {
    let [config, count] = msrs_of(timer);
    set(vcpu, vp, config, held.config)?;
    set(vcpu, vp, count, held.count)
}

fn msrs_of(timer: TimerIndex) -> [u32; 2] {
    let config = MSR_STIMER0_CONFIG + 2 * u32::from(timer.get());
    [config, config + 1]
}

const MSR_VP_INDEX: u32 = 0x4000_0002;
const MSR_SCONTROL: u32 = 0x4000_0080;
const MSR_SIEFP: u32 = 0x4000_0082;
const MSR_SIMP: u32 = 0x4000_0083;
const MSR_SINT0: u32 = 0x4000_0090;
const MSR_GUEST_OS_ID: u32 = 0x4000_0000;
const MSR_HYPERCALL: u32 = 0x4000_0001;
const MSR_TIME_REF_COUNT: u32 = 0x4000_0020;
const MSR_REFERENCE_TSC: u32 = 0x4000_0021;
const MSR_VP_ASSIST_PAGE: u32 = 0x4000_0073;
/// The first of four pairs of CONFIG and COUNT.
const MSR_STIMER0_CONFIG: u32 = 0x4000_00B0;
