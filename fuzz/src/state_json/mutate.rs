// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! Changes one thing in the JSON of a state: what flips bytes mostly makes no JSON.

use serde_json::{Map, Value};
use std::mem::discriminant;

/// Changes an input of `size` bytes in place, and gives its new size, `max_size` at most. `bytes` is
/// the fuzzer's own mutation, for every eighth time, and for what is no JSON.
pub fn mutate(
    data: &mut [u8],
    size: usize,
    max_size: usize,
    seed: u32,
    bytes: impl FnOnce(&mut [u8], usize, usize) -> usize,
) -> usize {
    let mut random = Random::new(seed);
    let parsed = data.get(..size).map(serde_json::from_slice::<Value>);
    if let Some(Ok(mut value)) = parsed.filter(|_| random.below(8) != 0) {
        for _ in 0..=random.below(2) {
            change(pick(&mut value, &mut random), &mut random);
        }
        let text = value.to_string();
        let room = data.get_mut(..text.len());
        if let Some(room) = room.filter(|_| text.len() <= max_size) {
            room.copy_from_slice(text.as_bytes());
            return text.len();
        }
    }
    bytes(data, size, max_size)
}

/// A node of a tree. Each step down goes anywhere, so that the many counters do not have all.
fn pick<'a>(value: &'a mut Value, random: &mut Random) -> &'a mut Value {
    let size = match value {
        Value::Array(values) => values.len(),
        Value::Object(fields) => fields.len(),
        _ => 0,
    };
    if size == 0 || random.below(8) == 0 {
        return value;
    }
    let at = random.below(size);
    match value {
        Value::Array(values) => pick(&mut values[at], random),
        Value::Object(fields) => {
            let field = fields.values_mut().nth(at);
            pick(field.expect("as many as counted"), random)
        }
        leaf => leaf,
    }
}

fn change(value: &mut Value, random: &mut Random) {
    match value {
        Value::Null => *value = random.number().into(),
        Value::Bool(is_so) => *is_so = !*is_so,
        Value::Number(number) => {
            let old = number.as_u64().unwrap_or_default();
            *value = random.near(old).into();
        }
        Value::String(text) => *text = random.number().to_string(),
        Value::Array(values) => change_list(values, random),
        Value::Object(fields) => change_fields(fields, random),
    }
}

fn change_list(values: &mut Vec<Value>, random: &mut Random) {
    if values.is_empty() {
        values.push(random.number().into());
        return;
    }
    let (at, other) = (random.below(values.len()), random.below(values.len()));
    match random.below(4) {
        0 => drop(values.remove(at)),
        1 => values.insert(at, values[other].clone()),
        2 => values.swap(at, other),
        _ => values.truncate(at),
    }
}

/// Counts that have to balance change together; a part that is not there becomes like its brother.
fn change_fields(fields: &mut Map<String, Value>, random: &mut Random) {
    let more = random.number() >> 8;
    for (sum, part) in [("posted", "delivered"), ("rung", "entered")] {
        if random.below(2) == 0 && fields.contains_key(sum) {
            for name in [sum, part] {
                if let Some(count) = fields.get_mut(name) {
                    *count = count
                        .as_u64()
                        .unwrap_or_default()
                        .saturating_add(more)
                        .into();
                }
            }
            return;
        }
    }
    if let (Some(plain), Some(nested)) = (fields.get("plain").cloned(), fields.get_mut("nested")) {
        *nested = if nested.is_null() { plain } else { Value::Null };
        return;
    }
    let names: Vec<_> = fields.keys().cloned().collect();
    let [to, from] = [0; 2].map(|_| names.get(random.below(names.len())));
    if let (Some(to), Some(value)) = (to, from.and_then(|from| fields.get(from)).cloned()) {
        let is_alike = |there: &&mut Value| discriminant(*there) == discriminant(&value);
        let there = fields.get_mut(to).filter(is_alike);
        there.into_iter().for_each(|there| *there = value.clone());
    }
}

/// Xorshift; never 0.
struct Random(u64);

impl Random {
    fn new(seed: u32) -> Self {
        Self((u64::from(seed) + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15))
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() >> 16) as usize % end.max(1)
    }

    /// One that is likely to be a limit.
    fn number(&mut self) -> u64 {
        let limit = LIMITS[self.below(LIMITS.len())];
        match self.below(4) {
            0 => self.next(),
            1 => limit.wrapping_add(1),
            2 => limit.wrapping_sub(1),
            _ => limit,
        }
    }

    fn near(&mut self, old: u64) -> u64 {
        match self.below(4) {
            0 => old.wrapping_add(1),
            1 => old.wrapping_sub(1),
            2 => old ^ 1 << self.below(64),
            _ => self.number(),
        }
    }
}

const LIMITS: [u64; 14] = [
    0,
    2,
    16,
    63,
    127,
    241,
    0x1000,
    0x8001,
    0xFFFF,
    0x1_0000,
    0x100_0000,
    u32::MAX as u64,
    1 << 60,
    u64::MAX,
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seeds;
    use vm_synic::state::State;

    #[test]
    fn mutate_of_a_state_often_gives_another_one_that_fits() {
        let (_, text) = seeds::states::all().remove(0);
        let mut others = 0;
        for seed in 0..1000 {
            let mut data = vec![0; text.len() * 2];
            data[..text.len()].copy_from_slice(&text);
            let max = data.len();
            let size = mutate(&mut data, text.len(), max, seed, |_, size, _| size);
            assert!(size <= max);
            let state = serde_json::from_slice::<State>(&data[..size]);
            others += u32::from(state.is_ok() && data[..size] != text);
        }
        assert!(others > 300, "{others} of 1000");
    }

    #[test]
    fn mutate_of_what_is_no_json_is_left_to_the_fuzzer() {
        let mut data = *b"no JSON";
        let size = mutate(&mut data, 7, 7, 1, |data, _, _| {
            data.fill(b'!');
            3
        });
        assert_eq!((size, &data), (3, b"!!!!!!!"));
    }
}
