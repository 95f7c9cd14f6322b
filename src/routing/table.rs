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
use std::marker::PhantomData;
use std::ops::Deref;
use std::sync::{Arc, Mutex, MutexGuard};

/// A shared map from a number to `V`.
#[derive(Debug)]
pub(crate) struct Table<V, C = Swap<Map<V>>> {
    current: C,
    values: PhantomData<V>,
}

pub(crate) type Map<V> = HashMap<u64, V, BuildHasherDefault<NumberHasher>>;

/// A value that readers see as a whole and writers replace as a whole.
pub(crate) trait Cell<T> {
    /// Held by a writer from the load of what it changes to the store.
    type Writer<'a>
    where
        Self: 'a;
    fn new(value: T) -> Self;
    /// The value of this moment; it may be kept while the next one is stored.
    fn load(&self) -> impl Deref<Target = Arc<T>>;
    /// Replaces the value. Release and Acquire: pairs with `load`.
    fn store(&self, value: Arc<T>);
    /// Waits for the other writers.
    fn writer(&self) -> Self::Writer<'_>;
}

impl<V: Clone, C: Cell<Map<V>>> Table<V, C> {
    pub fn new() -> Self {
        Self {
            current: C::new(Map::default()),
            values: PhantomData,
        }
    }

    /// Acts on the entry of `key` without a lock and without a copy.
    pub fn with<R>(&self, key: u64, act: impl FnOnce(&V) -> R) -> Option<R> {
        self.current.load().get(&key).map(act)
    }

    /// How many entries there are at this moment.
    pub fn len(&self) -> usize {
        self.current.load().len()
    }

    /// The keys of this moment.
    pub fn keys(&self) -> Vec<u64> {
        self.current.load().keys().copied().collect()
    }

