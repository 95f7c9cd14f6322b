// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! Interrupts by eventfd: the partition's table of MSI routes, and irqfds on its GSIs.
//!
//! The driver has a few traps here (Linux 7.2 `mshv_irq.c`, `mshv_eventfd.c`), which this keeps clear
//! of: a GSI without a route, GSI 0 among them, asserts vector 0; a resample eventfd needs a
//! level-triggered route at the time of its registration; and the table is replaced as a whole.

use std::collections::BTreeMap;
use std::os::fd::AsRawFd;
use std::sync::{Arc, Mutex};

use mshv_bindings::{
    MSHV_IRQFD_BIT_DEASSIGN, MSHV_IRQFD_BIT_RESAMPLE, mshv_user_irq_entry, mshv_user_irqfd,
};
use vmm_sys_util::eventfd::EventFd;

use super::{CallError, MshvPartition};
use crate::Registration;
use crate::sync::lock;

/// Where a GSI's interrupt goes: an MSI, as a device writes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MsiRoute {
    /// 0xFEE00000, with the APIC id in bits 19:12 and logical mode in bit 2.
    pub address: u32,
    /// Vector in bits 7:0, delivery mode in 10:8, level-triggered in bit 15.
    pub data: u32,
}

/// Why a route or an irqfd was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RouteError {
    /// GSIs go from 1 to 4095.
    #[error("GSI {0} is out of range")]
    Gsi(u32),
    /// The GSI has no route, and would raise vector 0.
    #[error("GSI {0} has no route")]
    NoRoute(u32),
    /// Irqfds are on it still.
    #[error("GSI {0} is in use by {1} irqfds")]
    InUse(u32, usize),
    /// A vector below 16, which no interrupt has.
    #[error("Vector {0} cannot be raised")]
    Vector(u8),
    /// A resample eventfd makes sense for a level-triggered interrupt alone.
    #[error("GSI {0} is routed edge-triggered")]
    Edge(u32),
    /// The driver refused.
    #[error("The driver refused the GSI's change")]
    Driver(#[from] CallError),
}

/// The routes of a partition. There is one table for a partition; this is it.
#[derive(Debug)]
pub struct MsiRoutes {
    partition: MshvPartition,
    routes: Arc<Mutex<BTreeMap<u32, Entry>>>,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    route: MsiRoute,
    irqfds: usize,
}

impl MsiRoutes {
    /// An empty table.
    pub fn new(partition: MshvPartition) -> Self {
        Self {
            partition,
            routes: Arc::default(),
        }
    }

    /// Routes a GSI, anew if it has a route. Irqfds on it follow.
    ///
    /// # Errors
    /// [`RouteError`]; what was in force stays so.
    pub fn set(&self, gsi: u32, route: MsiRoute) -> Result<(), RouteError> {
        if !GSIS.contains(&gsi) {
            return Err(RouteError::Gsi(gsi));
        }
        let vector = route.data as u8;
        if vector < 16 {
            return Err(RouteError::Vector(vector));
        }
        let mut routes = lock(&self.routes);
        let mut changed = routes.clone();
        let irqfds = changed.get(&gsi).map_or(0, |entry| entry.irqfds);
        changed.insert(gsi, Entry { route, irqfds });
        self.load(&changed)?;
        *routes = changed;
        Ok(())
    }

    /// Takes a GSI's route away.
    ///
    /// # Errors
    /// [`RouteError::InUse`] while there are irqfds on it, others as for [`set`](Self::set).
    pub fn remove(&self, gsi: u32) -> Result<(), RouteError> {
        let mut routes = lock(&self.routes);
        let mut changed = routes.clone();
        match changed.remove(&gsi) {
            None => return Err(RouteError::NoRoute(gsi)),
            Some(entry) if entry.irqfds != 0 => return Err(RouteError::InUse(gsi, entry.irqfds)),
            Some(_) => self.load(&changed)?,
        }
        *routes = changed;
        Ok(())
    }

    /// Has `fd` raise a GSI's interrupt until the registration is dropped; with `resample`, that one
    /// is signalled when the guest has ended it.
    ///
    /// # Errors
    /// [`RouteError`]; EBUSY from the driver for an eventfd that is on a GSI already.
    pub fn irqfd(
        &self,
        gsi: u32,
        fd: Arc<EventFd>,
        resample: Option<Arc<EventFd>>,
    ) -> Result<Registration, RouteError> {
        let mut routes = lock(&self.routes);
        let entry = routes.get_mut(&gsi).ok_or(RouteError::NoRoute(gsi))?;
        if resample.is_some() && entry.route.data & LEVEL == 0 {
            return Err(RouteError::Edge(gsi));
        }
        let request = mshv_user_irqfd {
            fd: fd.as_raw_fd(),
            resamplefd: resample.as_ref().map_or(0, |fd| fd.as_raw_fd()),
            gsi,
            flags: u32::from(resample.is_some()) << MSHV_IRQFD_BIT_RESAMPLE,
        };
        self.partition.calls().irqfd(&request)?;
        entry.irqfds += 1;
        let (partition, table) = (self.partition.clone(), self.routes.clone());
        Ok(Registration::new(
            format!("irqfd on GSI {gsi}"),
            move || {
                let request = mshv_user_irqfd {
                    flags: 1 << MSHV_IRQFD_BIT_DEASSIGN,
                    ..request
                };
                if let Err(error) = partition.calls().irqfd(&request) {
                    log::error!("Cannot remove an irqfd from GSI {gsi}: {error}");
                }
                if let Some(entry) = lock(&table).get_mut(&gsi) {
                    entry.irqfds = entry.irqfds.saturating_sub(1);
                }
                drop((fd, resample));
            },
        ))
    }

    fn load(&self, routes: &BTreeMap<u32, Entry>) -> Result<(), CallError> {
        let entries = routes.iter().map(|(gsi, entry)| mshv_user_irq_entry {
            gsi: *gsi,
            address_lo: entry.route.address,
            // The driver takes nothing else.
            address_hi: 0,
            data: entry.route.data,
        });
        let entries = entries.collect::<Vec<_>>();
        self.partition.calls().set_msi_routing(&entries)
    }
}

/// GSI 0 asserts vector 0 if it has no route, and whoever forgets to set one uses 0.
const GSIS: std::ops::Range<u32> = 1..4096;
const LEVEL: u32 = 1 << 15;
