// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! Doorbells: a guest's write to an address becomes an event.

use super::Table;
use crate::abi::{PortId, SintIndex, VpIndex};
use crate::error::Error;
use std::sync::Arc;
use vmm_sys_util::eventfd::EventFd;

/// Which sizes of write ring a doorbell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum DoorbellSize {
    /// Any.
    Any,
    /// 1 byte.
    Byte,
    /// 2 bytes.
    Word,
    /// 4 bytes.
    Dword,
    /// 8 bytes.
    Qword,
}

/// Which writes ring a doorbell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct DoorbellSpec {
    /// Guest physical address of the write.
    pub gpa: u64,
    /// Its size.
    pub size: DoorbellSize,
    /// Its value, little-endian and zero-extended; `None` for any.
    pub value: Option<u64>,
}

impl DoorbellSpec {
    /// Any write to an address.
    pub const fn at(gpa: u64) -> Self {
        Self {
            gpa,
            size: DoorbellSize::Any,
            value: None,
        }
    }

    /// Only writes of this size.
    #[must_use]
    pub const fn size(self, size: DoorbellSize) -> Self {
        Self { size, ..self }
    }

    /// Only writes of this value.
    #[must_use]
    pub const fn value(self, value: u64) -> Self {
        Self {
            value: Some(value),
            ..self
        }
    }

    fn matches(&self, data: &[u8]) -> bool {
        let size = match self.size {
            DoorbellSize::Any => true,
            DoorbellSize::Byte => data.len() == 1,
            DoorbellSize::Word => data.len() == 2,
            DoorbellSize::Dword => data.len() == 4,
            DoorbellSize::Qword => data.len() == 8,
        };
        size && self
            .value
            .is_none_or(|value| little_endian(data) == Some(value))
    }

    /// The same address and size, and a write could ring both (Linux `ioeventfd_check_collision`).
    fn collides(&self, other: &Self) -> bool {
        let values = match (self.value, other.value) {
            (Some(one), Some(two)) => one == two,
            _ => true,
        };
        self.gpa == other.gpa && self.size == other.size && values
    }
}

/// Which VP's event ring a doorbell is entered in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DoorbellTarget {
    /// This one's.
    Vp(VpIndex),
    /// Any that has a ring, as `HV_ANY_VP` asks.
    AnyVp,
}

/// What a doorbell does when it is rung.
#[derive(Clone, Debug)]
pub enum DoorbellSink {
    /// Signals an eventfd of the VMM.
    Fd(Arc<EventFd>),
    /// Enters a port id in the event ring of a VP.
    Ring {
        /// Whose ring.
        target: DoorbellTarget,
        /// Which ring; Linux's MSHV driver uses [`SintIndex::DOORBELL`].
        sint: SintIndex,
        /// The port id.
        port: PortId,
    },
}

/// A doorbell that is registered.
#[derive(Clone, Debug)]
pub(crate) struct Doorbell<S> {
    pub spec: DoorbellSpec,
    pub sink: S,
}

/// The doorbells of one address space, by address.
#[derive(Debug)]
pub(crate) struct Doorbells<S = DoorbellSink>(Table<Arc<[Doorbell<S>]>>);

impl<S: Clone> Doorbells<S> {
    pub fn new() -> Self {
        Self(Table::new())
    }

    pub fn add(&self, doorbell: Doorbell<S>) -> Result<(), Error> {
        let gpa = doorbell.spec.gpa;
        self.0.update(gpa, |there| {
            let there = there.as_deref().unwrap_or_default();
            if there
                .iter()
                .any(|other| other.spec.collides(&doorbell.spec))
            {
                return Err(Error::DoorbellExists { gpa });
            }
            let mut all = there.to_vec();
            all.push(doorbell);
            // The narrowest match wins: sizes before any size, values before any value.
            all.sort_by_key(|d| (d.spec.size == DoorbellSize::Any, d.spec.value.is_none()));
            Ok(Some(all.into()))
        })
    }

