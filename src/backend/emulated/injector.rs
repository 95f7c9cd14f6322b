// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! Raises a SINT's vector in a vCPU's in-kernel LAPIC.
//!
//! An ordinary SINT is an edge-triggered MSI. One with AutoEOI is not possible that way: the LAPIC
//! would set the vector in service, the guest would, as told, not write EOI, and every interrupt of
//! the same and lower priority would be blocked for ever. KVM's own SynIC knows such vectors; its
//! LAPIC alone does not. What it does have is the external interrupt of a PIC, which is delivered
//! without being put in service: [`SintInjector`] uses that, by `KVM_INTERRUPT`.
//!
//! `KVM_INTERRUPT` is a vCPU ioctl and holds one vector, so a vector waits in a bitmap until its
//! vCPU's thread takes it in [`SintInjector::pre_run`].

use std::io;
use std::sync::Arc;

use kvm_bindings::{KVMIO, kvm_interrupt, kvm_msi};
use kvm_ioctls::{Error as KvmError, VcpuFd, VmFd};
use vmm_sys_util::ioctl::ioctl_with_ref;
use vmm_sys_util::ioctl_iow_nr;

use super::vectors::PendingVectors;
use super::{Error, VectorSet, lapic};
use crate::{SintInterrupt, VpIndex};

/// Injects the interrupts of SINTs into the vCPUs of one VM.
///
/// The VM needs the split irqchip (`KVM_CAP_SPLIT_IRQCHIP`), and no PIC of its own behind LINT0.
///
/// A vector with AutoEOI is delivered as an external interrupt, which the LAPIC's TPR does not hold
/// back. A VMM whose guests respect it should recommend against AutoEOI in CPUID 0x40000004 EAX
/// bit 9 (TLFS "Deprecate AutoEOI"), as Hyper-V does where APIC virtualization is used.
#[derive(Debug)]
pub struct SintInjector {
    vm: Arc<VmFd>,
    vps: Box<[Vp]>,
}

/// What is left to do after [`SintInjector::assert`].
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[must_use]
pub enum Asserted {
    /// Nothing: the interrupt is in the LAPIC.
    Sent,
    /// Kick the vCPU; its next [`pre_run`](SintInjector::pre_run) injects the vector.
    KickNeeded,
}

impl SintInjector {
    /// An injector for VPs 0, 1, …, whose LAPICs have the ids that `apic_ids` yields in that order.
    ///
    /// An id above 254 needs `KVM_X2APIC_API_USE_32BIT_IDS` enabled on the VM.
    pub fn new(vm: Arc<VmFd>, apic_ids: impl IntoIterator<Item = u32>) -> Self {
        let vps = apic_ids.into_iter().map(Vp::new).collect();
        Self { vm, vps }
    }

    /// Raises the interrupt, from any thread. Meant to be the body of [`Host::assert_sint`].
    ///
    /// # Errors
    ///
    /// `NotFound` for a VP the injector was not built for, else what `KVM_SIGNAL_MSI` refused.
    ///
    /// [`Host::assert_sint`]: crate::Host::assert_sint
    pub fn assert(&self, interrupt: SintInterrupt) -> io::Result<Asserted> {
        if interrupt.auto_eoi {
            let vp = self.vp(interrupt.addr.vp).map_err(not_found)?;
            vp.pending.insert(interrupt.vector);
            return Ok(Asserted::KickNeeded);
        }
        self.assert_vector(interrupt.addr.vp, interrupt.vector)?;
        Ok(Asserted::Sent)
    }

    /// Raises a vector that no SINT has, from any thread. Meant to be the body of
    /// [`Host::assert_vector`].
    ///
    /// # Errors
    ///
    /// As for [`assert`](Self::assert).
    ///
    /// [`Host::assert_vector`]: crate::Host::assert_vector
    pub fn assert_vector(&self, vp: VpIndex, vector: u8) -> io::Result<()> {
        let vp = self.vp(vp).map_err(not_found)?;
        // The result says whether the LAPIC took it; one that is disabled refuses, as hardware
        // does.
        self.vm.signal_msi(msi(vp.apic_id, vector))?;
        Ok(())
    }

