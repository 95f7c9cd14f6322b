// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! Whatever guest and VMM do, in whatever order: every delivery comes once and in its order, the
//! counters balance, and a save and restore at any step is as if it had not been.

mod reference;

use proptest::collection::vec;
use proptest::prelude::*;
use reference::{DEPTH, Expected, Reference};
use std::collections::BTreeSet;
use std::sync::Arc;
use vm_memory::GuestMemoryMmap;
use vm_synic::abi::{PageRegister, Register, Sint};
use vm_synic::test_utils::{MockGuest, MockVm};
use vm_synic::{
    Config, DoorbellTarget, EventFlag, Message, MessageType, PortId, PostError, SintAddr,
    SintIndex, SynicSnapshot, VpIndex,
};

const VPS: u32 = 2;
const SINT: SintIndex = SintIndex::VMBUS;
const RING: SintIndex = SintIndex::DOORBELL;

/// One step. `usize` names the VP.
#[derive(Clone, Copy, Debug)]
enum Op {
    Post(usize),
    Signal(usize, u16),
    /// Rings ports from this one on, so many of them.
    Ring(usize, u32, u32),
    Take(usize),
    TakeFlags(usize),
    NextPort(usize),
    DrainRing(usize),
    EndOfMessage(usize),
    Mask(usize, bool),
    SwitchOn(usize, bool),
    MovePages(usize),
    Pause,
    Resume,
    SaveAndRestore,
}

fn op() -> impl Strategy<Value = Op> {
    let vp = || 0..VPS as usize;
    let flag = prop::sample::select(vec![0, 1, 63, 64, 2047]);
    prop_oneof![
        6 => vp().prop_map(Op::Post),
        4 => (vp(), flag).prop_map(|(vp, flag)| Op::Signal(vp, flag)),
        4 => (vp(), 1..90u32, 1..70u32).prop_map(|(vp, port, count)| Op::Ring(vp, port, count)),
        5 => vp().prop_map(Op::Take),
        2 => vp().prop_map(Op::TakeFlags),
        2 => vp().prop_map(Op::NextPort),
        1 => vp().prop_map(Op::DrainRing),
        1 => vp().prop_map(Op::EndOfMessage),
        2 => (vp(), any::<bool>()).prop_map(|(vp, masked)| Op::Mask(vp, masked)),
        1 => (vp(), any::<bool>()).prop_map(|(vp, on)| Op::SwitchOn(vp, on)),
        1 => vp().prop_map(Op::MovePages),
        1 => Just(Op::Pause),
        2 => Just(Op::Resume),
        2 => Just(Op::SaveAndRestore),
    ]
}

/// What somebody sees of a step.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Seen {
    Nothing,
    Posted(Expected),
    Signalled(Option<bool>),
    Messages(Vec<u8>),
    Flags(Vec<u16>),
    Ports(Vec<u32>),
}

/// The real thing: a VM and the kernel on each VP.
struct Real {
    vm: MockVm,
    guests: Vec<MockGuest<Arc<GuestMemoryMmap<()>>>>,
    paused: bool,
    next_body: u8,
}

fn config() -> Config {
    Config {
        queue_depth: DEPTH,
        ..Config::new(VPS)
    }
}

impl Real {
    fn new() -> Self {
        let vm = MockVm::new(config(), VPS);
        let guests = (0..VPS).map(|vp| {
            let mut guest = vm.guest(VpIndex::new(vp));
            guest.enable_all();
            guest.unmask(SintIndex::INTERCEPT, 0xF0);
            guest.unmask(SINT, 0xF2);
            // VP 0's ring interrupts, VP 1's announces itself through SINT0.
            guest.set_sint(
                RING,
                Sint::new().with_vector(0xF5).with_as_intercept(vp == 1),
            );
            guest
        });
        Self {
            guests: guests.collect(),
            vm,
            paused: false,
            next_body: 0,
        }
    }

    fn addr(vp: usize) -> SintAddr {
        SintAddr::new(VpIndex::new(vp as u32), SINT)
    }

    /// The next message: no two in a row are alike.
    fn body(&mut self) -> u8 {
        self.next_body = self.next_body.wrapping_add(1);
        self.next_body
    }

    fn post(&mut self, vp: usize, body: u8) -> Expected {
        let message = Message::new(MessageType::VMBUS, &[body]).unwrap();
        match self.vm.manager.post_message(Self::addr(vp), &message) {
            Ok(posted) => Expected::Accepted(posted),
            Err(PostError::NotReady { cause, .. }) => Expected::NotReady(cause),
            Err(PostError::WouldBlock(_)) => Expected::Full,
            Err(error) => panic!("{error}"),
        }
    }

