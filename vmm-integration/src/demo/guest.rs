// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! What the guest says about itself, read from its memory.

use std::mem::offset_of;
use std::sync::atomic::Ordering;

use serde::Serialize;
use vm_memory::{Bytes, GuestAddress};

use super::fault::{Fault, Kind, What, judge_cyclic, judge_port, judge_word};
use super::protocol::*;
use crate::memory::Memory;

/// Declares [`Account`] and how to read it: each field is the word of that name in the guest's
/// [`Report`].
macro_rules! account {
    ($($(#[$doc:meta])* $field:ident,)*) => {
        /// One VP's own account of the demo; see [`Report`] for the fields.
        #[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize)]
        pub struct Account { $($(#[$doc])* pub $field: u64,)* }

        impl Guest {
            /// What `vp` has reported so far.
            pub fn account(&self, vp: u32) -> Account {
                let report = report_gpa(vp);
                Account { $($field: self.word(report + offset_of!(Report, $field) as u64),)* }
            }
        }
    };
}

account! {
    state,
    interrupts,
    messages_seen,
    messages_sent,
    messages_refused,
    flags_seen,
    flags_sent,
    rings_seen,
    rings_sent,
    vmm_rings_sent,
    notifications,
    overflows,
    eoms_intercept,
    eoms_vmbus,
    mshv_inits,
    fault,
    fault_sint,
    expected,
    got,
}

/// The guest's memory.
#[derive(Clone)]
pub struct Guest {
    memory: Memory,
    /// Id of VP 0's first ring port.
    pub first_port: u32,
}

impl Guest {
    pub fn new(memory: Memory, first_port: u32) -> Self {
        Self { memory, first_port }
    }

    /// TSC value at which `vp` handled message `seq`, unless a later one has replaced it.
    pub fn stamp(&self, vp: u32, seq: u64) -> u64 {
        self.word(stamp_gpa(vp, seq))
    }

    /// The fault that ended the guest, if `vp` reported one.
    pub fn fault(&self, vp: u32) -> Option<Fault> {
        let account = self.account(vp);
        let first_port = u64::from(self.first_port) + u64::from(vp) * RING_PORTS;
        (account.fault != FAULT_NONE).then(|| interpret(vp, first_port, &account))
    }

    fn word(&self, gpa: u64) -> u64 {
        // Acquire: the guest stores its state after what the state speaks of (TSO keeps the order).
        // The addresses are constants inside RAM, so there is no error to speak of.
        self.memory
            .load(GuestAddress(gpa), Ordering::Acquire)
            .unwrap_or(0)
    }
}

impl Account {
    /// Grows as long as anything moves, up to [`Plan::steps`](super::plan::Plan::steps).
    pub fn progress(&self) -> u64 {
        [
            self.messages_seen,
            self.messages_sent,
            self.flags_seen,
            self.flags_sent,
            self.rings_seen,
            self.vmm_rings_sent,
            self.state,
        ]
        .iter()
        .fold(0, |sum: u64, count| sum.saturating_add(*count))
    }
}

fn interpret(vp: u32, first_port: u64, account: &Account) -> Fault {
    let Account { expected, got, .. } = *account;
    let (what, kind) = match account.fault {
        FAULT_CRASH => (What::Exception, Kind::Corrupted),
        FAULT_REGISTER => (What::Register, Kind::Corrupted),
        FAULT_MESSAGE_TYPE => (What::MessageType, Kind::Misrouted),
        FAULT_MESSAGE_SIZE => (What::MessageSize, Kind::Corrupted),
        FAULT_MESSAGE_SEQUENCE => (What::Message, judge_word(expected, got)),
        FAULT_MESSAGE_PAYLOAD => (What::Payload, Kind::Corrupted),
        FAULT_FLAG => (What::EventFlag, judge_cyclic(expected, got, FLAGS)),
        FAULT_RING_PORT => (What::RingEntry, judge_port(first_port, expected, got)),
        FAULT_STRAY => (What::PageWord, Kind::Misrouted),
        FAULT_HYPERCALL => (What::Hypercall, Kind::Corrupted),
        _ => (What::PageWord, Kind::Corrupted),
    };
    let sint = match account.fault {
        FAULT_CRASH | FAULT_REGISTER | FAULT_HYPERCALL => None,
        _ => u8::try_from(account.fault_sint).ok(),
    };
    Fault {
        vp,
        sint,
        what,
        kind,
        expected,
        got,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use vm_memory::GuestMemoryMmap;

    fn guest(words: &[(usize, u64)]) -> Guest {
        let ranges = [(GuestAddress(0), RAM_SIZE)];
        let memory = Arc::new(GuestMemoryMmap::from_ranges(&ranges).unwrap());
        for (offset, word) in words {
            let gpa = GuestAddress(report_gpa(1) + *offset as u64);
            memory.write_obj(*word, gpa).unwrap();
        }
        Guest::new(memory, 1)
    }

    #[test]
    fn account_when_the_guest_wrote_a_word_has_it_under_the_same_name() {
        let guest = guest(&[(offset_of!(Report, flags_seen), 17)]);
        assert_eq!(
            guest.account(1),
            Account {
                flags_seen: 17,
                ..Default::default()
            }
        );
        assert_eq!(guest.account(0), Account::default());
    }

    #[test]
    fn fault_when_a_message_was_lost_names_vp_sint_and_numbers() {
        let guest = guest(&[
            (offset_of!(Report, fault), FAULT_MESSAGE_SEQUENCE),
            (offset_of!(Report, fault_sint), 2),
            (offset_of!(Report, expected), first_word(1, 5)),
            (offset_of!(Report, got), first_word(1, 6)),
        ]);
        let fault = guest.fault(1).unwrap();
        assert_eq!((fault.vp, fault.sint), (1, Some(2)));
        assert_eq!((fault.what, fault.kind), (What::Message, Kind::Lost));
        assert_eq!(
            (fault.expected, fault.got),
            (first_word(1, 5), first_word(1, 6))
        );
        assert_eq!(guest.fault(0), None);
    }
}
