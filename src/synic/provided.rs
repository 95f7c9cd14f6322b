// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! Pages that the hypervisor provides, as it does to a root partition.

use super::Synic;
use crate::abi::PageRegister;
use crate::page::GuestSpace;
use crate::sync::lock;
use std::sync::atomic::Ordering;

/// Where the hypervisor provides a VP's pages to a root partition, as guest physical addresses.
/// The guest finds them in its registers and enables them there; 0 stands for none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProvidedPages {
    /// The message page.
    pub simp: u64,
    /// The event flags page.
    pub siefp: u64,
    /// The event ring page.
    pub sirbp: u64,
}

impl ProvidedPages {
    /// Values of SIEFP, SIMP and SIRBP that name the pages but do not enable them.
    pub(super) fn bases(self) -> [u64; 3] {
        [self.siefp, self.simp, self.sirbp]
            .map(|gpa| PageRegister::at(gpa).with_enabled(false).into())
    }
}

impl<AS: GuestSpace> Synic<AS> {
    /// Has the page registers name these pages, not yet enabled, now and after each reset.
    pub fn provide_pages(&self, pages: ProvidedPages) {
        *lock(&self.provided) = pages;
        let registers = [&self.siefp, &self.simp, &self.sirbp];
        for (register, base) in registers.into_iter().zip(pages.bases()) {
            register.store(base, Ordering::Release);
        }
    }
}