    fn signal(&self, vp: usize, flag: u16) -> Option<bool> {
        let flag = EventFlag::new(flag).unwrap();
        self.vm.manager.signal_event(Self::addr(vp), flag).ok()
    }

    fn ring(&self, vp: usize, port: u32) {
        let target = DoorbellTarget::Vp(VpIndex::new(vp as u32));
        let port = PortId::new(port).unwrap();
        self.vm.manager.ring_doorbell(target, RING, port).unwrap();
    }

    fn ports(&mut self, vp: usize, most: usize) -> Vec<u32> {
        let guest = &mut self.guests[vp];
        // Linux takes the notice out of SINT0's slot before it looks at the ring.
        guest.take_messages(SintIndex::INTERCEPT);
        std::iter::from_fn(|| guest.next_port(RING))
            .take(most)
            .collect()
    }

    /// Each page moves to the place of the same page 32 KiB on, or back.
    fn move_pages(&self, vp: usize) {
        let guest = &self.guests[vp];
        for register in [Register::Simp, Register::Siefp, Register::Sirbp] {
            let gpa = PageRegister::from(guest.get(register)).gpa() ^ 0x8000;
            guest.set(register, PageRegister::at(gpa).into()).unwrap();
        }
    }

    fn pause(&mut self) {
        self.paused = true;
        self.vm.manager.pause();
    }

    fn resume(&mut self) {
        self.paused = false;
        self.vm.manager.resume();
        (0..VPS).for_each(|vp| self.vm.manager.pre_run(VpIndex::new(vp)));
    }

    fn save_and_restore(&mut self) {
        let was_paused = self.paused;
        self.pause();
        let state = self.vm.manager.save().unwrap();
        self.vm = self.vm.successor(config());
        self.vm.manager.restore(&state).unwrap();
        let guests = self.guests.drain(..);
        let guests = guests.map(|guest| guest.under(self.vm.manager.clone()));
        self.guests = guests.collect();
        if !was_paused {
            self.resume();
        }
    }

    fn step(&mut self, op: Op) -> Seen {
        match op {
            Op::Post(vp) => {
                let body = self.body();
                return Seen::Posted(self.post(vp, body));
            }
            Op::Signal(vp, flag) => return Seen::Signalled(self.signal(vp, flag)),
            Op::Take(vp) => {
                let taken = self.guests[vp].take_message(SINT).into_iter();
                return Seen::Messages(taken.flat_map(|m| m.payload().to_vec()).collect());
            }
            Op::TakeFlags(vp) => return Seen::Flags(self.guests[vp].take_flags(SINT)),
            Op::NextPort(vp) => return Seen::Ports(self.ports(vp, 1)),
            Op::DrainRing(vp) => return Seen::Ports(self.ports(vp, usize::MAX)),
            Op::Ring(vp, port, count) => (port..port + count).for_each(|port| self.ring(vp, port)),
            Op::EndOfMessage(vp) => self.guests[vp].end_of_message(),
            Op::Mask(vp, true) => self.guests[vp].mask(SINT),
            Op::Mask(vp, false) => self.guests[vp].unmask(SINT, 0xF2),
            Op::SwitchOn(vp, on) => self.guests[vp].set_scontrol(on),
            Op::MovePages(vp) => self.move_pages(vp),
            Op::Pause => self.pause(),
            Op::Resume => self.resume(),
            Op::SaveAndRestore => self.save_and_restore(),
        }
        Seen::Nothing
    }

    fn synics(&self) -> Vec<SynicSnapshot> {
        let vps = self.vm.manager.snapshot().vps.into_iter();
        vps.map(|vp| vp.plain).collect()
    }
}

/// The same step in the reference.
fn expected(vps: &mut [Reference], op: Op, body: u8) -> Seen {
    match op {
        Op::Post(vp) => return Seen::Posted(vps[vp].post(body)),
        Op::Signal(vp, flag) => return Seen::Signalled(vps[vp].signal(flag)),
        Op::Take(vp) => return Seen::Messages(vps[vp].take().into_iter().collect()),
        Op::TakeFlags(vp) => return Seen::Flags(vps[vp].take_flags()),
        Op::NextPort(vp) => return Seen::Ports(vps[vp].next_port().into_iter().collect()),
        Op::DrainRing(vp) => {
            let ports = std::iter::from_fn(|| vps[vp].next_port());
            return Seen::Ports(ports.collect());
        }
        Op::Ring(vp, port, count) => (port..port + count).for_each(|port| vps[vp].ring(port)),
        Op::EndOfMessage(vp) => vps[vp].end_of_message(),
        Op::Mask(vp, masked) => vps[vp].set_masked(masked),
        Op::SwitchOn(vp, on) => vps[vp].set_on(on),
        Op::MovePages(vp) => vps[vp].move_ring(),
        Op::Pause => vps.iter_mut().for_each(|vp| vp.paused = true),
        Op::Resume => vps.iter_mut().for_each(Reference::resume),
        Op::SaveAndRestore => {}
    }
    Seen::Nothing
}

