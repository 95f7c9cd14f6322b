// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! How a guest ended, for people and for programs.

use std::time::Duration;

use serde_json::{Value, json};

use super::progress::Stage;
use super::vcpus::VcpuState;
use super::{STATUS_ERROR, STATUS_TIMEOUT};
use crate::devices::{Console, exit_status};
use crate::vm::Vm;
use crate::vmbus::VmbusHost;

/// How the guest ended.
#[derive(Debug)]
pub enum End {
    Exit(u32),
    PowerOff,
    /// It wants to be reset more often than is followed.
    Reset,
    /// The user has had enough.
    Quit,
    /// The user has had it saved.
    Saved,
    TimedOut,
    Failed(anyhow::Error),
}

impl End {
    /// The process's exit status.
    pub fn status(&self) -> u8 {
        match self {
            Self::Exit(value) => exit_status(*value),
            Self::PowerOff => 0,
            Self::Reset => STATUS_RESET,
            Self::Quit => STATUS_QUIT,
            Self::Saved => STATUS_SAVED,
            Self::TimedOut => STATUS_TIMEOUT,
            Self::Failed(_) => STATUS_ERROR,
        }
    }

    fn name(&self) -> &'static str {
        match self {
            Self::Exit(_) => "exit",
            Self::PowerOff => "poweroff",
            Self::Reset => "reset",
            Self::Quit => "quit",
            Self::Saved => "saved",
            Self::TimedOut => "timeout",
            Self::Failed(_) => "error",
        }
    }

    fn detail(&self) -> Value {
        match self {
            Self::Exit(value) => json!(value),
            Self::Failed(e) => json!(format!("{e:#}")),
            _ => Value::Null,
        }
    }
}

/// All that is known of a guest that has ended.
pub struct Report<'a> {
    pub end: End,
    pub reboots: u32,
    pub elapsed: Duration,
    pub vm: &'a Vm,
    pub vmbus: Option<&'a VmbusHost>,
    pub console: &'a Console,
    /// What the guest had to do next.
    pub waits_for: Stage,
}

impl Report<'_> {
    /// Says on standard error what went wrong and, where that is not the guest's word, what was
    /// seen.
    pub fn print(&self) {
        match &self.end {
            End::Exit(_) | End::PowerOff | End::Quit | End::Saved => return,
            End::Reset => {
                eprintln!("The guest has reset the machine; --reboots N follows N resets.");
                return;
            }
            End::TimedOut => {
                let (seconds, stage) = (self.elapsed.as_secs(), self.waits_for);
                eprintln!("Error: the guest did not end in {seconds} s; it waited for {stage}");
            }
            End::Failed(e) => eprintln!("Error: {e:#}"),
        }
        let vcpus = self.vcpus();
        for (index, vcpu) in vcpus.iter().enumerate() {
            eprintln!("vCPU {index} {vcpu}");
        }
        eprintln!("{}", self.vm.manager().snapshot());
        let words = self.console.tail();
        for hint in hints(self.waits_for, &words, &vcpus) {
            eprintln!("Hint: {hint}");
        }
        match last_lines(&words) {
            "" => eprintln!("The guest has written nothing."),
            tail => eprintln!("The guest's last words:\n{tail}"),
        }
    }

    /// The same for programs.
    pub fn to_json(&self) -> Value {
        json!({
            "ok": matches!(self.end, End::Exit(0) | End::PowerOff | End::Saved),
            "ended": self.end.name(),
            "detail": self.end.detail(),
            "status": self.end.status(),
            "seconds": self.elapsed.as_secs_f64(),
            "reboots": self.reboots,
            "backend": self.vm.backend().to_string(),
            "guest_crashed": self.vm.guest_has_crashed(),
            "waits_for": self.waits_for.to_string(),
            "vcpus": self.vcpus().iter().map(ToString::to_string).collect::<Vec<_>>(),
            "vmbus": self.vmbus.map(VmbusHost::report),
            "synic": self.vm.manager().snapshot().to_json(),
        })
    }

    /// Those whose state can be read, which are all unless KVM is broken.
    fn vcpus(&self) -> Vec<VcpuState> {
        let vcpus = self.vm.vcpus().iter().map(VcpuState::of);
        vcpus.filter_map(Result::ok).collect()
    }
}

