// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! Interrupt vectors that wait for a vCPU to come by.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// A set of interrupt vectors, as a value: 256 bits, vector 0 in bit 0 of word 0.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct VectorSet(pub [u64; WORDS]);

/// A set of vectors that any thread may add to and one vCPU thread takes from.
///
/// Like a LAPIC's IRR, a vector that is added while it already waits counts once.
#[derive(Debug, Default)]
pub(super) struct PendingVectors {
    /// Set after a bit of `words`, so that an idle vCPU reads only this.
    any: AtomicBool,
    words: [AtomicU64; WORDS],
}

impl PendingVectors {
    /// Adds `vector`.
    pub fn insert(&self, vector: u8) {
        let (word, bit) = position(vector);
        if let Some(word) = self.words.get(word) {
            word.fetch_or(bit, Ordering::SeqCst);
            self.any.store(true, Ordering::SeqCst);
        }
    }

    /// Whether a vector may wait: one load, and never false for one that was inserted before.
    pub fn any(&self) -> bool {
        self.any.load(Ordering::SeqCst)
    }

    /// Removes and returns the highest vector, the one a LAPIC would deliver first.
    pub fn take_highest(&self) -> Option<u8> {
        (0..=u8::MAX).step_by(64).rev().find_map(|base| {
            let (word, _) = position(base);
            take_highest_bit(self.words.get(word)?).map(|bit| base | bit)
        })
    }

    /// Whether none is left; lets [`any`](Self::any) say so too. For the thread that takes.
    pub fn is_empty(&self) -> bool {
        if self.get() == VectorSet::default() {
            self.any.store(false, Ordering::SeqCst);
            // An `insert` may have run in between, and its `true` been overwritten: look once more.
            let late = self.get() != VectorSet::default();
            if late {
                self.any.store(true, Ordering::SeqCst);
            }
            return !late;
        }
        false
    }

    /// The vectors that wait now.
    pub fn get(&self) -> VectorSet {
        VectorSet(std::array::from_fn(|i| {
            self.words.get(i).map_or(0, |w| w.load(Ordering::SeqCst))
        }))
    }

    /// Replaces the vectors that wait; no other thread may insert meanwhile.
    pub fn set(&self, vectors: VectorSet) {
        for (word, value) in self.words.iter().zip(vectors.0) {
            word.store(value, Ordering::SeqCst);
        }
        self.any
            .store(vectors != VectorSet::default(), Ordering::SeqCst);
    }
}

/// Takes the highest bit; the caller is the only one that clears bits, so the load stays true.
fn take_highest_bit(word: &AtomicU64) -> Option<u8> {
    let bit = word.load(Ordering::SeqCst).checked_ilog2()?;
    word.fetch_and(!(1 << bit), Ordering::SeqCst);
    u8::try_from(bit).ok()
}

fn position(vector: u8) -> (usize, u64) {
    (usize::from(vector / 64), 1 << (vector % 64))
}

const WORDS: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn take_highest_when_several_wait_returns_them_in_descending_order() {
        let pending = PendingVectors::default();
        for vector in [0x10, 0xff, 0xb3, 0x40, 0x7f] {
            pending.insert(vector);
        }
        let taken: Vec<u8> = std::iter::from_fn(|| pending.take_highest()).collect();
        assert_eq!(taken, [0xff, 0xb3, 0x7f, 0x40, 0x10]);
    }

    #[test]
    fn insert_when_the_vector_already_waits_counts_once() {
        let pending = PendingVectors::default();
        pending.insert(0x20);
        pending.insert(0x20);
        assert_eq!(pending.take_highest(), Some(0x20));
        assert_eq!(pending.take_highest(), None);
    }

    #[test]
    fn is_empty_when_the_last_vector_was_taken_settles_the_summary() {
        let pending = PendingVectors::default();
        pending.insert(0x30);
        assert!(pending.any() && !pending.is_empty());
        pending.take_highest();
        assert!(pending.is_empty() && !pending.any());
    }

    #[test]
    fn set_when_given_a_saved_set_restores_it() {
        let saved = PendingVectors::default();
        saved.insert(0xb3);
        saved.insert(0x51);
        let restored = PendingVectors::default();
        restored.set(saved.get());
        assert_eq!(restored.get(), saved.get());
        assert_eq!(restored.take_highest(), Some(0xb3));
    }

    #[test]
    fn insert_when_threads_race_with_the_taker_loses_nothing() {
        let pending = PendingVectors::default();
        let mut seen = [false; 256];
        std::thread::scope(|scope| {
            for first in 0..4u8 {
                let pending = &pending;
                scope.spawn(move || {
                    (first..=255 - 3 + first)
                        .step_by(4)
                        .for_each(|v| pending.insert(v))
                });
            }
            while seen.iter().any(|s| !s) {
                if let Some(vector) = pending.take_highest() {
                    seen[usize::from(vector)] = true;
                }
            }
        });
        assert_eq!(pending.take_highest(), None);
    }
}