    /// Changes the entry of `key`: `change` gets a copy of what is there and gives what shall be.
    pub fn update<E>(
        &self,
        key: u64,
        change: impl FnOnce(Option<V>) -> Result<Option<V>, E>,
    ) -> Result<(), E> {
        let _writer = self.current.writer();
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

/// The cell that is read without a lock.
#[derive(Debug)]
pub(crate) struct Swap<T> {
    current: ArcSwap<T>,
    writer: Mutex<()>,
}

impl<T> Cell<T> for Swap<T> {
    type Writer<'a>
        = MutexGuard<'a, ()>
    where
        Self: 'a;

    fn new(value: T) -> Self {
        Self {
            current: ArcSwap::from_pointee(value),
            writer: Mutex::new(()),
        }
    }

    fn load(&self) -> impl Deref<Target = Arc<T>> {
        self.current.load()
    }

    fn store(&self, value: Arc<T>) {
        self.current.store(value);
    }

    fn writer(&self) -> MutexGuard<'_, ()> {
        lock(&self.writer)
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
    use loom::sync::RwLock;
    use loom::thread;

    /// The cell on loom's primitives, with the promises of the real one: each load and store at
    /// once, and none waits for a value that is kept.
    struct LoomCell<T> {
        current: RwLock<Arc<T>>,
        writer: loom::sync::Mutex<()>,
    }

    impl<T> Cell<T> for LoomCell<T> {
        type Writer<'a>
            = loom::sync::MutexGuard<'a, ()>
        where
            Self: 'a;

        fn new(value: T) -> Self {
            Self {
                current: RwLock::new(Arc::new(value)),
                writer: loom::sync::Mutex::new(()),
            }
        }

        fn load(&self) -> impl Deref<Target = Arc<T>> {
            Box::new(self.current.read().unwrap().clone())
        }

        fn store(&self, value: Arc<T>) {
            *self.current.write().unwrap() = value;
        }

        fn writer(&self) -> Self::Writer<'_> {
            self.writer.lock().unwrap()
        }
    }

    type LoomTable = Table<u32, LoomCell<Map<u32>>>;

    fn set<C: Cell<Map<u32>>>(table: &Table<u32, C>, key: u64, value: Option<u32>) {
        let changed: Result<(), ()> = table.update(key, |_| Ok(value));
        assert_eq!(changed, Ok(()));
    }

    fn get<C: Cell<Map<u32>>>(table: &Table<u32, C>, key: u64) -> Option<u32> {
        table.with(key, |value| *value)
    }

    /// Registers a route unless there is one.
    fn add(table: &LoomTable, key: u64, value: u32) -> Result<(), ()> {
        table.update(key, |there| match there {
            Some(_) => Err(()),
            None => Ok(Some(value)),
        })
    }

    #[test]
    fn with_after_update_sees_the_new_entry_and_after_removal_none() {
        let table: Table<u32> = Table::new();
        set(&table, 7, Some(1));
        assert_eq!(get(&table, 7), Some(1));
        set(&table, 7, None);
        assert_eq!(get(&table, 7), None);
    }

    #[test]
    fn update_that_fails_leaves_the_entry() {
        let table: Table<u32> = Table::new();
        set(&table, 7, Some(1));
        assert_eq!(table.update(7, Err), Err(Some(1)));
        assert_eq!(get(&table, 7), Some(1));
    }

    #[test]
    fn update_from_within_a_lookup_does_not_block() {
        let table: Table<u32> = Table::new();
        set(&table, 7, Some(1));
        table.with(7, |_| set(&table, 7, Some(2)));
        assert_eq!(get(&table, 7), Some(2));
    }

    #[test]
    fn update_of_two_routes_at_once_keeps_both_and_every_other() {
        loom::model(|| {
            let table = loom::sync::Arc::new(LoomTable::new());
            set(&table, 1, Some(10));
            set(&table, 9, Some(90));
            let remover = {
                let table = table.clone();
                thread::spawn(move || set(&table, 1, None))
            };

            set(&table, 2, Some(20));
            remover.join().unwrap();

            let all = [1, 2, 9].map(|key| get(&table, key));
            assert_eq!(all, [None, Some(20), Some(90)]);
        });
    }

    #[test]
    fn update_of_the_same_route_at_once_registers_one() {
        loom::model(|| {
            let table = loom::sync::Arc::new(LoomTable::new());
            let other = {
                let table = table.clone();
                thread::spawn(move || add(&table, 1, 10))
            };

            let own = add(&table, 1, 20);

            let winner = match (other.join().unwrap(), own) {
                (Ok(()), Err(())) => 10,
                (Err(()), Ok(())) => 20,
                both => panic!("{both:?}"),
            };
            assert_eq!(get(&table, 1), Some(winner));
        });
    }

    #[test]
    fn with_while_a_route_is_replaced_sees_the_one_or_none_or_the_other_in_this_order() {
        loom::model(|| {
            let table = loom::sync::Arc::new(LoomTable::new());
            set(&table, 1, Some(10));
            let writer = {
                let table = table.clone();
                thread::spawn(move || {
                    set(&table, 1, None);
                    set(&table, 1, Some(20));
                })
            };

            let seen = [(); 2].map(|()| get(&table, 1));
            writer.join().unwrap();

            let order = [Some(10), None, Some(20)];
            let [first, second] = seen.map(|value| order.iter().position(|o| *o == value));
            assert!(first.is_some() && first <= second, "{seen:?}");
            assert_eq!(get(&table, 1), Some(20));
        });
    }

    #[test]
    fn with_whose_route_is_removed_meanwhile_acts_on_what_it_found() {
        loom::model(|| {
            let table = loom::sync::Arc::new(LoomTable::new());
            set(&table, 1, Some(10));
            let found = table.with(1, |value| {
                let table = table.clone();
                let remover = thread::spawn(move || set(&table, 1, None));
                remover.join().unwrap();
                *value
            });
            assert_eq!(found, Some(10), "a removal does not wait for a delivery");
            assert_eq!(get(&table, 1), None, "and none begins after it");
        });
    }
}
