// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! A hypervisor that has the slots, and answers as it likes: whatever it says, and whenever the guest
//! takes what, messages arrive once and in order, all are accounted for, and none waits that nobody
//! asks for.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard};

use proptest::prelude::*;
use vm_memory::GuestMemoryMmap;
use vm_synic::test_utils::{MockVm, RecordingHost};
use vm_synic::{
    Config, EventFlag, Message, MessageType, NotReady, Partition, PartitionError, PostError,
    SintAddr, SintIndex, Slot, SynicManager, VpIndex, WhenDisabled, WhenMasked,
};

const VP: VpIndex = VpIndex::new(0);
const SINTS: u8 = 3;

/// Answers by a script, and by the rules once it is over.
#[derive(Default)]
struct Scripted(Mutex<State>);

#[derive(Default)]
struct State {
    script: VecDeque<Answer>,
    /// By SINT: what the guest has not taken.
    slots: [Option<u64>; SINTS as usize],
    awaited: u16,
    delivered: Vec<(u8, u64)>,
}

#[derive(Clone, Copy, Debug)]
enum Answer {
    Right,
    NotReady(NotReady),
    Failed,
}

impl Scripted {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }
}

impl State {
    fn answer(&mut self) -> Result<(), PartitionError> {
        match self.script.pop_front().unwrap_or(Answer::Right) {
            Answer::Right => Ok(()),
            Answer::NotReady(cause) => Err(PartitionError::NotReady(cause)),
            Answer::Failed => Err(PartitionError::Status(0x71)),
        }
    }
}

impl Partition for Scripted {
    fn post_message(&self, addr: SintAddr, message: &Message) -> Result<Slot, PartitionError> {
        let mut state = self.state();
        state.answer()?;
        let sint = addr.sint.get();
        let body = u64::from_le_bytes(message.payload().try_into().unwrap());
        let slot = &mut state.slots[usize::from(sint)];
        if slot.is_some() {
            return Ok(Slot::Busy);
        }
        *slot = Some(body);
        state.delivered.push((sint, body));
        Ok(Slot::Filled)
    }

    fn signal_event(&self, _: SintAddr, _: EventFlag) -> Result<bool, PartitionError> {
        self.state().answer().map(|()| true)
    }

    fn notify_deliverable(&self, _: VpIndex, sints: u16) -> Result<(), PartitionError> {
        let mut state = self.state();
        state.answer()?;
        state.awaited = sints;
        Ok(())
    }
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Post(u8),
    /// The guest empties a slot, and the VP tells of it if it was asked to.
    Take(u8),
    /// A VP tells without need.
    Tell(u16),
    Pause,
    Resume,
    Reset,
}

struct Vm {
    partition: Arc<Scripted>,
    manager: Arc<SynicManager<Arc<GuestMemoryMmap>>>,
    next: u64,
    accepted: Vec<(u8, u64)>,
}

impl Vm {
    fn new(config: Config, script: Vec<Answer>) -> Self {
        let partition = Arc::new(Scripted::default());
        partition.state().script = script.into();
        let memory = MockVm::new(Config::new(1), 1).memory;
        let host = Arc::new(RecordingHost::default());
        let manager = SynicManager::of_partition(config, memory, host, partition.clone());
        manager.add_vp(VP).unwrap();
        Self {
            partition,
            manager,
            next: 0,
            accepted: Vec::new(),
        }
    }

    fn play(&mut self, step: Step) {
        match step {
            Step::Post(sint) => self.post(sint),
            Step::Take(sint) => self.take(sint),
            Step::Tell(sints) => self.manager.sints_deliverable(VP, sints),
            Step::Pause => self.manager.pause(),
            Step::Resume => {
                self.manager.resume();
                self.manager.pre_run(VP);
            }
            Step::Reset => self.manager.reset_vp(VP).unwrap(),
        }
    }

    fn post(&mut self, sint: u8) {
        let body = self.next;
        self.next += 1;
        let addr = SintAddr::new(VP, SintIndex::new(sint).unwrap());
        let message = Message::new(MessageType::VMBUS, &body.to_le_bytes()).unwrap();
        match self.manager.post_message(addr, &message) {
            Ok(_) => self.accepted.push((sint, body)),
            Err(PostError::NoVp(_)) => panic!("the VP is there"),
            Err(_) => {}
        }
    }

    fn take(&self, sint: u8) {
        let mut state = self.partition.state();
        let taken = state.slots[usize::from(sint)].take();
        let told = state.awaited & 1 << sint;
        if taken.is_none() || told == 0 {
            return;
        }
        state.awaited &= !told;
        drop(state);
        self.manager.sints_deliverable(VP, told);
    }

    fn check(&self) {
        let delivered = self.partition.state().delivered.clone();
        for sint in 0..SINTS {
            let of = |all: &[(u8, u64)]| -> Vec<u64> {
                let own = all.iter().filter(|(of, _)| *of == sint);
                own.map(|(_, body)| *body).collect()
            };
            let (delivered, accepted) = (of(&delivered), of(&self.accepted));
            assert!(
                delivered.is_sorted_by(|one, two| one < two),
                "SINT{sint}: {delivered:?}"
            );
            assert!(delivered.iter().all(|body| accepted.contains(body)));
            let messages = self.messages(sint);
            let went = messages.delivered + messages.waiting + messages.dropped.total();
            assert_eq!(messages.posted, went, "SINT{sint}: {messages:?}");
            assert_eq!(messages.delivered, delivered.len() as u64);
        }
    }

    fn messages(&self, sint: u8) -> vm_synic::MessageCounters {
        self.manager.snapshot().vps[0].plain.counters[usize::from(sint)].messages
    }
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0..SINTS).prop_map(Step::Post),
        6 => (0..SINTS).prop_map(Step::Take),
        1 => (0..1u16 << SINTS).prop_map(Step::Tell),
        1 => Just(Step::Pause),
        1 => Just(Step::Resume),
        1 => Just(Step::Reset),
    ]
}

fn answer() -> impl Strategy<Value = Answer> {
    prop_oneof![
        6 => Just(Answer::Right),
        1 => Just(Answer::NotReady(NotReady::Masked)),
        1 => Just(Answer::NotReady(NotReady::ScontrolOff)),
        1 => Just(Answer::NotReady(NotReady::PageOff)),
        1 => Just(Answer::Failed),
    ]
}

fn config() -> impl Strategy<Value = Config> {
    let disabled = prop_oneof![Just(WhenDisabled::Refuse), Just(WhenDisabled::Hold)];
    let masked = prop_oneof![Just(WhenMasked::Refuse), Just(WhenMasked::Hold)];
    (0..4u16, disabled, masked).prop_map(|(queue_depth, when_disabled, when_masked)| Config {
        queue_depth,
        when_disabled,
        when_masked,
        ..Config::new(1)
    })
}

proptest! {
    #[test]
    fn messages_whatever_the_hypervisor_answers_arrive_once_in_order_and_all(
        config in config(),
        script in prop::collection::vec(answer(), 0..60),
        steps in prop::collection::vec(step(), 0..60),
    ) {
        let mut vm = Vm::new(config, script);
        for step in steps {
            vm.play(step);
            vm.check();
        }
        // From here on all goes well, and a resume asks again for what was refused.
        vm.partition.state().script.clear();
        vm.play(Step::Resume);
        for _ in 0..8 {
            (0..SINTS).for_each(|sint| vm.take(sint));
        }
        vm.check();
        for sint in 0..SINTS {
            prop_assert_eq!(vm.messages(sint).waiting, 0, "SINT{}", sint);
        }
    }
}
