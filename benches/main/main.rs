// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! What the SynIC costs, beside what the work itself costs.
//!
//! Every row runs twice: through the manager, and as its *floor*, which is the least that anybody
//! could do for the same effect, on pointers that are held already. Both include what the guest
//! does to make room for the next round, and the VMM's interrupt callback, which is one relaxed
//! atomic add, belongs to the manager's side alone. The table at the end compares the fastest of
//! many samples of each, which is what remains of a busy machine's noise.

mod events;
mod hypercalls;
mod messages;
#[cfg(feature = "mshv")]
mod mshv;
mod registers;
mod rig;
mod rings;
mod table;
mod threads;

use criterion::Criterion;
use std::time::Duration;
use table::Table;

fn main() {
    let criterion = Criterion::default()
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_millis(600))
        .sample_size(60)
        .configure_from_args();
    let mut table = Table::new(criterion);
    messages::rows(&mut table);
    events::rows(&mut table);
    rings::rows(&mut table);
    hypercalls::rows(&mut table);
    registers::rows(&mut table);
    #[cfg(feature = "mshv")]
    mshv::rows(&mut table);
    threads::rows(&mut table);
    table.finish();
}
