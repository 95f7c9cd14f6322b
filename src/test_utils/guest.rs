// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! The guest kernel on one VP: its registers, its pages, its hypercalls.

use super::drivers::Loaded;
use crate::abi::{
    Bank, MessageType, PageRegister, PerSint, Register, RegisterId, Sint, SintIndex, VpIndex,
};
use crate::delivery::event_ring::RingConsumer;
use crate::error::MsrError;
use crate::hypercall::HypercallInput;
use crate::manager::SynicManager;
use crate::ownership::SynicPage;
use crate::page::GuestSpace;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use vm_memory::{
    AtomicInteger, Bytes, GuestAddress, GuestMemory, GuestMemoryBackend, VolatileMemory,
};

/// The guest kernel on one VP. It speaks to the manager by MSRs and hypercalls, and to guest
/// memory by atomic access, as the VP would.
///
/// The message, event and ring methods work on the pages that the registers of its
/// [bank](Self::in_bank) name at that moment, enabled or not.
pub struct MockGuest<AS: GuestSpace> {
    pub(super) manager: Arc<SynicManager<AS>>,
    pub(super) memory: AS,
    pub(super) vp: VpIndex,
    pub(super) bank: Bank,
    /// Where the next entry of each event ring is read (Linux `hv_synic_eventring_tail`).
    pub(super) tails: PerSint<RingConsumer>,
    pub(super) heap: Heap,
    /// The input page of hypercalls (Linux `hyperv_pcpu_input_arg`).
    input: u64,
    pub(super) loaded: Vec<Loaded>,
    pub(super) refused: Option<SynicPage>,
}

impl<AS: GuestSpace> MockGuest<AS> {
    /// A kernel that allocates its pages from `heap`, whole pages of RAM that are its alone.
    ///
    /// # Panics
    /// If `heap` is empty.
    pub fn new(manager: Arc<SynicManager<AS>>, memory: AS, vp: VpIndex, heap: Range<u64>) -> Self {
        let mut heap = Heap::new(heap);
        let input = heap.allocate().expect("the heap has a page");
        Self {
            manager,
            memory,
            vp,
            bank: Bank::Plain,
            tails: PerSint::default(),
            heap,
            input,
            loaded: Vec::new(),
            refused: None,
        }
    }

    /// The same kernel, using this bank from now on.
    #[must_use]
    pub fn in_bank(self, bank: Bank) -> Self {
        Self { bank, ..self }
    }

    /// The same kernel, running on under another manager of the same memory.
    #[must_use]
    pub fn under(self, manager: Arc<SynicManager<AS>>) -> Self {
        Self { manager, ..self }
    }

    /// Its VP.
    pub fn vp(&self) -> VpIndex {
        self.vp
    }

    /// Reads an MSR.
    ///
    /// # Errors
    /// As the manager says.
    pub fn rdmsr(&self, msr: u32) -> Result<u64, MsrError> {
        self.manager.read_msr(self.vp, msr)
    }

    /// Writes an MSR.
    ///
    /// # Errors
    /// As the manager says.
    pub fn wrmsr(&self, msr: u32, value: u64) -> Result<(), MsrError> {
        self.manager.write_msr(self.vp, msr, value)
    }

    /// Reads a register of its bank.
    ///
    /// # Panics
    /// If that faults.
    pub fn get(&self, register: Register) -> u64 {
        let value = self.rdmsr(self.msr(register));
        value.expect("a SynIC register can be read")
    }

    /// Writes a register of its bank.
    ///
    /// # Errors
    /// [`MsrError::Fault`].
    pub fn set(&self, register: Register, value: u64) -> Result<(), MsrError> {
        self.wrmsr(self.msr(register), value)
    }

    /// Switches a page on, in a new page of RAM; gives its guest physical address.
    ///
    /// # Panics
    /// If there is no page, or the manager refuses it.
    pub fn enable(&mut self, page: SynicPage) -> u64 {
        let gpa = self.heap.allocate().expect("the heap has a page");
        let enabled = self.set(page.register(), PageRegister::at(gpa).into());
        enabled.expect("the heap is RAM");
        gpa
    }

    /// Switches all three pages on, each in a new page of RAM, and then SCONTROL. In the nested
    /// bank there is no MSR for the event ring page, and it stays off.
    pub fn enable_all(&mut self) {
        self.enable(SynicPage::Message);
        self.enable(SynicPage::EventFlags);
        if self.bank == Bank::Plain {
            self.enable(SynicPage::EventRing);
        }
        self.set_scontrol(true);
    }

    /// Switches a page off; its address stays.
    ///
    /// # Panics
    /// If the manager refuses that.
    pub fn disable(&self, page: SynicPage) {
        let value = PageRegister::from(self.get(page.register()));
        let disabled = self.set(page.register(), value.with_enabled(false).into());
        disabled.expect("a page can be disabled");
    }

    /// Sets or clears SCONTROL.enable.
    ///
    /// # Panics
    /// If the manager refuses that.
    pub fn set_scontrol(&self, on: bool) {
        let written = self.set(Register::Scontrol, on.into());
        written.expect("SCONTROL can be written");
    }

