// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! Guest RAM: one region from GPA 0.

use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use kvm_bindings::kvm_userspace_memory_region;
use kvm_ioctls::VmFd;
use vm_memory::{Address, GuestAddress, GuestMemoryBackend, GuestMemoryMmap, GuestMemoryRegion};
use vm_synic::{ProvidedPages, VpIndex};

/// The guest's memory, as every part of this VMM shares it.
pub type Memory = Arc<GuestMemoryMmap>;

/// Allocates `mib` MiB from GPA 0 and gives it to the VM.
pub fn allocate(vm: &VmFd, mib: u32) -> Result<Memory> {
    ensure!(
        (1..=MAX_MIB).contains(&mib),
        "Guest memory must be 1 to {MAX_MIB} MiB, so that it ends below the LAPIC, not {mib} MiB"
    );
    let bytes = usize::try_from(mib)? << 20;
    let memory = GuestMemoryMmap::from_ranges(&[(GuestAddress(0), bytes)])
        .with_context(|| format!("Cannot allocate {mib} MiB of guest memory"))?;
    for (slot, region) in memory.iter().enumerate() {
        let slot = kvm_userspace_memory_region {
            slot: u32::try_from(slot)?,
            flags: 0,
            guest_phys_addr: region.start_addr().raw_value(),
            memory_size: region.len(),
            userspace_addr: region.as_ptr() as u64,
        };
        // SAFETY: the mapping is `memory_size` bytes long and `Vm` keeps `Memory` until after the
        // VM's last vCPU is gone; slots do not overlap because regions do not.
        unsafe { vm.set_user_memory_region(slot) }.context("Cannot map guest memory into KVM")?;
    }
    Ok(Arc::new(memory))
}

/// Where the hypervisor provides the pages of a root partition's VP: at the end of RAM, in the part
/// that the guest is not told of.
pub fn provided_pages(mib: u32, vp: VpIndex) -> ProvidedPages {
    let last = (u64::from(mib) << 20).saturating_sub(provided_bytes(vp.get()));
    let [simp, siefp, sirbp] = [1, 2, 3].map(|page| last.saturating_sub(page * PAGE));
    ProvidedPages { simp, siefp, sirbp }
}

/// How much that is for so many VPs.
pub fn provided_bytes(vps: u32) -> u64 {
    u64::from(vps) * 3 * PAGE
}

const PAGE: u64 = 4096;
/// RAM ends below 3 GiB: the hole above holds the LAPIC and is where the doorbells of tests ring.
const MAX_MIB: u32 = 3072;