    pub fn remove(&self, spec: &DoorbellSpec) {
        let removed: Result<(), std::convert::Infallible> = self.0.update(spec.gpa, |there| {
            let there = there.as_deref().unwrap_or_default();
            let left: Arc<[_]> = (there.iter().filter(|d| d.spec != *spec))
                .cloned()
                .collect();
            Ok((!left.is_empty()).then_some(left))
        });
        match removed {
            Ok(()) => {}
            Err(never) => match never {},
        }
    }

    /// Acts on the sink of the doorbell that a write rings; `None` if there is none.
    pub fn with_match<R>(&self, gpa: u64, data: &[u8], act: impl FnOnce(&S) -> R) -> Option<R> {
        let found = |doorbells: &Arc<[Doorbell<S>]>| {
            let doorbell = doorbells.iter().find(|d| d.spec.matches(data))?;
            Some(act(&doorbell.sink))
        };
        self.0.with(gpa, found).flatten()
    }
}

/// The value of at most 8 bytes.
fn little_endian(data: &[u8]) -> Option<u64> {
    let mut bytes = [0; 8];
    bytes.get_mut(..data.len())?.copy_from_slice(data);
    Some(u64::from_le_bytes(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn doorbells(specs: &[DoorbellSpec]) -> Doorbells {
        let doorbells = Doorbells::new();
        for (port, spec) in (1..).zip(specs) {
            doorbells.add(doorbell(*spec, port)).unwrap();
        }
        doorbells
    }

    fn doorbell(spec: DoorbellSpec, port: u32) -> Doorbell<DoorbellSink> {
        let sink = DoorbellSink::Ring {
            target: DoorbellTarget::AnyVp,
            sint: SintIndex::DOORBELL,
            port: PortId::new(port).unwrap(),
        };
        Doorbell { spec, sink }
    }

    fn rung(doorbells: &Doorbells, gpa: u64, data: &[u8]) -> Option<u32> {
        let port = doorbells.with_match(gpa, data, |sink| match sink {
            DoorbellSink::Ring { port, .. } => Some(port.get()),
            DoorbellSink::Fd(_) => None,
        });
        port.flatten()
    }

    #[test]
    fn write_of_the_narrowest_match_rings() {
        let at = DoorbellSpec::at(0x1000);
        let byte_7 = at.size(DoorbellSize::Byte).value(7);
        let doorbells = doorbells(&[at, byte_7, at.size(DoorbellSize::Dword)]);
        assert_eq!(rung(&doorbells, 0x1000, &[7, 0, 0, 0]), Some(3));
        assert_eq!(rung(&doorbells, 0x1000, &[7]), Some(2));
        assert_eq!(rung(&doorbells, 0x1000, &[8]), Some(1));
        assert_eq!(rung(&doorbells, 0x1004, &[7]), None);
    }

    #[test]
    fn write_longer_than_a_register_never_equals_a_value() {
        let doorbells = doorbells(&[DoorbellSpec::at(0x1000).value(0)]);
        assert_eq!(rung(&doorbells, 0x1000, &[0; 9]), None);
    }

    #[test]
    fn add_where_one_write_would_ring_both_is_refused() {
        let at = DoorbellSpec::at(0x1000).size(DoorbellSize::Dword);
        let doorbells = doorbells(&[at.value(1), at.value(2)]);
        for collision in [at, at.value(1)] {
            let added = doorbells.add(doorbell(collision, 9));
            assert!(matches!(added, Err(Error::DoorbellExists { gpa: 0x1000 })));
        }
    }

    #[test]
    fn remove_takes_the_exact_doorbell_and_leaves_the_others() {
        let at = DoorbellSpec::at(0x1000);
        let doorbells = doorbells(&[at.value(1), at.value(2)]);
        doorbells.remove(&at.value(1));
        assert_eq!(rung(&doorbells, 0x1000, &[1]), None);
        assert_eq!(rung(&doorbells, 0x1000, &[2]), Some(2));
    }
}
