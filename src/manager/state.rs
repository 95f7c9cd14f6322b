// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! The manager as a value, and for the eye.

use super::SynicManager;
use crate::abi::{Bank, VpIndex};
use crate::error::Error;
use crate::observe::{Snapshot, TimelineEvent};
use crate::ownership::SynicView;
use crate::page::GuestSpace;
use crate::state::{STATE_VERSION, State};
use crate::sync::lock;
use crate::synic::Synic;
use crate::vp::Vp;

impl<AS: GuestSpace> SynicManager<AS> {
    /// Everything that the manager knows of its guest.
    ///
    /// # Errors
    /// [`Error::NotPaused`].
    pub fn save(&self) -> Result<State, Error> {
        let _lifecycle = lock(&self.lifecycle);
        if !self.is_paused() {
            return Err(Error::NotPaused("save"));
        }
        Ok(State {
            version: STATE_VERSION,
            hypercall_page: self.config.hypercall_page,
            guest_os_id: self.hypercall_page.guest_os_id(),
            hypercall: self.hypercall_page.hypercall(),
            vps: self.online().map(Vp::save).collect(),
            guest_ports: self.save_guest_ports(),
            guest_connections: self.save_guest_connections(),
        })
    }

    /// Puts a state into this manager, which is paused afterwards. VPs are plugged in and out as
    /// the state has them. Guest memory is not touched before [`resume`](Self::resume).
    ///
    /// # Errors
    /// [`Error::State`] names the field that cannot be restored; the manager is then as after
    /// [`reset`](Self::reset).
    pub fn restore(&self, state: &State) -> Result<(), Error> {
        self.check(state)?;
        self.pause();
        self.plug(state)?;
        self.reset();
        let restored = self.restore_vps(state);
        let restored = restored.and_then(|()| self.restore_guest_ports(state));
        if restored.is_err() {
            self.reset();
        }
        restored
    }

    /// For a backend, before [`save`](Self::save): notes the registers of a VP's SynIC, where the hypervisor
    /// has them ([`of_partition`](Self::of_partition)).
    pub fn hold_registers(&self, vp: VpIndex, view: &SynicView) {
        let synic = self.vp(vp).and_then(|vp| vp.synic(Bank::Plain));
        if let Some(synic) = synic.filter(|_| !self.has_registers()) {
            synic.hold(view);
        }
    }

    /// For a backend, after [`restore`](Self::restore): those that the hypervisor is to be given.
    pub fn held_registers(&self, vp: VpIndex) -> SynicView {
        let synic = self.vp(vp).and_then(|vp| vp.synic(Bank::Plain));
        synic.map(Synic::view).unwrap_or_default()
    }

    /// For a backend, before [`save`](Self::save): notes GUEST_OS_ID and HYPERCALL, where the
    /// hypervisor has them ([`Provider::Hypervisor`](crate::Provider)).
    pub fn hold_hypercall_page(&self, guest_os_id: u64, hypercall: u64) {
        self.hypercall_page.hold(guest_os_id, hypercall);
    }

    /// For a backend, after [`restore`](Self::restore): GUEST_OS_ID and HYPERCALL, as the hypervisor is
    /// to be told.
    pub fn held_hypercall_page(&self) -> (u64, u64) {
        let page = &self.hypercall_page;
        (page.guest_os_id(), page.hypercall())
    }

    /// What there is to see at this moment.
    pub fn snapshot(&self) -> Snapshot {
        Snapshot {
            vps: self.online().map(Vp::snapshot).collect(),
        }
    }

    /// What happened, oldest first, as far as [`Config::timeline_depth`] reaches.
    ///
    /// [`Config::timeline_depth`]: crate::Config::timeline_depth
    pub fn timeline(&self) -> Vec<TimelineEvent> {
        let mut events: Vec<_> = self.online().flat_map(Vp::timeline).collect();
        events.sort_by_key(|event| event.at);
        events
    }

    /// The [`timeline`](Self::timeline) in the Chrome trace format, for a trace viewer.
    #[cfg(feature = "serde")]
    pub fn chrome_trace(&self) -> serde_json::Value {
        let vps: Vec<_> = (self.online())
            .map(|vp| vp.trace_context(&self.config))
            .collect();
        crate::observe::chrome_trace(&self.timeline(), &vps)
    }

    /// Has exactly the VPs of `state`.
    fn plug(&self, state: &State) -> Result<(), Error> {
        let is_saved = |vp: &Vp<AS>| state.vps.iter().any(|saved| saved.index == vp.index);
        for vp in self.online().filter(|vp| !is_saved(vp)) {
            self.remove_vp(vp.index)?;
        }
        for vp in &state.vps {
            match self.add_vp(vp.index) {
                Ok(()) | Err(Error::VpExists(_)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn restore_vps(&self, state: &State) -> Result<(), Error> {
        let State {
            version: _,        // Checked.
            hypercall_page: _, // Likewise.
            guest_os_id,
            hypercall,
            vps,
            guest_ports: _, // By `restore_guest_ports`.
            guest_connections: _,
        } = state;
        self.hypercall_page.hold(*guest_os_id, *hypercall);
        for (position, state) in vps.iter().enumerate() {
            let vp = self.vp(state.index).ok_or(Error::NoVp(state.index))?;
            let restored = vp.restore(state, &self.context());
            restored.map_err(|error| error.inside(&format!("vps[{position}]")))?;
            self.update_routes(vp);
        }
        Ok(())
    }

    /// The code in the page is the one's that has written it.
    fn check_hypercall_page(&self, state: &State) -> Result<(), Error> {
        let (theirs, ours) = (state.hypercall_page, self.config.hypercall_page);
        if theirs == ours || state.hypercall & HYPERCALL_ENABLE == 0 {
            return Ok(());
        }
        Err(Error::State {
            field: "hypercall_page".into(),
            reason: format!("{theirs:?} has written it, and here {ours:?} does"),
        })
    }

    fn check(&self, state: &State) -> Result<(), Error> {
        let refuse = |field: &str, reason: String| {
            Err(Error::State {
                field: field.into(),
                reason,
            })
        };
        if state.version != STATE_VERSION {
            let reason = format!("{} is not {STATE_VERSION}", state.version);
            return refuse("version", reason);
        }
        self.check_hypercall_page(state)?;
        let beyond = |index: &VpIndex| index.get() >= self.config.max_vps;
        if let Some(index) = state.vps.iter().map(|vp| vp.index).find(beyond) {
            let reason = format!("{index} is beyond the {} configured", self.config.max_vps);
            return refuse("vps", reason);
        }
        let mut indices: Vec<_> = state.vps.iter().map(|vp| vp.index).collect();
        indices.sort_unstable();
        if indices
            .windows(2)
            .any(|pair| matches!(pair, [a, b] if a == b))
        {
            return refuse("vps", "a VP is there twice".into());
        }
        self.check_guest_ports(state)
    }
}

const HYPERCALL_ENABLE: u64 = 1;
