// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! All that Linux does to the SynIC of an L1VH, in every order and with every failure.
//!
//! A model of an L1VH with two VPs, and of a root with one: its VMBus and MSHV drivers are loaded
//! and unloaded, CPUs go offline and come back, VMBus may refuse to let one go, the kernel is
//! rebooted, followed by another or crashes. One step is one access of one driver on one VP, so
//! that the VPs interleave everywhere, and every access that returns an error in
//! [`SynicAccess`](super::SynicAccess) may fail. stateright visits all states.
//!
//! The accesses are those of the real [`Driver`](super::Driver) and [`Claims`](super::Claims), each
//! write is judged by the real [`Rules`](super::Rules); the invariants are said once more, without
//! the ownership table, in `spec`. Each is shown to be able to fail: `mutants` has a driver, an
//! order or a rule with something wrong in it, and says exactly what breaks.
//!
//! | invariant | property | broken by |
//! |---|---|---|
//! | I1 *hands off* | `properties::I1` | MSHV that enables SIMP once more |
//! | I2 *no write while off* | `properties::I2` | VMBus that clears SCONTROL before SIEFP |
//! | I3 *last one out* | `properties::I3` | the same; VMBus that never clears SCONTROL |
//! | I4 *mask first* | `properties::I4` | VMBus with SIMP before SINT2, MSHV with SIRBP before SINT5 |
//! | I5 *free last* | `properties::I5` | MSHV that frees the ring first; a driver that keeps the address |
//! | I6 *undo your own* | `properties::I6` | an undo that forgets SINT0; one that does not look at the claims |
//! | I7 *MSHV leaves first* | `properties::I7` | hotplug callbacks in the other order |
//! | I8 *rings remember* | `rings::I8` | a read position that goes with the claims |
//! | no false alarm | `properties::QUIET` | rules that cover bring-up |
//! | no break unseen, a crash under MSHV among them | `properties::LOUD` | each kind of violation, switched off |
//!
//! | part | content |
//! |---|---|
//! | `replay` | the real driver code, one access at a time |
//! | `guest` | the state: VPs, drivers, the kernel's plan |
//! | `parent` | the steps |
//! | `spec` | what one step may not do |
//! | `properties` | what holds of each state, and what must be reached |
//! | `rings` | a model of its own for I8 |
//!
//! Not in the model: memory ordering (one VP's registers are written by that VP alone), the other
//! roles, hibernation, what is in the message and flags pages, and timers. It is wider than Linux
//! where that costs nothing: register accesses fail, module callbacks of two CPUs overlap, and
//! VMBus may refuse any CPU. It is narrower in three places: an undo fails once at most, MSHV that
//! cannot come back where VMBus refused takes the CPU down after all, and a crash kernel loads
//! VMBus alone.
//!
//! There are two exemptions from I2, and the rules do report both: an init that fails after it has
//! unmasked a SINT, but before it has set SCONTROL, takes that back while SCONTROL may be off (in
//! Linux nothing can fail there); and so does the handler of a crash in between.

mod guest;
mod mutants;
mod parent;
mod properties;
mod replay;
mod rings;
mod spec;

use super::{Criterion, Role};
use parent::Parent;
use stateright::{Checker, Expectation, Model};
use std::collections::BTreeSet;
use std::fmt::Debug;
use std::hash::Hash;

/// Visits all states; gives their number and the promises that were broken.
fn visit<M>(model: M) -> (usize, BTreeSet<&'static str>, impl Checker<M>)
where
    M: Model + Send + Sync + 'static,
    M::State: Clone + Hash + PartialEq + Debug + Send + Sync,
    M::Action: Clone + PartialEq + Debug + Send + Sync,
{
    let checked = model.checker().spawn_bfs().join();
    let seen = checked.discoveries();
    let properties = checked.model().properties().into_iter();
    let broken = properties.filter(|property| match property.expectation {
        Expectation::Sometimes => !seen.contains_key(property.name),
        Expectation::Always | Expectation::Eventually => seen.contains_key(property.name),
    });
    let broken = broken.map(|property| property.name).collect();
    (checked.unique_state_count(), broken, checked)
}

/// What must be seen beside all that `properties` says.
struct Seen {
    /// How many different accesses there are in all inits and exits, releases apart.
    can_fail: usize,
    /// Fewer states would be those of another model.
    states: usize,
}

#[track_caller]
fn check(role: Role, criterion: Criterion, vps: usize, seen: Seen) {
    let (states, broken, checked) = visit(Parent::new(role, vps, criterion));
    println!("{role:?}, {criterion:?}, VPs: {vps}: {states} states");
    assert_eq!(broken, BTreeSet::new());
    let failed = checked.model().failed.lock().unwrap();
    assert_eq!(failed.len(), seen.can_fail, "{failed:?}");
    assert!(states >= seen.states, "{states}");
}

#[test]
fn l1vh_of_linux_7_2_when_all_interleavings_are_visited_keeps_all_invariants() {
    let seen = Seen {
        can_fail: 10 + 8 + 9 + 6,
        states: 250_000,
    };
    check(Role::L1vh, Criterion::Linux72, 2, seen);
}

#[test]
fn l1vh_of_the_seed_when_all_interleavings_are_visited_keeps_all_invariants() {
    let seen = Seen {
        can_fail: 10 + 8 + 9 + 6,
        states: 250_000,
    };
    check(Role::L1vh, Criterion::Seed, 2, seen);
}

/// One VP: two are half a million states, and VPs of a root have even less to do with each other.
#[test]
fn root_when_all_failures_are_visited_keeps_all_invariants() {
    let seen = Seen {
        can_fail: 13 + 12,
        states: 1_500,
    };
    check(Role::Root, Criterion::Linux72, 1, seen);
}
