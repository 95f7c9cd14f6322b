// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! Messages, rings and signals at random: nothing panics, nothing grows, and a sane kernel is
//! served afterwards.

use super::driver::*;
use super::ring::{FEATURES, MASK, PENDING, READ, WRITE};

/// The same numbers in every run (xorshift64).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 as u32
    }

    fn below(&mut self, end: u32) -> u32 {
        self.next() % end
    }

    /// Mostly what means something, sometimes anything.
    fn value(&mut self) -> u32 {
        match self.below(8) {
            0 => self.next(),
            1 => u32::MAX,
            2 => 1 << self.below(32),
            3 => GPADL_BASE + self.below(4),
            _ => self.below(6),
        }
    }

    /// A message that resembles one.
    fn message(&mut self) -> Vec<u8> {
        let mut message: Vec<_> = match self.below(6) {
            0 => contact(V6_0, 0).to_vec(),
            1 => gpadl_header(1 + self.below(3), self.value(), 2, &[1, 2]),
            2 => open_channel(1 + self.below(3), GPADL_BASE, 0, 2).to_vec(),
            3 => tl_connect(self.below(9), ECHO_PORT).to_vec(),
            _ => (0..self.below(12)).map(|_| self.value()).collect(),
        };
        if let Some(message_type) = message.first_mut().filter(|_| self.below(2) == 0) {
            *message_type = self.below(26);
        }
        for _ in 0..self.below(3) {
            let at = self.next() as usize;
            let len = message.len().max(1);
            if let Some(word) = message.get_mut(at % len) {
                *word = self.value();
            }
        }
        let mut bytes = bytes(&message);
        bytes.truncate(240 - self.below(240) as usize / 8);
        bytes
    }
}

#[test]
fn bus_when_fed_with_random_messages_stays_bounded_and_serves_the_next_kernel() {
    for seed in 0..10 {
        let mut bench = Bench::offered();
        let mut random = Random(0x9E37_79B9_7F4A_7C15 ^ seed);
        for round in 0..3_000 {
            bench.post_bytes(&random.message());
            bench.guest.signal(0x1_0000 + random.below(5), 0);
            bench.tick();
            if round % 4 == 0 {
                bench.replies();
            }
        }
        check_that_it_works(&mut bench);
    }
}

#[test]
fn bus_when_rings_change_at_random_stays_bounded_and_serves_the_next_kernel() {
    let mut random = Random(42);
    for _ in 0..300 {
        let mut bench = Bench::offered();
        let relid = bench.connect_socket(1);
        let link = bench.open(relid, 0);
        for _ in 0..20 {
            spoil(&mut random, &bench, &link);
            bench.guest.signal(link.connection, 0);
            bench.turn();
        }
        check_that_it_works(&mut bench);
    }
}

fn spoil(random: &mut Random, bench: &Bench, link: &Link) {
    let ring = match random.below(2) {
        0 => &link.upstream,
        _ => &link.downstream,
    };
    let fields = [WRITE, READ, MASK, PENDING, FEATURES];
    let field = fields[random.below(5) as usize];
    let value = match random.below(2) {
        0 => random.below(ring.size() / 8) * 8,
        _ => random.value(),
    };
    match random.below(4) {
        0 => ring.set_field(&bench.guest, field, value),
        1 => drop(ring.write(&bench.guest, 0, &random.message())),
        _ => {
            let descriptor = [6, random.below(4), random.below(64), 0];
            let descriptor = descriptor.map(|half| (half as u16).to_le_bytes());
            ring.put(&bench.guest, descriptor.as_flattened());
        }
    }
}

/// A kernel that knows nothing of what was before connects, and its socket echoes.
fn check_that_it_works(bench: &mut Bench) {
    bench.replies();
    assert_eq!(bench.ask(&contact(V6_0, 0)), [version_response(V6_0)]);
    assert_eq!(types(&bench.ask(&[REQUESTOFFERS, 0])), [OFFER, ALLOFFERS]);
    let relid = bench.connect_socket(1);
    let link = bench.open(relid, 0);
    let packet = bytes(&[1, 4, 0x1234_5678]);
    assert!(bench.send(&link, &packet));
    bench.turn();
    assert_eq!(bench.receive(&link).unwrap()[..12], packet);
}
