// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! Little-endian fields at fixed offsets, and the table that turns them into structs.

use crate::abi::VpIndex;

/// A value that stands in a payload at a fixed offset.
pub(super) trait Wire: Sized {
    /// Size of the value, in bytes.
    const SIZE: usize;

    /// Reads the value at an offset; `None` where the bytes end before the value does.
    fn read(bytes: &[u8], at: usize) -> Option<Self>;
}

/// Declares payload structs as the tables of the TLFS do: size, then offset and type of each field.
///
/// Fields must be in order and must not overlap; the compiler checks both. Gaps are reserved, and
/// are not looked at, so that a later hypervisor may use them.
macro_rules! layout {
    ($(
        $(#[$doc:meta])*
        $vis:vis struct $name:ident [$size:literal] {
            $($(#[$field_doc:meta])* $offset:literal => $field:ident: $ty:ty,)*
        }
    )*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        $vis struct $name {
            $($(#[$field_doc])* pub $field: $ty,)*
        }

        impl $crate::sint0::wire::Wire for $name {
            const SIZE: usize = $size;

            fn read(bytes: &[u8], at: usize) -> Option<Self> {
                let bytes = bytes.get(at..)?;
                if bytes.len() < Self::SIZE {
                    return None;
                }
                Some(Self {
                    $($field: $crate::sint0::wire::Wire::read(bytes, $offset)?,)*
                })
            }
        }

        const _: () = assert!($crate::sint0::wire::fields_fit(
            &[$(($offset, <$ty as $crate::sint0::wire::Wire>::SIZE)),*],
            $size,
        ));
    )*};
}
pub(super) use layout;

/// Reads a type that is a bit field over an integer.
macro_rules! bit_fields {
    ($($name:ident($int:ty)),* $(,)?) => {$(
        impl $crate::sint0::wire::Wire for $name {
            const SIZE: usize = size_of::<$int>();

            fn read(bytes: &[u8], at: usize) -> Option<Self> {
                <$int as $crate::sint0::wire::Wire>::read(bytes, at).map(Self::from_bits)
            }
        }
    )*};
}
pub(super) use bit_fields;

macro_rules! integers {
    ($($int:ty),*) => {$(
        impl Wire for $int {
            const SIZE: usize = size_of::<$int>();

            fn read(bytes: &[u8], at: usize) -> Option<Self> {
                let value = bytes.get(at..)?.first_chunk()?;
                Some(Self::from_le_bytes(*value))
            }
        }
    )*};
}
integers!(u8, u16, u32, u64, u128);

impl Wire for VpIndex {
    const SIZE: usize = 4;

    fn read(bytes: &[u8], at: usize) -> Option<Self> {
        u32::read(bytes, at).map(Self::new)
    }
}

impl<T: Wire + Copy + Default, const N: usize> Wire for [T; N] {
    const SIZE: usize = N * T::SIZE;

    fn read(bytes: &[u8], at: usize) -> Option<Self> {
        let mut values = [T::default(); N];
        let mut next = at;
        for value in &mut values {
            *value = T::read(bytes, next)?;
            next = next.checked_add(T::SIZE)?;
        }
        Some(values)
    }
}

/// A field after the end of a struct, which only a longer form of the payload has.
impl<T: Wire> Wire for Option<T> {
    const SIZE: usize = 0;

    fn read(bytes: &[u8], at: usize) -> Option<Self> {
        Some(T::read(bytes, at))
    }
}

/// Whether fields, given as offset and size, ascend without overlap inside a struct.
pub(super) const fn fields_fit(fields: &[(usize, usize)], size: usize) -> bool {
    let mut end = 0;
    let mut rest = fields;
    while let [(offset, length), tail @ ..] = rest {
        if *offset < end {
            return false;
        }
        end = *offset + *length;
        rest = tail;
    }
    end <= size
}

#[cfg(test)]
mod tests {
    use super::*;

    layout! {
        /// A struct with a gap and an optional tail.
        pub struct Sample[8] {
            /// First.
            0 => word: u16,
            /// After a gap of two bytes.
            4 => pair: [u16; 2],
            /// Beyond the 8 bytes that must be there.
            8 => tail: Option<u16>,
        }
    }

    const BYTES: [u8; 12] = [1, 2, 0xEE, 0xEE, 3, 4, 5, 6, 7, 8, 0xEE, 0xEE];

    #[test]
    fn fields_are_read_little_endian_at_their_offsets() {
        let sample = Sample::read(&BYTES, 0).unwrap();
        assert_eq!(sample.word, 0x0201);
        assert_eq!(sample.pair, [0x0403, 0x0605]);
        assert_eq!(sample.tail, Some(0x0807));
    }

    #[test]
    fn struct_cut_before_its_tail_reads_without_the_tail() {
        let sample = Sample::read(&BYTES[..9], 0).unwrap();
        assert_eq!(sample.tail, None);
    }

    #[test]
    fn struct_cut_anywhere_else_does_not_read() {
        for len in 0..8 {
            assert_eq!(Sample::read(&BYTES[..len], 0), None, "{len} bytes");
        }
    }

    #[test]
    fn offset_beyond_the_bytes_or_the_address_space_reads_nothing() {
        assert_eq!(u32::read(&BYTES, 9), None);
        assert_eq!(u8::read(&BYTES, usize::MAX), None);
        assert_eq!(Sample::read(&BYTES, usize::MAX), None);
        assert_eq!(<[u16; 2]>::read(&BYTES, usize::MAX), None);
    }

    #[test]
    fn fields_that_overlap_or_overrun_do_not_fit() {
        assert!(fields_fit(&[(0, 4), (4, 4)], 8));
        assert!(!fields_fit(&[(0, 4), (3, 4)], 8));
        assert!(!fields_fit(&[(0, 4), (5, 4)], 8));
    }
}
