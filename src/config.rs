// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! What an embedder decides once, when it makes a manager.

use crate::ownership::{Criterion, Role, ViolationPolicy};

/// How a [`SynicManager`](crate::SynicManager) behaves where the specification leaves a choice.
///
/// ```
/// use vm_synic::{Config, Role, WhenMasked};
///
/// let config = Config {
///     role: Role::L1vh,
///     when_masked: WhenMasked::Hold,
///     ..Config::new(64)
/// };
/// assert_eq!(config.max_vps, 64);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// VP indices are below this number. Slots for absent VPs cost a pointer each.
    pub max_vps: u32,
    /// What the guest is: it decides who owns which register.
    pub role: Role,
    /// By which rule a guest's MSHV driver decides that VMBus owns the shared registers.
    pub criterion: Criterion,
    /// Whether SCONTROL.enable is set at reset. The TLFS says 0; Hyper-V itself, and KVM once
    /// SynIC is enabled, start with 1.
    pub scontrol_at_reset: bool,
    /// Whether VPs have a nested bank (MSRs 0x40001080 and up). Without, those MSRs fault.
    pub nested: bool,
    /// How many messages may wait for each SINT of each VP; the next one is refused.
    pub queue_depth: u16,
    /// What happens to a message for a VP whose SCONTROL or SIMP is off.
    pub when_disabled: WhenDisabled,
    /// What happens to a message for a masked SINT.
    pub when_masked: WhenMasked,
    /// Who writes messages into the guest's page.
    pub message_writer: MessageWriter,
    /// Who has the synthetic timers (MSRs 0x400000B0 to 0x400000B7; CPUID 40000003.EAX bit 3), if
    /// there are any. With [`Provider::Manager`] the VMM provides the time, and a timer for each VP:
    /// [`Host::reference_time`](crate::Host::reference_time),
    /// [`Host::set_timer`](crate::Host::set_timer). A periodic timer expires every 200 us at most,
    /// whatever the guest asks for. Otherwise those MSRs are not the manager's.
    pub timers: Option<Provider>,
    /// What happens to a register write that breaks an ownership rule.
    pub violations: ViolationPolicy,
    /// How many register writes the ownership ledger of a VP remembers.
    pub ledger_depth: usize,
    /// How many events the timeline of a VP remembers; 0 records none and costs nothing.
    pub timeline_depth: usize,
    /// Who has GUEST_OS_ID and HYPERCALL, and writes the hypercall page. With
    /// [`Provider::Hypervisor`] those MSRs are not the manager's.
    pub hypercall_page: Provider,
    /// The byte-wide I/O port by which the manager's hypercall page leaves the guest.
    pub hypercall_port: u8,
    /// Whether the guest may call `HvPostMessage` (CPUID 40000003.EBX bit 4).
    pub may_post_messages: bool,
    /// Whether the guest may call `HvSignalEvent` (CPUID 40000003.EBX bit 5).
    pub may_signal_events: bool,
    /// How many ports the guest may create for its own children, and how many connections it may make to
    /// each child (CPUID 40000003.EBX bits 6 and 7, CreatePort and ConnectPort). With 0, the default, the calls are the VMM's to answer.
    pub guest_ports: u32,
}

impl Config {
    /// The defaults, for at most `max_vps` VPs: a plain guest, messages refused where the VP is
    /// not ready for them, ownership observed, no timeline.
    pub const fn new(max_vps: u32) -> Self {
        Self {
            max_vps,
            role: Role::Guest,
            criterion: Criterion::Linux72,
            scontrol_at_reset: false,
            nested: false,
            queue_depth: 64,
            when_disabled: WhenDisabled::Refuse,
            when_masked: WhenMasked::Refuse,
            message_writer: MessageWriter::AnyThread,
            timers: None,
            violations: ViolationPolicy::Observe,
            ledger_depth: 256,
            timeline_depth: 0,
            hypercall_page: Provider::Manager,
            hypercall_port: 0xE4,
            may_post_messages: true,
            may_signal_events: true,
            guest_ports: 0,
        }
    }

    /// Whether timers expire here.
    pub(crate) fn runs_timers(&self) -> bool {
        self.timers == Some(Provider::Manager)
    }
}

/// Who has a part of the SynIC that a VMM may leave to its hypervisor.
///
/// What the hypervisor has is in a saved state all the same: a backend brings it to the manager
/// before the manager is saved, and back after it was restored (`capture` and `load`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Provider {
    /// The manager.
    Manager,
    /// The hypervisor, without the manager.
    Hypervisor,
}

/// What happens to a message for a VP whose SCONTROL or SIMP is off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WhenDisabled {
    /// It is refused, as Hyper-V does (`HV_STATUS_INVALID_SYNIC_STATE`); messages that waited when
    /// the guest switched off are dropped, so that none reaches the next kernel.
    Refuse,
    /// It waits until the guest switches on again.
    Hold,
}

/// What happens to a message for a masked SINT.
///
/// Messages that waited when the guest masked the SINT stay, whatever the policy: an EOM drains
/// a masked SINT too (TLFS).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WhenMasked {
    /// It is refused, as Hyper-V does (`HV_STATUS_INVALID_SYNIC_STATE`).
    Refuse,
    /// It waits until the guest unmasks the SINT or writes EOM.
    Hold,
    /// It goes into the slot without an interrupt, as KVM and QEMU do.
    Write,
}

/// Who writes messages into the guest's page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MessageWriter {
    /// The thread that posts, while the VP runs.
    AnyThread,
    /// The VP's own thread, in [`pre_run`](crate::SynicManager::pre_run), for which the VP is
    /// kicked. Needed where somebody else writes to the same page by the rules of that thread, as
    /// KVM's own synthetic timers do (`kvm: synic_deliver_msg`).
    VpThread,
}