    /// Unmasks a SINT, with nothing but a vector.
    ///
    /// # Panics
    /// If the manager refuses that.
    pub fn unmask(&self, sint: SintIndex, vector: u8) {
        self.set_sint(sint, Sint::new().with_vector(vector));
    }

    /// Masks a SINT and leaves it otherwise as it is.
    ///
    /// # Panics
    /// If the manager refuses that.
    pub fn mask(&self, sint: SintIndex) {
        let value = Sint::from(self.get(Register::Sint(sint)));
        self.set_sint(sint, value.with_masked(true));
    }

    /// Writes a SINT.
    ///
    /// # Panics
    /// If the manager refuses the value.
    pub fn set_sint(&self, sint: SintIndex, value: Sint) {
        let written = self.set(Register::Sint(sint), value.into());
        written.expect("the SINT takes this value");
    }

    /// Writes EOM.
    ///
    /// # Panics
    /// If the manager refuses that.
    pub fn end_of_message(&self) {
        self.set(Register::Eom, 0).expect("EOM can be written");
    }

    /// Makes a hypercall: control word, input, output. `None`: the VMM would answer it.
    pub fn hypercall(&self, control: u64, input: u64, output: u64) -> Option<u64> {
        let input = HypercallInput {
            control,
            input,
            output,
        };
        self.manager.hypercall(self.vp, input)
    }

    /// `HvPostMessage`, as Linux makes it; gives the result value.
    pub fn post(&self, connection: u32, message_type: MessageType, payload: &[u8]) -> Option<u64> {
        let size = u32::try_from(payload.len()).expect("a payload is short");
        let header = [connection, 0, message_type.get(), size].map(u32::to_le_bytes);
        self.write_ram(self.input, header.as_flattened());
        self.write_ram(self.input + 16, payload);
        self.hypercall(POST_MESSAGE, self.input, 0)
    }

    /// `HvSignalEvent`, as Linux makes it; gives the result value.
    pub fn signal(&self, connection: u32, flag: u16) -> Option<u64> {
        let value = u64::from(connection) | u64::from(flag) << 32;
        self.hypercall(SIGNAL_EVENT | FAST, value, 0)
    }

    /// `HvNotifyPortRingEmpty`, as Linux makes it; gives the result value.
    pub fn notify_ring_empty(&self, sint: SintIndex) -> Option<u64> {
        self.hypercall(NOTIFY_PORT_RING_EMPTY | FAST, u32::from(sint).into(), 0)
    }

    /// Writes to its memory.
    ///
    /// # Panics
    /// Where there is no RAM.
    pub fn write_ram(&self, gpa: u64, bytes: &[u8]) {
        let written = (self.memory.memory()).write_slice(bytes, GuestAddress(gpa));
        written.expect("the guest writes to RAM");
    }

    /// Reads its memory.
    ///
    /// # Panics
    /// Where there is no RAM.
    pub fn read_ram(&self, gpa: u64, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        let read = (self.memory.memory()).read_slice(&mut bytes, GuestAddress(gpa));
        read.expect("the guest reads RAM");
        bytes
    }

    /// Where a page register points.
    pub fn page(&self, page: SynicPage) -> u64 {
        PageRegister::from(self.get(page.register())).gpa()
    }

    /// Acts on an atomic cell of guest memory.
    pub(super) fn cell<T: AtomicInteger, R>(&self, gpa: u64, act: impl FnOnce(&T) -> R) -> R {
        let memory = self.memory.memory();
        let memory = memory.physical_memory().expect("guest memory is physical");
        let slice = memory.get_slice(GuestAddress(gpa), size_of::<T>());
        let slice = slice.expect("a SynIC page is RAM");
        act(slice.get_atomic_ref(0).expect("cells are aligned"))
    }

    fn msr(&self, register: Register) -> u32 {
        let bank = self.bank;
        let id = RegisterId { bank, register };
        id.msr().expect("the register has an MSR")
    }
}

impl<AS: GuestSpace> fmt::Debug for MockGuest<AS> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MockGuest")
            .field("vp", &self.vp)
            .field("bank", &self.bank)
            .field("tails", &self.tails)
            .field("loaded", &self.loaded)
            .finish_non_exhaustive()
    }
}

/// Pages that a kernel allocates; freed ones come back last in, first out.
#[derive(Debug)]
pub(super) struct Heap {
    unused: Range<u64>,
    pub(super) freed: Vec<u64>,
}

impl Heap {
    fn new(unused: Range<u64>) -> Self {
        Self {
            unused,
            freed: Vec::new(),
        }
    }

    pub(super) fn allocate(&mut self) -> Option<u64> {
        self.freed.pop().or_else(|| {
            let gpa = self.unused.start;
            self.unused.start = gpa.checked_add(PAGE)?;
            (self.unused.start <= self.unused.end).then_some(gpa)
        })
    }
}

pub(super) const PAGE: u64 = 0x1000;
const POST_MESSAGE: u64 = 0x5C;
const SIGNAL_EVENT: u64 = 0x5D;
const NOTIFY_PORT_RING_EMPTY: u64 = 0x8B;
/// The control word's bit for input in registers.
const FAST: u64 = 1 << 16;