/// Whether the guest does this; it does nothing while it is paused.
fn is_guests(op: Op) -> bool {
    !matches!(
        op,
        Op::Post(_) | Op::Signal(..) | Op::Ring(..) | Op::Pause | Op::Resume | Op::SaveAndRestore
    )
}

/// Steps after which nothing is left to deliver.
fn settle() -> impl Iterator<Item = Op> {
    let vps = 0..VPS as usize;
    let settle = |vp| {
        let takes = (0..=DEPTH).map(move |_| Op::Take(vp));
        let on = [Op::SwitchOn(vp, true), Op::Mask(vp, false)];
        let rest = [Op::TakeFlags(vp), Op::DrainRing(vp)];
        on.into_iter().chain(takes).chain(rest)
    };
    std::iter::once(Op::Resume).chain(vps.flat_map(settle))
}

/// What the guest of one VP was last seen to have, and whether it was interrupted for it.
#[derive(Default)]
struct Sight {
    slot: Option<u8>,
    flags: BTreeSet<u16>,
    /// It was interrupted since it last found the ring empty.
    hears_ring: bool,
}

fn check(real: &Real, vps: &[Reference], sights: &mut [Sight]) -> Result<(), TestCaseError> {
    for (vp, (reference, sight)) in vps.iter().zip(sights).enumerate() {
        let raised = real.vm.host.take_raised(VpIndex::new(vp as u32));
        sight.hears_ring |= raised & (RING.bit() | SintIndex::INTERCEPT.bit()) != 0;
        let slot = real.guests[vp].peek_message(SINT);
        let body = slot.and_then(|message| message.payload().first().copied());
        prop_assert_eq!(body, reference.slot, "VP {}: the slot", vp);
        let has_message = body.is_some() && body != sight.slot;
        let has_flag = !reference.flags.is_subset(&sight.flags);
        let is_due = (has_message || has_flag) && !reference.masked;
        prop_assert!(
            raised & SINT.bit() != 0 || !is_due,
            "VP {}: no interrupt",
            vp
        );
        let unread = !reference.entries.is_empty();
        prop_assert!(
            sight.hears_ring || !unread,
            "VP {}: doorbells without a signal",
            vp
        );
        sight.slot = body;
        sight.flags.clone_from(&reference.flags);
    }
    let synics = real.synics();
    prop_assert!(synics.iter().all(SynicSnapshot::balances), "{:?}", synics);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 128,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn steps_of_any_kind_are_seen_as_the_reference_says(ops in vec(op(), 0..120)) {
        let mut real = Real::new();
        let mut vps = vec![Reference { on: true, ..Reference::default() }; VPS as usize];
        let mut sights = [(); VPS as usize].map(|()| Sight::default());
        for op in ops.into_iter().chain(settle()) {
            if real.paused && is_guests(op) {
                continue;
            }
            let seen = real.step(op);
            prop_assert_eq!(&seen, &expected(&mut vps, op, real.next_body), "{:?}", op);
            check(&real, &vps, &mut sights)?;
            match op {
                Op::NextPort(vp) if seen == Seen::Ports(vec![]) => sights[vp].hears_ring = false,
                Op::DrainRing(vp) => sights[vp].hears_ring = false,
                _ => {}
            }
        }
        for synic in real.synics() {
            prop_assert_eq!(synic.counters(SINT).messages.waiting, 0);
            prop_assert_eq!(synic.counters(RING).ring.waiting, 0);
        }
    }

    #[test]
    fn save_and_restore_at_any_step_is_as_never_having_saved(ops in vec(op(), 0..120)) {
        let [mut saved, mut unsaved] = [Real::new(), Real::new()];
        for op in ops.into_iter().chain(settle()) {
            if saved.paused && is_guests(op) {
                continue;
            }
            let seen = saved.step(op);
            if !matches!(op, Op::SaveAndRestore) {
                prop_assert_eq!(seen, unsaved.step(op), "{:?}", op);
            }
        }
        for (saved, unsaved) in saved.synics().iter().zip(&unsaved.synics()) {
            prop_assert_eq!(saved.sints, unsaved.sints);
            prop_assert_eq!(saved.counters(SINT).events, unsaved.counters(SINT).events);
            prop_assert_eq!(saved.counters(RING).ring, unsaved.counters(RING).ring);
        }
    }
}
