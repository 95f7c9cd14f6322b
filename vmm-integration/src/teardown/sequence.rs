// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! Register writes of Linux's drivers, in order, and what the ownership rules have to say of them.

use clap::ValueEnum;
use vm_synic::abi::{Register, RegisterId};
use vm_synic::ownership::{Owner, ViolationKind};
use vm_synic::{Role, SintIndex};

use super::mailbox::{VECTOR, page_gpa};
use crate::cli::PolicyArg;

/// What is played, on each VP.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Sequence {
    /// MSHV leaves VMBus's registers alone, and goes first
    Merged,
    /// MSHV as it was: switches everything on at its init, and off under a live VMBus at its exit
    #[default]
    PrePatch,
    /// VMBus goes down while MSHV is up
    VmbusFirst,
    /// A root partition: MSHV alone, on pages that the hypervisor provides, twice
    Root,
}

/// A part of a sequence: who acts, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// The driver.
    pub owner: Owner,
    /// Whether VMBus takes messages before and during it.
    pub vmbus_is_up: bool,
    /// Its writes.
    pub writes: &'static [Write],
}

/// A write that has to break a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Expected {
    /// Where to, by which rule.
    pub register: Register,
    /// How.
    pub kind: ViolationKind,
    /// Who does it; a hypervisor that sees no more than registers cannot always say.
    pub writer: Option<Owner>,
    /// To whom.
    pub victim: Owner,
}

impl Expected {
    /// A driver breaks a rule at the cost of another, or its own.
    fn of(writer: Owner, victim: Owner) -> impl Fn((Register, ViolationKind)) -> Self {
        move |(register, kind)| Self {
            register,
            kind,
            writer: Some(writer),
            victim,
        }
    }
}

/// One register write: the old value, as far as `keep` goes, with something set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Write {
    /// The register.
    pub register: Register,
    keep: u64,
    set: Set,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Set {
    Bits(u64),
    /// The page with this number of the VP's, enabled.
    Page(u64),
}

impl Write {
    const fn new(register: Register, keep: u64, set: Set) -> Self {
        Self {
            register,
            keep,
            set,
        }
    }

    /// MSR, and the masks, on a VP. `None`: the register has no MSR.
    pub fn on(self, vp: u32) -> Option<[u64; 3]> {
        let set = match self.set {
            Set::Bits(bits) => bits,
            Set::Page(page) => page_gpa(vp, page) | 1,
        };
        let msr = RegisterId::plain(self.register).msr()?;
        Some([msr.into(), self.keep, set])
    }
}

impl Sequence {
    /// What the guest is.
    pub fn role(self) -> Role {
        match self {
            Self::Root => Role::Root,
            _ => Role::L1vh,
        }
    }

    /// What it does.
    pub fn parts(self) -> Vec<Part> {
        use Owner::{Mshv, VmBus};
        let part = |owner, vmbus_is_up, writes| Part {
            owner,
            vmbus_is_up,
            writes,
        };
        let vmbus_init = part(VmBus, false, VMBUS_INIT);
        match self {
            Self::Merged => vec![
                vmbus_init,
                part(Mshv, true, MSHV_INIT),
                part(Mshv, true, MSHV_EXIT),
                part(VmBus, true, VMBUS_EXIT),
            ],
            Self::PrePatch => vec![
                vmbus_init,
                part(Mshv, true, ALL_INIT_BEFORE_PATCH),
                part(Mshv, true, ALL_EXIT),
                part(VmBus, true, VMBUS_EXIT),
            ],
            Self::VmbusFirst => vec![
                vmbus_init,
                part(Mshv, true, MSHV_INIT),
                part(VmBus, true, VMBUS_EXIT),
                part(Mshv, false, MSHV_EXIT),
            ],
            Self::Root => [ROOT_INIT, ROOT_EXIT, ROOT_INIT, ROOT_EXIT]
                .map(|writes| part(Mshv, false, writes))
                .to_vec(),
        }
    }

    /// The violations on each VP, in order. Writes that take effect break more than those that do
    /// not: the clean-up that follows then finds the SynIC off.
    pub fn expected(self, policy: PolicyArg) -> Vec<Expected> {
        use Owner::{Mshv, VmBus};
        let (always, late, registers): (Vec<_>, _, &[_]) = match self {
            Self::Merged | Self::Root => return Vec::new(),
            Self::PrePatch => {
                let writes = before_patch().into_iter();
                let writes = writes.map(Expected::of(Mshv, VmBus));
                (writes.collect(), VmBus, &[SINT2, SIMP, SIEFP])
            }
            Self::VmbusFirst => (vmbus_first(policy).into(), Mshv, &[SINT0, SINT5, SIRBP]),
        };
        let took_effect = policy == PolicyArg::Observe;
        let later = registers.iter().filter(|_| took_effect);
        let later = later.map(|register| (*register, ViolationKind::WriteWhileOff));
        let later = later.map(Expected::of(late, late));
        always.into_iter().chain(later).collect()
    }

