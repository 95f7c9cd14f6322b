// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! The guest pauses, resumes, resets, and runs.

use super::SynicManager;
use crate::abi::VpIndex;
use crate::error::Error;
use crate::page::GuestSpace;
use crate::sync::lock;
use crate::vp::Vp;
use std::sync::atomic::Ordering;

impl<AS: GuestSpace> SynicManager<AS> {
    /// To be called on a VP's thread before each entry into the guest. When there is nothing to
    /// do, it is one atomic load.
    pub fn pre_run(&self, index: VpIndex) {
        let Some(vp) = self.vp(index).filter(|vp| vp.has_work()) else {
            return;
        };
        if vp.take_work() {
            self.bring_time(vp, true);
            for (bank, synic) in vp.banks() {
                let turn = vp.take_turn();
                // Not to undo a pause that comes between. The next resume gives this work again.
                if self.is_paused() {
                    return;
                }
                let signals = synic.resume(&self.config);
                drop(turn);
                self.apply(vp, bank, synic, signals);
            }
        }
    }

    /// Writes nothing to guest memory from now on; after this returns, nobody is doing so. What is
    /// posted waits. To be called after the VPs have left the guest. Only a register write of the VMM's
    /// own may still touch the page that it names.
    pub fn pause(&self) {
        let lifecycle = lock(&self.lifecycle);
        self.pause_vps();
        drop(lifecycle);
        self.tell_deadlines();
    }

    /// Delivers again. To be called before the VPs enter the guest; what waited is delivered by
    /// each VP's [`pre_run`](Self::pre_run), before it does.
    pub fn resume(&self) {
        let lifecycle = lock(&self.lifecycle);
        self.paused.store(false, Ordering::Release);
        self.online().for_each(Vp::give_work);
        drop(lifecycle);
        self.online().for_each(|vp| self.host.kick(vp.index));
    }

    /// As after power-on: all VPs and the hypercall page. VPs must have left the guest; ports,
    /// connections and doorbells of the VMM's stay, those of the guest's own go, and what waited is
    /// dropped and counted.
    pub fn reset(&self) {
        let lifecycle = lock(&self.lifecycle);
        self.hypercall_page.reset();
        self.forget_guest_ports();
        lock(&self.orphans).clear();
        self.online().for_each(|vp| vp.reset(&self.config));
        drop(lifecycle);
        self.online().for_each(|vp| self.tell_of_reset(vp));
    }

    /// One VP as after power-on.
    ///
    /// # Errors
    /// [`Error::NoVp`].
    pub fn reset_vp(&self, index: VpIndex) -> Result<(), Error> {
        let lifecycle = lock(&self.lifecycle);
        let vp = self.vp(index).ok_or(Error::NoVp(index))?;
        vp.reset(&self.config);
        drop(lifecycle);
        self.tell_of_reset(vp);
        Ok(())
    }

    /// The VMM has changed the memory map: looks every page up again. To be called while paused.
    pub fn memory_changed(&self) {
        for vp in self.online() {
            vp.banks().for_each(|(_, synic)| synic.remap(&self.space));
        }
    }

    fn pause_vps(&self) {
        self.paused.store(true, Ordering::Release);
        for vp in self.online() {
            let _turn = vp.take_turn();
            vp.take_work();
            vp.pause();
        }
    }

    pub(super) fn tell_of_reset(&self, vp: &Vp<AS>) {
        self.update_routes(vp);
        for (bank, synic) in vp.banks() {
            self.apply(vp, bank, synic, synic.news(&self.config));
        }
    }
}
