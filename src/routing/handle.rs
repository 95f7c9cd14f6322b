// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! A registration that ends when it is dropped.

use std::fmt;

/// Keeps a port, a connection or a doorbell registered; dropping it unregisters.
///
/// Deliveries that have begun by then may still reach the handler; none begins afterwards. It may
/// be dropped anywhere, inside the handler too.
#[must_use = "dropping it unregisters at once"]
pub struct Registration {
    what: String,
    unregister: Option<Box<dyn FnOnce() + Send + Sync>>,
}

impl Registration {
    pub(crate) fn new(what: String, unregister: impl FnOnce() + Send + Sync + 'static) -> Self {
        Self {
            what,
            unregister: Some(Box::new(unregister)),
        }
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        if let Some(unregister) = self.unregister.take() {
            unregister();
        }
    }
}

impl fmt::Debug for Registration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Registration({})", self.what)
    }
}