/// What may be wrong with a guest that has not come as far as was waited for.
fn hints(stage: Stage, words: &str, vcpus: &[VcpuState]) -> Vec<&'static str> {
    let started = || vcpus.iter().filter(|vcpu| !vcpu.is_waiting());
    let dead = started().all(|vcpu| vcpu.is_halted() && !vcpu.takes_interrupts);
    let hints = [
        (
            words.is_empty(),
            "without any output, try earlyprintk=serial,ttyS0; the kernel needs CONFIG_SERIAL_8250_CONSOLE",
        ),
        (
            stage == Stage::Detection,
            "the guest has not chosen Hyper-V: it needs CONFIG_HYPERVISOR_GUEST and CONFIG_HYPERV, \
             and must get this far; it logs \"Hypervisor detected: Microsoft Hyper-V\"",
        ),
        (
            stage == Stage::Driver,
            "no VMBus driver: it needs CONFIG_HYPERV_VMBUS, as a module the initrd must load hv_vmbus",
        ),
        (
            dead && !vcpus.is_empty(),
            "all vCPUs are halted with interrupts off: the guest has given up",
        ),
    ];
    let hints = hints.into_iter().filter(|(applies, _)| *applies);
    hints.map(|(_, hint)| hint).collect()
}

fn last_lines(text: &str) -> &str {
    let start = text.trim_end().rmatch_indices('\n').nth(LAST_LINES - 1);
    text.get(start.map_or(0, |(at, _)| at + 1)..)
        .unwrap_or(text)
}

const LAST_LINES: usize = 20;
/// Even, like all statuses that are not a bare-metal guest's own.
const STATUS_RESET: u8 = 4;
const STATUS_SAVED: u8 = 6;
/// As for SIGINT.
const STATUS_QUIT: u8 = 130;

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::boot::vcpus::tests::state;
    use crate::memory::Memory;
    use std::io;
    use std::sync::Arc;
    use vm_memory::{GuestAddress, GuestMemoryMmap};
    use vm_synic::{Config, Host, SintInterrupt, Snapshot, SynicManager, VpIndex};

    struct NoHost;

    impl Host for NoHost {
        fn assert_sint(&self, _: SintInterrupt) -> io::Result<()> {
            Ok(())
        }

        fn kick(&self, _: VpIndex) {}
    }

    /// Of one VP with these registers.
    pub fn snapshot(scontrol: u64, sint2: u64) -> Snapshot {
        let memory = GuestMemoryMmap::from_ranges(&[(GuestAddress(0), 0x1000)]).unwrap();
        let memory: Memory = Arc::new(memory);
        let manager = SynicManager::new(Config::new(1), memory, Arc::new(NoHost));
        manager.add_vp(VpIndex::new(0)).unwrap();
        let mut snapshot = manager.snapshot();
        snapshot.vps[0].plain.scontrol = scontrol;
        snapshot.vps[0].plain.sints[2] = sint2;
        snapshot
    }

    #[test]
    fn last_lines_when_the_text_is_longer_keeps_its_end() {
        let text: String = (0..30).map(|i| format!("{i}\n")).collect();
        assert!(last_lines(&text).starts_with("10\n"));
        assert_eq!(last_lines("one\ntwo\n"), "one\ntwo\n");
    }

    #[test]
    fn status_when_the_guest_is_not_heard_differs_from_any_of_its_own() {
        assert_eq!(End::Exit(0).status(), 1);
        let failed = End::Failed(anyhow::anyhow!("no"));
        for end in [End::TimedOut, failed, End::Reset, End::Quit, End::Saved] {
            assert!(end.status() != 0 && end.status() % 2 == 0, "{end:?}");
        }
        assert_eq!(End::PowerOff.status(), 0);
    }

    #[test]
    fn hints_when_the_guest_is_silent_and_dead_say_so() {
        let halted = VcpuState {
            takes_interrupts: false,
            requested: None,
            in_service: None,
            ..state(kvm_bindings::KVM_MP_STATE_HALTED)
        };
        let waiting = state(kvm_bindings::KVM_MP_STATE_UNINITIALIZED);
        let hints = hints(Stage::Detection, "", &[halted, waiting]).join("\n");
        for word in ["earlyprintk", "CONFIG_HYPERV", "given up"] {
            assert!(hints.contains(word), "{hints}");
        }
    }

    #[test]
    fn hints_when_the_guest_only_takes_its_time_are_none() {
        let running = state(kvm_bindings::KVM_MP_STATE_RUNNABLE);
        assert!(hints(Stage::End, "login:", &[running]).is_empty());
    }
}
