// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! What every backend must do alike: one suite, played on each.
//!
//! A backend brings a [`Machine`]: a manager, and a guest that can touch registers and make
//! hypercalls. [`cases`] has the suite; each case takes a machine that nobody has used. What a case
//! looks at is what guest and VMM see in the end, not by which way it came: one backend writes a
//! message at once, another has its VP do so, a third asks the hypervisor.
//!
//! ```
//! use vm_synic::test_utils::conformance::{Emulated, cases};
//!
//! for case in cases::<Emulated>() {
//!     (case.play)(&mut Emulated::new(case.config()));
//! }
//! ```

mod events;
mod guest;
mod hypercalls;
mod lifecycle;
mod machine;
mod messages;

use crate::config::{Config, WhenMasked};

pub use guest::Guest;
#[cfg(feature = "mshv")]
pub use machine::Mshv;
pub use machine::{Emulated, Machine};

/// One case of the suite.
#[derive(Clone, Copy, Debug)]
pub struct Case<M> {
    /// What it shows, as a test is named.
    pub name: &'static str,
    /// Plays it, and panics if the backend does not conform.
    pub play: fn(&mut M),
    when_masked: WhenMasked,
}

impl<M> Case<M> {
    /// What the machine's manager is to be made with: two VPs, and a queue of four.
    pub fn config(&self) -> Config {
        Config {
            queue_depth: QUEUE,
            when_masked: self.when_masked,
            ..Config::new(2)
        }
    }
}

/// The whole suite.
pub fn cases<M: Machine>() -> Vec<Case<M>> {
    let mut cases = Vec::new();
    let mut add = |when_masked, suite: Vec<Named<M>>| {
        let suite = suite.into_iter().map(|(name, play)| Case {
            name,
            play,
            when_masked,
        });
        cases.extend(suite);
    };
    add(WhenMasked::Refuse, messages::cases());
    add(WhenMasked::Refuse, events::cases());
    add(WhenMasked::Refuse, hypercalls::cases());
    add(WhenMasked::Refuse, lifecycle::cases());
    add(WhenMasked::Hold, messages::cases_of_hold());
    cases
}

/// A function and its name.
type Named<M> = (&'static str, fn(&mut M));

/// Names each function of a list.
macro_rules! named {
    ($($case:ident),* $(,)?) => {
        vec![$((stringify!($case), $case::<M> as fn(&mut M))),*]
    };
}
use named;

const QUEUE: u16 = 4;