    /// The registers that are on when all is over: those whose last write was one that had no effect.
    pub fn left_on(self, policy: PolicyArg) -> &'static [Register] {
        match (self, policy) {
            (Self::VmbusFirst, PolicyArg::Refuse | PolicyArg::Fault) => &[SCONTROL, SIMP, SIEFP],
            _ => &[],
        }
    }
}

fn before_patch() -> [(Register, ViolationKind); 5] {
    use ViolationKind::{OffWhileInUse, PageDisabled, PageRewritten};
    let sint2 = SintIndex::VMBUS;
    [
        (SIMP, PageRewritten(sint2)),
        (SIEFP, PageRewritten(sint2)),
        (SIEFP, PageDisabled(sint2)),
        (SIMP, PageDisabled(sint2)),
        (SCONTROL, OffWhileInUse),
    ]
}

fn vmbus_first(policy: PolicyArg) -> [Expected; 3] {
    use Owner::{Mshv, VmBus};
    use ViolationKind::{OffWhileInUse, VmBusLeftFirst};
    let expected = Expected::of(VmBus, Mshv);
    let last = match policy {
        PolicyArg::Observe => expected((SCONTROL, VmBusLeftFirst)),
        // Its pages were not let go, so VMBus looks as if it were still there.
        PolicyArg::Refuse | PolicyArg::Fault => Expected {
            register: SCONTROL,
            kind: OffWhileInUse,
            writer: None,
            victim: VmBus,
        },
    };
    let [simp, siefp] = [SIMP, SIEFP].map(|register| expected((register, VmBusLeftFirst)));
    [simp, siefp, last]
}

const SCONTROL: Register = Register::Scontrol;
const SIMP: Register = Register::Simp;
const SIEFP: Register = Register::Siefp;
const SIRBP: Register = Register::Sirbp;
const SINT0: Register = Register::Sint(SintIndex::INTERCEPT);
const SINT2: Register = Register::Sint(SintIndex::VMBUS);
const SINT5: Register = Register::Sint(SintIndex::DOORBELL);

const fn page(register: Register, page: u64) -> Write {
    Write::new(register, 0xFFE, Set::Page(page))
}

const fn clear_page(register: Register) -> Write {
    Write::new(register, 0xFFE, Set::Bits(0))
}

const fn enable(register: Register) -> Write {
    Write::new(register, !0, Set::Bits(1))
}

/// The address stays.
const fn disable(register: Register) -> Write {
    Write::new(register, !1, Set::Bits(0))
}

const fn unmask(register: Register, bits: u64) -> Write {
    Write::new(register, 0, Set::Bits(VECTOR as u64 | bits))
}

const fn mask(register: Register) -> Write {
    Write::new(register, !0, Set::Bits(1 << 16))
}

const AS_INTERCEPT: u64 = 1 << 19;
/// `hv_synic_init`.
const VMBUS_INIT: &[Write] = &[
    page(SIMP, 0),
    page(SIEFP, 1),
    unmask(SINT2, 0),
    enable(SCONTROL),
];
/// `hv_synic_cleanup`.
const VMBUS_EXIT: &[Write] = &[
    mask(SINT2),
    clear_page(SIMP),
    clear_page(SIEFP),
    disable(SCONTROL),
];
/// `mshv_synic_cpu_init` of Linux 7.2 where VMBus runs.
const MSHV_INIT: &[Write] = &[
    page(SIRBP, 2),
    unmask(SINT0, 0),
    unmask(SINT5, AS_INTERCEPT),
];
/// `mshv_synic_cpu_exit`, likewise.
const MSHV_EXIT: &[Write] = &[mask(SINT0), mask(SINT5), clear_page(SIRBP)];
/// `mshv_synic_init` before "mshv: limit SynIC management to MSHV-owned resources".
const ALL_INIT_BEFORE_PATCH: &[Write] = &[
    enable(SIMP),
    enable(SIEFP),
    page(SIRBP, 2),
    unmask(SINT0, 0),
    unmask(SINT5, AS_INTERCEPT),
    enable(SCONTROL),
];
/// `mshv_synic_cleanup` before it.
const ALL_EXIT: &[Write] = &[
    mask(SINT0),
    mask(SINT5),
    disable(SIRBP),
    disable(SIEFP),
    disable(SIMP),
    disable(SCONTROL),
];
/// `mshv_synic_cpu_init` on a root, whose pages are there.
const ROOT_INIT: &[Write] = &[
    enable(SIMP),
    enable(SIEFP),
    enable(SIRBP),
    unmask(SINT0, 0),
    unmask(SINT5, AS_INTERCEPT),
    enable(SCONTROL),
];
const ROOT_EXIT: &[Write] = ALL_EXIT;