    /// Readies a vCPU's LAPIC for vectors with AutoEOI; call it when `KVM_RUN` fails with EAGAIN.
    ///
    /// That is how the first `KVM_RUN` of a vCPU answers to its INIT, which closes LINT0.
    /// [`pre_run`](Self::pre_run) would find out, but opens it, on a LAPIC in xAPIC mode, at the
    /// risk to lose an interrupt that arrives at that moment; here there is none yet.
    ///
    /// # Errors
    ///
    /// [`Error::Lapic`].
    pub fn prepare(&self, vp: VpIndex, vcpu: &VcpuFd) -> Result<(), Error> {
        let vp = vp.get();
        lapic::open_lint0(vcpu).map_err(|source| Error::Lapic { vp, source })
    }

    /// Hands the highest waiting vector to KVM; call it on the vCPU's thread before each `KVM_RUN`.
    ///
    /// One atomic load when nothing waits. If a vector has to wait for the guest to open its
    /// interrupt window, an `IrqWindowOpen` exit is requested, after which this is called again.
    ///
    /// # Errors
    ///
    /// An ioctl on `vcpu` failed; the vector stays pending.
    pub fn pre_run(&self, vp: VpIndex, vcpu: &mut VcpuFd) -> Result<(), Error> {
        let pending = &self.vp(vp)?.pending;
        if !pending.any() {
            return Ok(());
        }
        if let Some(vector) = pending.take_highest() {
            let injected = self.inject(vp, vcpu, vector);
            if !matches!(injected, Ok(true)) {
                pending.insert(vector);
            }
            injected?;
        }
        vcpu.get_kvm_run().request_interrupt_window = u8::from(!pending.is_empty());
        Ok(())
    }

    /// The vectors that wait for `vp`, to be saved while its vCPU is stopped.
    ///
    /// # Errors
    ///
    /// [`Error::UnknownVp`].
    pub fn pending(&self, vp: VpIndex) -> Result<VectorSet, Error> {
        Ok(self.vp(vp)?.pending.get())
    }

    /// Sets the vectors that wait for `vp` to what [`pending`](Self::pending) returned.
    ///
    /// # Errors
    ///
    /// [`Error::UnknownVp`].
    pub fn set_pending(&self, vp: VpIndex, vectors: VectorSet) -> Result<(), Error> {
        self.vp(vp)?.pending.set(vectors);
        Ok(())
    }

    /// Whether KVM took the vector; false if it still holds an earlier one.
    fn inject(&self, vp: VpIndex, vcpu: &VcpuFd, vector: u8) -> Result<bool, Error> {
        self.prepare(vp, vcpu)?;
        match interrupt(vcpu, vector) {
            Ok(()) => Ok(true),
            Err(e) if io::Error::from(e).kind() == io::ErrorKind::AlreadyExists => Ok(false),
            Err(source) => Err(Error::Interrupt {
                vp: vp.get(),
                vector,
                source,
            }),
        }
    }

    fn vp(&self, vp: VpIndex) -> Result<&Vp, Error> {
        usize::try_from(vp.get())
            .ok()
            .and_then(|index| self.vps.get(index))
            .ok_or(Error::UnknownVp(vp.get()))
    }
}

#[derive(Debug)]
struct Vp {
    apic_id: u32,
    pending: PendingVectors,
}

impl Vp {
    fn new(apic_id: u32) -> Self {
        Self {
            apic_id,
            pending: PendingVectors::default(),
        }
    }
}

fn not_found(error: Error) -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, error)
}

fn interrupt(vcpu: &VcpuFd, vector: u8) -> Result<(), KvmError> {
    let interrupt = kvm_interrupt {
        irq: u32::from(vector),
    };
    // SAFETY: the fd is a vCPU's, and KVM_INTERRUPT reads a `kvm_interrupt`, which outlives the
    // call.
    match unsafe { ioctl_with_ref(vcpu, KVM_INTERRUPT(), &interrupt) } {
        0 => Ok(()),
        _ => Err(KvmError::last()),
    }
}

/// Fixed delivery, edge, physical destination (SDM volume 3, "Message Signalled Interrupts").
fn msi(apic_id: u32, vector: u8) -> kvm_msi {
    kvm_msi {
        address_lo: 0xfee0_0000 | (apic_id & 0xff) << 12,
        address_hi: apic_id & !0xff,
        data: u32::from(vector),
        ..Default::default()
    }
}

ioctl_iow_nr!(KVM_INTERRUPT, KVMIO, 0x86, kvm_interrupt);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn msi_when_the_apic_id_is_wide_splits_it_over_both_halves() {
        let msi = msi(0x0000_1234, 0xf3);
        assert_eq!(msi.address_lo, 0xfee3_4000);
        assert_eq!(msi.address_hi, 0x1200);
        assert_eq!(msi.data, 0xf3);
    }
}
