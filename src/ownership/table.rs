// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! The ownership table.

use super::{Criterion, Owner, Role};
use crate::abi::{Bank, Register, RegisterId, SintIndex};

/// How a driver comes to the page behind a register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PageUse {
    /// It has no use for it.
    Unused,
    /// It maps the page whose address it reads from the register.
    Maps,
    /// It allocates the page and writes its address to the register.
    Allocates,
}

/// One row of the table: what one register of one bank is to the guest's drivers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ownership {
    /// Who sets its enable bit, or unmasks it, and takes that back; nobody else may.
    pub switch: Option<Owner>,
    /// What VMBus does about the page behind it.
    pub vmbus: PageUse,
    /// What MSHV does about the page behind it.
    pub mshv: PageUse,
}

impl Ownership {
    /// The row of a register.
    ///
    /// An L1VH without a working VMBus is not in the table: nobody provides it with pages then
    /// (Linux 7.2 maps whatever address the registers happen to hold).
    pub const fn of(role: Role, criterion: Criterion, id: RegisterId) -> Self {
        use Bank::{Nested, Plain};
        use Criterion::{Linux72, Seed};
        use PageUse::{Allocates, Maps};
        use Register::{Scontrol, Siefp, Simp, Sint, Sirbp};
        use Role::{Guest, L1vh, NestedRoot, Root};
        match (id.register, id.bank, role, criterion) {
            (Scontrol, Plain, Guest | L1vh, _) => Self::VMBUS,
            (Scontrol, Plain, Root, _) | (Scontrol, Plain, NestedRoot, Seed) => Self::MSHV,
            (Scontrol, Nested, NestedRoot, _) => Self::VMBUS,
            // VMBus exists, so Linux 7.2 leaves the plain registers to it; but VMBus has only
            // switched the nested ones. It works where the hypervisor hands them over enabled.
            (Scontrol, Plain, NestedRoot, Linux72) => Self::NOBODY,
            (Simp | Siefp, Plain, NestedRoot, Linux72) => Self::NOBODY.mshv(Maps),

            (Simp | Siefp, Plain, Guest, _) => Self::VMBUS.vmbus(Allocates),
            (Simp | Siefp, Plain, L1vh, _) => Self::VMBUS.vmbus(Allocates).mshv(Maps),
            (Simp | Siefp, Plain, Root, _) => Self::MSHV.mshv(Maps),
            (Simp | Siefp, Plain, NestedRoot, Seed) => Self::MSHV.mshv(Maps),
            (Simp | Siefp, Nested, NestedRoot, _) => Self::VMBUS.vmbus(Maps),

            (Sint(SintIndex::VMBUS), Plain, Guest | L1vh, _) => Self::VMBUS,
            (Sint(SintIndex::VMBUS), Nested, NestedRoot, _) => Self::VMBUS,
            (Sint(SintIndex::INTERCEPT), Plain, L1vh | Root | NestedRoot, _) => Self::MSHV,
            (Sint(SintIndex::DOORBELL), Plain, L1vh | Root | NestedRoot, _) => Self::MSHV,

            (Sirbp, Plain, L1vh, Linux72) => Self::MSHV.mshv(Allocates),
            (Sirbp, Plain, L1vh, Seed) => Self::MSHV.mshv(Maps),
            (Sirbp, Plain, Root | NestedRoot, _) => Self::MSHV.mshv(Maps),
            _ => Self::NOBODY,
        }
    }

    /// What a driver does about the page behind the register.
    pub const fn page_use(self, owner: Owner) -> PageUse {
        match owner {
            Owner::VmBus => self.vmbus,
            Owner::Mshv => self.mshv,
        }
    }

    /// Whether the owner clears the page address together with the enable bit.
    ///
    /// An address that the owner wrote itself would point at freed memory; an address that the
    /// hypervisor provided must still be there at the next init.
    pub fn clears_base(self) -> bool {
        self.switch
            .is_some_and(|owner| self.page_use(owner) == PageUse::Allocates)
    }

    /// Whether both drivers use the page.
    pub fn is_shared(self) -> bool {
        self.vmbus != PageUse::Unused && self.mshv != PageUse::Unused
    }

    /// Whose messages are lost when the register is switched off: its owner's, or where it has
    /// none, those of the driver that maps the page.
    pub fn dependant(self) -> Option<Owner> {
        let maps = |owner| self.page_use(owner) != PageUse::Unused;
        self.switch
            .or_else(|| [Owner::VmBus, Owner::Mshv].into_iter().find(|&o| maps(o)))
    }

    const NOBODY: Self = Self {
        switch: None,
        vmbus: PageUse::Unused,
        mshv: PageUse::Unused,
    };
    const VMBUS: Self = Self {
        switch: Some(Owner::VmBus),
        ..Self::NOBODY
    };
    const MSHV: Self = Self {
        switch: Some(Owner::Mshv),
        ..Self::NOBODY
    };

    const fn vmbus(self, vmbus: PageUse) -> Self {
        Self { vmbus, ..self }
    }

