// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! A map that is read without a lock and replaced as a whole.
//!
//! VPs look up at full speed while the VMM registers; so a change copies the map, which a VMM does
//! a few hundred times in its life. A reader that began before a removal may still act on what it
//! found: a removal stops new deliveries, it does not wait for those under way.

use crate::sync::lock;
use arc_swap::ArcSwap;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::{Arc, Mutex};

/// A shared map from a number to `V`.
#[derive(Debug)]
pub(crate) struct Table<V> {
    current: ArcSwap<Map<V>>,
    /// Held by whoever changes the map, from copy to publication.
    writer: Mutex<()>,
}

type Map<V> = HashMap<u64, V, BuildHasherDefault<NumberHasher>>;

impl<V: Clone> Table<V> {
    pub fn new() -> Self {
        Self {
            current: ArcSwap::from_pointee(Map::default()),
            writer: Mutex::new(()),
        }
    }

    /// Acts on the entry of `key` without a lock and without a copy.
    pub fn with<R>(&self, key: u64, act: impl FnOnce(&V) -> R) -> Option<R> {
        self.current.load().get(&key).map(act)
    }

    /// Changes the entry of `key`: `change` gets a copy of what is there and gives what shall be.
    pub fn update<E>(
        &self,
        key: u64,
        change: impl FnOnce(Option<V>) -> Result<Option<V>, E>,
    ) -> Result<(), E> {
        let _writer = lock(&self.writer);
        let mut map = Map::clone(&self.current.load());
        let entry = map.entry(key);
        let value = match &entry {
            Entry::Occupied(entry) => Some(entry.get().clone()),
            Entry::Vacant(_) => None,
        };
        match (change(value)?, entry) {
            (Some(value), entry) => drop(entry.insert_entry(value)),
            (None, Entry::Occupied(entry)) => drop(entry.remove()),
            (None, Entry::Vacant(_)) => {}
        }
        self.current.store(Arc::new(map));
        Ok(())
    }
}

/// Spreads a number over 64 bits. The keys are chosen by the VMM, so nobody can make them collide.
#[derive(Debug, Default)]
pub(crate) struct NumberHasher(u64);

impl Hasher for NumberHasher {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(self.0 ^ u64::from(*byte));
        }
    }

    fn write_u64(&mut self, number: u64) {
        // Fibonacci hashing: 2^64 divided by the golden ratio.
        self.0 = number.wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(26);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(table: &Table<u32>, key: u64, value: Option<u32>) {
        let changed: Result<(), ()> = table.update(key, |_| Ok(value));
        assert_eq!(changed, Ok(()));
    }

    #[test]
    fn with_after_update_sees_the_new_entry_and_after_removal_none() {
        let table = Table::new();
        set(&table, 7, Some(1));
        assert_eq!(table.with(7, |value| *value), Some(1));
        set(&table, 7, None);
        assert_eq!(table.with(7, |value| *value), None);
    }

    #[test]
    fn update_that_fails_leaves_the_entry() {
        let table = Table::new();
        set(&table, 7, Some(1));
        assert_eq!(table.update(7, |old| Err(old)), Err(Some(1)));
        assert_eq!(table.with(7, |value| *value), Some(1));
    }

    #[test]
    fn update_from_within_a_lookup_does_not_block() {
        let table = Table::new();
        set(&table, 7, Some(1));
        table.with(7, |_| set(&table, 7, Some(2)));
        assert_eq!(table.with(7, |value| *value), Some(2));
    }
}
