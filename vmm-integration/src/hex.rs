// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! The kernel's structures in a file: as their bytes, in hexadecimal digits.

use std::fmt::Write;

use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// A structure of a fixed layout.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Hex<T>(pub T);

impl<T: IntoBytes + Immutable> Serialize for Hex<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut text = String::new();
        for byte in self.0.as_bytes() {
            // A string takes what is written to it.
            let _ = write!(text, "{byte:02x}");
        }
        serializer.serialize_str(&text)
    }
}

impl<'de, T: FromBytes> Deserialize<'de> for Hex<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let digits: Option<Vec<u32>> = text.chars().map(|digit| digit.to_digit(16)).collect();
        let digits = digits.ok_or_else(|| D::Error::custom("not all of it is digits"))?;
        let pairs = digits.chunks(2);
        let bytes = pairs.map(|pair| pair.iter().fold(0, |byte, digit| byte << 4 | *digit as u8));
        let value = T::read_from_bytes(&bytes.collect::<Vec<u8>>()).ok();
        let value = value.filter(|_| digits.len() % 2 == 0);
        value.map(Self).ok_or_else(|| {
            let (found, wanted) = (text.len(), 2 * size_of::<T>());
            D::Error::custom(format!("{found} digits where there are {wanted}"))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hex_through_json_is_the_same() {
        let text = serde_json::to_string(&Hex(0x0123_4567u32)).unwrap();
        assert_eq!(text, "\"67452301\"");
        let value: Hex<u32> = serde_json::from_str(&text).unwrap();
        assert_eq!(value, Hex(0x0123_4567));
    }

    #[test]
    fn hex_of_another_length_or_of_other_letters_is_refused() {
        for text in [
            "\"674523\"",
            "\"6745230101\"",
            "\"6745230\"",
            "\"6745230g\"",
            "7",
        ] {
            assert!(serde_json::from_str::<Hex<u32>>(text).is_err(), "{text}");
        }
    }
}