    const fn mshv(self, mshv: PageUse) -> Self {
        Self { mshv, ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::Criterion::{Linux72, Seed};
    use super::Owner::{Mshv, VmBus};
    use super::PageUse::{Allocates, Maps, Unused};
    use super::Role::{Guest, L1vh, NestedRoot, Root};
    use super::*;
    use Bank::{Nested, Plain};

    const ROLES: [Role; 4] = [Guest, L1vh, Root, NestedRoot];
    const CRITERIA: [Criterion; 2] = [Seed, Linux72];
    const SINT0: Register = Register::Sint(SintIndex::INTERCEPT);
    const SINT2: Register = Register::Sint(SintIndex::VMBUS);
    const SINT5: Register = Register::Sint(SintIndex::DOORBELL);

    /// Switch, VMBus's use of the page, MSHV's use of it, page address cleared at disable.
    type Expected = (Option<Owner>, PageUse, PageUse, bool);
    const NOBODY: Expected = (None, Unused, Unused, false);
    const VMBUS: Expected = (Some(VmBus), Unused, Unused, false);
    const MSHV: Expected = (Some(Mshv), Unused, Unused, false);
    const MSHV_MAPS: Expected = (Some(Mshv), Unused, Maps, false);

    #[track_caller]
    fn check(register: Register, bank: Bank, role: Role, criterion: Criterion, want: Expected) {
        let row = Ownership::of(role, criterion, RegisterId { bank, register });
        let got = (row.switch, row.vmbus, row.mshv, row.clears_base());
        assert_eq!(got, want, "{bank:?} {register} {role:?} {criterion:?}");
    }

    #[test]
    fn scontrol_row_is_vmbus_unless_vmbus_does_not_run_on_the_bank() {
        for criterion in CRITERIA {
            check(Register::Scontrol, Plain, Guest, criterion, VMBUS);
            check(Register::Scontrol, Plain, L1vh, criterion, VMBUS);
            check(Register::Scontrol, Plain, Root, criterion, MSHV);
            check(Register::Scontrol, Nested, NestedRoot, criterion, VMBUS);
        }
        check(Register::Scontrol, Plain, NestedRoot, Seed, MSHV);
        check(Register::Scontrol, Plain, NestedRoot, Linux72, NOBODY);
    }

    #[test]
    fn simp_and_siefp_rows_follow_scontrol_and_mshv_maps_what_vmbus_allocates() {
        let nested = (Some(VmBus), Maps, Unused, false);
        let guest = (Some(VmBus), Allocates, Unused, true);
        let l1vh = (Some(VmBus), Allocates, Maps, true);
        for register in [Register::Simp, Register::Siefp] {
            for criterion in CRITERIA {
                check(register, Plain, Guest, criterion, guest);
                check(register, Plain, L1vh, criterion, l1vh);
                check(register, Plain, Root, criterion, MSHV_MAPS);
                check(register, Nested, NestedRoot, criterion, nested);
            }
            check(register, Plain, NestedRoot, Seed, MSHV_MAPS);
            let unswitched = (None, Unused, Maps, false);
            check(register, Plain, NestedRoot, Linux72, unswitched);
        }
    }

    #[test]
    fn sint_rows_give_2_to_vmbus_on_its_bank_and_0_and_5_to_mshv() {
        for criterion in CRITERIA {
            check(SINT2, Plain, Guest, criterion, VMBUS);
            check(SINT2, Plain, L1vh, criterion, VMBUS);
            check(SINT2, Plain, Root, criterion, NOBODY);
            check(SINT2, Plain, NestedRoot, criterion, NOBODY);
            check(SINT2, Nested, NestedRoot, criterion, VMBUS);
            for register in [SINT0, SINT5] {
                check(register, Plain, Guest, criterion, NOBODY);
                check(register, Plain, L1vh, criterion, MSHV);
                check(register, Plain, Root, criterion, MSHV);
                check(register, Plain, NestedRoot, criterion, MSHV);
                check(register, Nested, NestedRoot, criterion, NOBODY);
            }
        }
    }

    #[test]
    fn sirbp_row_is_mshv_and_on_l1vh_the_page_is_its_own_since_7_2() {
        let allocated = (Some(Mshv), Unused, Allocates, true);
        for criterion in CRITERIA {
            check(Register::Sirbp, Plain, Guest, criterion, NOBODY);
            check(Register::Sirbp, Plain, Root, criterion, MSHV_MAPS);
            check(Register::Sirbp, Plain, NestedRoot, criterion, MSHV_MAPS);
            check(Register::Sirbp, Nested, NestedRoot, criterion, NOBODY);
        }
        check(Register::Sirbp, Plain, L1vh, Seed, MSHV_MAPS);
        check(Register::Sirbp, Plain, L1vh, Linux72, allocated);
    }

    #[test]
    fn everything_else_is_nobodys() {
        let is_owned = |sint: &SintIndex| [0, 2, 5].contains(&sint.get());
        let others = SintIndex::all()
            .filter(|sint| !is_owned(sint))
            .map(Register::Sint)
            .chain([Register::VpIndex, Register::Sversion, Register::Eom]);
        for register in others {
            for role in ROLES {
                for criterion in CRITERIA {
                    check(register, Plain, role, criterion, NOBODY);
                    check(register, Nested, role, criterion, NOBODY);
                }
            }
        }
        for register in [Register::Scontrol, Register::Simp, SINT0, SINT2] {
            for role in [Guest, L1vh, Root] {
                check(register, Nested, role, Linux72, NOBODY);
            }
        }
    }

    #[test]
    fn only_l1vh_shares_pages() {
        for role in ROLES {
            let row = Ownership::of(role, Linux72, RegisterId::plain(Register::Simp));
            assert_eq!(row.is_shared(), role == L1vh, "{role:?}");
        }
    }
}
