// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! What the timers of a VP and the VMM's timer for it say to each other.

use super::SynicManager;
use crate::abi::{Bank, RegisterId, TimerIndex, VpIndex};
use crate::observe::TimelineKind;
use crate::page::GuestSpace;
use crate::stimer::{HeldTimer, TimerSignals};
use crate::synic::Synic;
use crate::vp::Vp;

impl<AS: GuestSpace> SynicManager<AS> {
    /// The reference time has reached the deadline of a VP that the VMM was told by
    /// [`Host::set_timer`](crate::Host::set_timer), and which is used up by this call: expires the
    /// synthetic timers that are due. Any thread; too early does no harm.
    pub fn timer_due(&self, index: VpIndex) {
        let Some(vp) = self.vp(index).filter(|_| self.config.runs_timers()) else {
            return;
        };
        if let Some(synic) = vp.synic(Bank::Plain) {
            let signals = synic.timer_due(self.host.reference_time(), &self.config);
            self.apply(vp, Bank::Plain, synic, signals);
        }
    }

    /// For a backend, before [`save`](Self::save): notes what the hypervisor, which has the timers
    /// ([`Provider::Hypervisor`](crate::Provider)), tells of one of them.
    pub fn hold_timer(&self, index: VpIndex, timer: TimerIndex, held: HeldTimer) {
        if let Some(synic) = self.vp(index).and_then(|vp| vp.synic(Bank::Plain)) {
            synic.hold_timer(timer, held);
        }
    }

    /// For a backend, after [`restore`](Self::restore): what the hypervisor is to be told of a VP's
    /// timers, all four.
    pub fn held_timers(&self, index: VpIndex) -> Vec<(TimerIndex, HeldTimer)> {
        let synic = self.vp(index).and_then(|vp| vp.synic(Bank::Plain));
        let used = synic.map(Synic::timers).unwrap_or_default();
        let held = |index| used.iter().find(|timer| timer.index == index);
        TimerIndex::all()
            .map(|index| (index, held(index).map(HeldTimer::from).unwrap_or_default()))
            .collect()
    }

    /// Whether the registers of a VP include this one.
    pub(crate) fn has_register(&self, id: RegisterId) -> bool {
        if id.register.is_timer() {
            self.config.runs_timers() && id.bank == Bank::Plain
        } else {
            id.bank == Bank::Plain || self.config.nested
        }
    }

    /// Brings a VP's timers the time: `always`, or only if one has a message that may be delivered
    /// now. Most calls have nothing to do with timers, and the time may not be cheap.
    pub(super) fn bring_time(&self, vp: &Vp<AS>, always: bool) {
        if !self.config.runs_timers() {
            return;
        }
        let synic = vp.synic(Bank::Plain);
        if let Some(synic) = synic.filter(|synic| always || synic.has_timer_message()) {
            synic.set_time(self.host.reference_time());
        }
    }

    /// Tells the VMM the earliest deadlines of all VPs.
    pub(super) fn tell_deadlines(&self) {
        for vp in self.online() {
            if let Some(synic) = vp.synic(Bank::Plain) {
                self.tell_deadline(vp, synic);
            }
        }
    }

    /// Tells the VMM what has become of a VP's timers. No lock is held.
    pub(super) fn apply_timers(&self, vp: &Vp<AS>, synic: &Synic<AS>, signals: TimerSignals) {
        for (timer, vector) in signals.expired() {
            vp.record(|| TimelineKind::Timer { timer, vector });
            if let Some(vector) = vector {
                self.interrupt_by(vp, synic, timer, vector);
            }
        }
        if signals.deadline {
            self.tell_deadline(vp, synic);
        }
    }

    fn interrupt_by(&self, vp: &Vp<AS>, synic: &Synic<AS>, timer: TimerIndex, vector: u8) {
        if let Err(error) = self.host.assert_vector(vp.index, vector) {
            let level = synic.timer_failed(timer);
            log::log!(level, "Cannot interrupt {} for {timer}: {error}", vp.index);
        }
    }

    fn tell_deadline(&self, vp: &Vp<AS>, synic: &Synic<AS>) {
        let mut claimed = synic.claim_deadline();
        while let Some(deadline) = claimed {
            self.host.set_timer(vp.index, deadline);
            claimed = synic.deadline_told();
        }
    }
}
