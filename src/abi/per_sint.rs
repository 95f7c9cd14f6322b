// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! A table with one entry for each SINT.

use super::{SINT_COUNT, SintIndex};
use std::ops::{Index, IndexMut};

/// Sixteen values, one for each SINT. A [`SintIndex`] is always in range, so indexing never fails.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(transparent))]
pub struct PerSint<T>([T; SINT_COUNT]);

impl<T> PerSint<T> {
    /// The table of what `make` gives for each SINT.
    pub fn from_fn(mut make: impl FnMut(SintIndex) -> T) -> Self {
        let mut sints = SintIndex::all();
        // `all` has as many items as the array.
        Self(std::array::from_fn(|_| {
            make(sints.next().unwrap_or(SintIndex::INTERCEPT))
        }))
    }

    /// The entries with their SINTs, ascending.
    pub fn iter(&self) -> impl Iterator<Item = (SintIndex, &T)> {
        SintIndex::all().zip(&self.0)
    }

    /// The entries, to be changed.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (SintIndex, &mut T)> {
        SintIndex::all().zip(&mut self.0)
    }

    /// As a plain array, indexed by SINT number.
    pub fn into_array(self) -> [T; SINT_COUNT] {
        self.0
    }
}

impl<T> From<[T; SINT_COUNT]> for PerSint<T> {
    fn from(values: [T; SINT_COUNT]) -> Self {
        Self(values)
    }
}

impl<T> Index<SintIndex> for PerSint<T> {
    type Output = T;

    fn index(&self, sint: SintIndex) -> &T {
        &self.0[sint.index()]
    }
}

impl<T> IndexMut<SintIndex> for PerSint<T> {
    fn index_mut(&mut self, sint: SintIndex) -> &mut T {
        &mut self.0[sint.index()]
    }
}
