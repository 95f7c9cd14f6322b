// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

#![cfg_attr(fuzzing, no_main)]

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|data: &[u8]| vm_synic_fuzz::mshv_exit::run(data));

#[cfg(not(fuzzing))]
fn main() -> std::io::Result<()> {
    vm_synic_fuzz::replay(vm_synic_fuzz::mshv_exit::run)
}
