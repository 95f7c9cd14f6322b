// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! The pseudo-random numbers of guest and host: Marsaglia's xorshift64, one sequence for each VP
//! and each host thread, all from one seed.

pub struct Random(u64);

impl Random {
    /// Sequence number `index` of `seed`.
    pub const fn new(seed: u64, index: u64) -> Self {
        // The finalizer of SplitMix64: neighbours must not begin alike.
        // 0 is xorshift's fixed point.
        let mut state = seed.wrapping_add((index + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15));
        state = (state ^ (state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        state = (state ^ (state >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        Self((state ^ (state >> 31)) | 1)
    }

    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// A number below `limit`, which is below 2^32; 0 if that is 0.
    pub fn below(&mut self, limit: u64) -> u64 {
        // The high bits of xorshift are its best, and a division could panic.
        (self.next() >> 32).wrapping_mul(limit) >> 32
    }

    /// True once in `times`.
    pub fn one_in(&mut self, times: u64) -> bool {
        self.below(times) == 0
    }
}
