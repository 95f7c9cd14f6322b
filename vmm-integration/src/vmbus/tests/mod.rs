// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! The bus against a mock of Linux's driver, one turn of its thread at a time.

mod channels;
mod driver;
mod gpadls;
mod heartbeat;
mod hostile;
mod messages;
mod ring;
mod saved;
mod socket;
mod thread;
