// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! What `trap_common` of `entries.s` and the CPU have pushed when a trap is taken.

#[repr(C)]
pub struct Frame {
    pub registers: [u64; 9],
    pub vector: u64,
    pub error: u64,
    pub rip: u64,
    pub cs: u64,
    pub rflags: u64,
    pub rsp: u64,
    pub ss: u64,
}
