// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! The bus in a saved state.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};

use super::requests::{MAX_CHANNELS, MAX_RELID};
use super::{Connection, Contact};
use crate::vmbus::channel::{Channel, SavedChannel};
use crate::vmbus::gpadl::SavedGpadl;
use crate::vmbus::outbox::SavedOutbox;
use crate::vmbus::report::VmbusReport;

/// A guest's connection to the bus, and what was seen of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SavedBus {
    contact: Option<Contact>,
    last_relid: u32,
    outbox: SavedOutbox,
    gpadls: Vec<SavedGpadl>,
    channels: Vec<SavedChannel>,
    report: VmbusReport,
}

impl Connection {
    /// As it is.
    pub fn save(&self) -> SavedBus {
        SavedBus {
            contact: self.contact,
            last_relid: self.last_relid,
            outbox: self.outbox.save(),
            gpadls: self.gpadls.save(),
            channels: self.channels.values().map(Channel::save).collect(),
            report: self.bus.report.clone(),
        }
    }

    /// As it was, in place of what there is. The guest's RAM is there already. On an error, there is no
    /// connection.
    pub fn restore(&mut self, saved: &SavedBus) -> Result<()> {
        self.disconnect();
        let restored = self.try_restore(saved);
        if restored.is_err() {
            self.disconnect();
        }
        restored
    }

    fn try_restore(&mut self, saved: &SavedBus) -> Result<()> {
        let version = saved.contact.map(|contact| contact.version);
        let is_known = version.is_none_or(|version| version.is_supported());
        ensure!(is_known, "contact: version {version:?} is not supported");
        ensure!(saved.last_relid <= MAX_RELID, "last_relid: it is too large");
        let gpadls = self.gpadls.restore(&saved.gpadls);
        gpadls.map_err(|(index, mistake)| anyhow::anyhow!("gpadls[{index}]: {mistake}"))?;
        self.channels = self.restore_channels(&saved.channels)?;
        (self.contact, self.last_relid) = (saved.contact, saved.last_relid);
        self.bus.report = saved.report.clone();
        self.outbox.restore(&saved.outbox);
        self.writable();
        Ok(())
    }

    fn restore_channels(&self, saved: &[SavedChannel]) -> Result<BTreeMap<u32, Channel>> {
        ensure!(saved.len() <= MAX_CHANNELS, "channels: there are too many");
        let mut channels = BTreeMap::new();
        for (index, saved) in saved.iter().enumerate() {
            let (field, relid) = (format!("channels[{index}]"), saved.relid);
            let is_new = (1..=MAX_RELID).contains(&relid) && !channels.contains_key(&relid);
            ensure!(
                is_new,
                "{field}: relid {relid} cannot be, or is there twice"
            );
            let pages = |gpadl| self.gpadls.pages(relid, gpadl);
            let channel = Channel::restore(saved, &self.bus, pages).context(field)?;
            channels.insert(relid, channel);
        }
        Ok(channels)
    }
}
