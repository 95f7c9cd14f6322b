// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! Whatever a guest does with its timers: none expires early or too often, the VMM always knows the
//! earliest deadline, every expiry is accounted for, and a save and restore changes nothing.

mod timers;

use proptest::collection::vec;
use proptest::prelude::*;
use timers::*;
use vm_synic::abi::StimerConfig;
use vm_synic::sint0::{Arch, SintMessage};
use vm_synic::state::TimerState;
use vm_synic::test_utils::{HostCall, MockVm};
use vm_synic::{Message, SynicSnapshot};

#[derive(Clone, Copy, Debug)]
enum Op {
    Config(u8, u64),
    Count(u8, u64),
    Pass(u64),
    /// The VMM's timer runs out early.
    Early,
    Post,
    Take,
    EndOfMessage,
    Mask(bool),
    SwitchOn(bool),
    Pause,
    Resume,
    SaveAndRestore,
}

fn op() -> impl Strategy<Value = Op> {
    let config = (
        0..16u64,
        prop::sample::select(vec![0, 0x2_0000, 0x1ED0, 0x10F0]),
    );
    let config = config.prop_map(|(flags, mode)| flags | mode);
    let count = prop_oneof![0..20_000u64, Just(1), Just(u64::MAX)];
    prop_oneof![
        4 => (0..4u8, config).prop_map(|(timer, value)| Op::Config(timer, value)),
        4 => (0..4u8, count).prop_map(|(timer, value)| Op::Count(timer, value)),
        8 => (0..8_000u64).prop_map(Op::Pass),
        1 => Just(Op::Early),
        2 => Just(Op::Post),
        5 => Just(Op::Take),
        1 => Just(Op::EndOfMessage),
        2 => any::<bool>().prop_map(Op::Mask),
        1 => any::<bool>().prop_map(Op::SwitchOn),
        1 => Just(Op::Pause),
        2 => Just(Op::Resume),
        2 => Just(Op::SaveAndRestore),
    ]
}

struct Rig {
    vm: MockVm,
    guest: Option<Guest>,
    now: u64,
    /// What the VMM's timer is set to.
    deadline: Option<u64>,
    paused: bool,
    writes: u64,
    interrupts: u64,
}

impl Rig {
    fn new() -> Self {
        let (vm, guest) = up();
        Self {
            vm,
            guest: Some(guest),
            now: 0,
            deadline: None,
            paused: false,
            writes: 0,
            interrupts: 0,
        }
    }

    fn step(&mut self, op: Op) -> Vec<Message> {
        match op {
            Op::Config(timer, value) => self.guest().set(config_of(timer), value).unwrap(),
            Op::Count(timer, value) => self.guest().set(count_of(timer), value).unwrap(),
            Op::Pass(time) => self.now += time,
            Op::Early => self.due(),
            Op::Post => {
                post(&self.vm, 1);
            }
            Op::Take => return self.guest().take_message(SINT).into_iter().collect(),
            Op::EndOfMessage => self.guest().end_of_message(),
            Op::Mask(true) => self.guest().mask(SINT),
            Op::Mask(false) => self.guest().unmask(SINT, 0xF3),
            Op::SwitchOn(on) => self.guest().set_scontrol(on),
            Op::Pause => self.pause(),
            Op::Resume => self.resume(),
            Op::SaveAndRestore => self.save_and_restore(),
        }
        vec![]
    }

    fn guest(&self) -> &Guest {
        self.guest.as_ref().expect("it is back after each step")
    }

    fn due(&mut self) {
        self.deadline = None;
        self.vm.manager.timer_due(VP);
    }

    fn pause(&mut self) {
        self.paused = true;
        self.vm.manager.pause();
    }

    fn resume(&mut self) {
        self.paused = false;
        self.vm.manager.resume();
        self.vm.manager.pre_run(VP);
    }

