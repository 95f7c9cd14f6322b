// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

#![cfg_attr(fuzzing, no_main)]

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|data: &[u8]| vm_synic_fuzz::state_json::run(data));

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    let bytes = libfuzzer_sys::fuzzer_mutate;
    vm_synic_fuzz::state_json::mutate(data, size, max_size, seed, bytes)
});

#[cfg(not(fuzzing))]
fn main() -> std::io::Result<()> {
    vm_synic_fuzz::replay(vm_synic_fuzz::state_json::run)
}