    fn save_and_restore(&mut self) {
        let was_paused = self.paused;
        self.pause();
        self.hear();
        let state = self.vm.manager.save().unwrap();
        self.vm = self.vm.successor(config_with_timers());
        self.vm.manager.restore(&state).unwrap();
        let guest = self.guest.take().expect("it is back after each step");
        self.guest = Some(guest.under(self.vm.manager.clone()));
        if !was_paused {
            self.resume();
        }
    }

    /// Does what a VMM does, until there is nothing more to do.
    fn hear(&mut self) {
        loop {
            for call in self.vm.host.take_calls() {
                match call {
                    HostCall::SetTimer(_, deadline) => self.deadline = deadline,
                    HostCall::AssertVector(..) => self.interrupts += 1,
                    _ => {}
                }
            }
            if self.deadline.is_none_or(|deadline| deadline > self.now) {
                return;
            }
            self.due();
        }
    }

    fn synic(&self) -> SynicSnapshot {
        self.vm.manager.snapshot().vps.remove(0).plain
    }
}

fn expected_deadline(timers: &[TimerState]) -> Option<u64> {
    let armed = timers.iter().filter(|timer| !timer.is_undelivered);
    armed.filter_map(|timer| timer.expiration).min()
}

fn check(rig: &Rig) -> Result<(), TestCaseError> {
    let synic = rig.synic();
    prop_assert!(synic.balances(), "{:?}", synic);
    let deadline = expected_deadline(&synic.timers).filter(|_| !rig.paused);
    prop_assert_eq!(rig.deadline, deadline);
    let expired: u64 = synic.timers.iter().map(|t| t.counters.expired).sum();
    let most = rig.writes + 4 * (rig.now / 2_000);
    prop_assert!(expired <= most, "{} expired, {} at most", expired, most);
    let raised = |t: &TimerState| t.counters.interrupts - t.counters.failed;
    prop_assert_eq!(synic.timers.iter().map(raised).sum::<u64>(), rig.interrupts);
    for timer in &synic.timers {
        let sint = StimerConfig::from(timer.config).sint();
        prop_assert!(!timer.is_undelivered || sint == Some(SINT));
    }
    Ok(())
}

fn check_message(message: &Message, now: u64) -> Result<(), TestCaseError> {
    let parsed = SintMessage::parse(Arch::X64, message.message_type(), message.payload());
    if let Ok(SintMessage::TimerExpired(timer)) = parsed {
        prop_assert!(timer.expiration_time <= timer.delivery_time);
        prop_assert!(timer.delivery_time <= now);
    }
    Ok(())
}

/// Whether the guest does this; it does nothing while it is paused.
fn is_guests(op: Op) -> bool {
    use Op::{Config, Count, EndOfMessage, Mask, SwitchOn, Take};
    matches!(
        op,
        Config(..) | Count(..) | Take | EndOfMessage | Mask(_) | SwitchOn(_)
    )
}

/// Steps after which no message is left.
fn settle() -> impl Iterator<Item = Op> {
    let on = [Op::Resume, Op::SwitchOn(true), Op::Mask(false)];
    let takes = [Op::Take; 4 + 1 + DEPTH as usize];
    let stops = (0..4).map(|timer| Op::Config(timer, 0));
    on.into_iter().chain(stops).chain(takes)
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 256,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn steps_of_any_kind_leave_the_timers_whole(ops in vec(op(), 0..150)) {
        let mut rig = Rig::new();
        for op in ops.into_iter().chain(settle()) {
            if rig.paused && is_guests(op) {
                continue;
            }
            rig.writes += u64::from(matches!(op, Op::Config(..) | Op::Count(..)));
            let messages = rig.step(op);
            rig.vm.host.set_time(rig.now);
            rig.hear();
            for message in &messages {
                check_message(message, rig.now)?;
            }
            check(&rig)?;
        }
        let synic = rig.synic();
        prop_assert_eq!(synic.counters(SINT).messages.waiting, 0);
        prop_assert_eq!(rig.deadline, None);
    }
}
