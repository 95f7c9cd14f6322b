// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! What a backend is played on.

use crate::abi::{SintAddr, VpIndex};
use crate::config::Config;
use crate::error::MsrError;
use crate::hypercall::HypercallInput;
use crate::manager::SynicManager;
use crate::page::GuestSpace;
use crate::test_utils::{HostCall, MockVm};
use std::sync::Arc;
use vm_memory::GuestMemoryMmap;

/// A backend with a guest in it, which has two VPs and has touched nothing yet.
pub trait Machine {
    /// Guest memory, as the manager has it.
    type Space: GuestSpace;

    /// The manager under test.
    fn manager(&self) -> &Arc<SynicManager<Self::Space>>;

    /// Guest memory.
    fn space(&self) -> &Self::Space;

    /// Guest physical address of the first of four pages of RAM that are a VP's own.
    fn pages(&self, vp: VpIndex) -> u64;

    /// The guest reads an MSR.
    ///
    /// # Errors
    /// [`MsrError::Fault`] for #GP.
    fn rdmsr(&mut self, vp: VpIndex, msr: u32) -> Result<u64, MsrError>;

    /// The guest writes an MSR.
    ///
    /// # Errors
    /// As for [`rdmsr`](Self::rdmsr).
    fn wrmsr(&mut self, vp: VpIndex, msr: u32, value: u64) -> Result<(), MsrError>;

    /// The guest makes a hypercall; gives the result value.
    fn hypercall(&mut self, vp: VpIndex, input: HypercallInput) -> u64;

    /// Lets VPs run, until there is nothing that they have to exit for.
    fn settle(&mut self);

    /// The vectors that a VP was interrupted by since this was asked last.
    fn take_interrupts(&mut self, vp: VpIndex) -> Vec<u8>;

    /// The SINTs that have told a poster of room since this was asked last.
    fn take_writable(&mut self) -> Vec<SintAddr>;
}

/// The emulated SynIC, without a hypervisor.
#[derive(Debug)]
pub struct Emulated {
    vm: MockVm,
    interrupts: Vec<(VpIndex, u8)>,
    writable: Vec<SintAddr>,
}

impl Emulated {
    /// With a manager of this configuration.
    ///
    /// # Panics
    /// If it does not allow two VPs.
    pub fn new(config: Config) -> Self {
        Self {
            vm: MockVm::new(config, 2),
            interrupts: Vec::new(),
            writable: Vec::new(),
        }
    }

    fn listen(&mut self) {
        for call in self.vm.host.take_calls() {
            match call {
                HostCall::Assert(interrupt) => {
                    self.interrupts.push((interrupt.addr.vp, interrupt.vector));
                }
                HostCall::Writable(addr) => self.writable.push(addr),
                _ => {}
            }
        }
    }
}

impl Machine for Emulated {
    type Space = Arc<GuestMemoryMmap>;

    fn manager(&self) -> &Arc<SynicManager<Self::Space>> {
        &self.vm.manager
    }

    fn space(&self) -> &Self::Space {
        &self.vm.memory
    }

    fn pages(&self, vp: VpIndex) -> u64 {
        MockVm::FREE + MockVm::HEAP * u64::from(vp.get())
    }

    fn rdmsr(&mut self, vp: VpIndex, msr: u32) -> Result<u64, MsrError> {
        self.vm.manager.read_msr(vp, msr)
    }

    fn wrmsr(&mut self, vp: VpIndex, msr: u32, value: u64) -> Result<(), MsrError> {
        self.vm.manager.write_msr(vp, msr, value)
    }

    fn hypercall(&mut self, vp: VpIndex, input: HypercallInput) -> u64 {
        self.vm.manager.hypercall(vp, input).unwrap_or(2)
    }

    fn settle(&mut self) {
        for vp in [0, 1].map(VpIndex::new) {
            self.vm.manager.pre_run(vp);
        }
    }

    fn take_interrupts(&mut self, vp: VpIndex) -> Vec<u8> {
        self.listen();
        let (own, others) = (self.interrupts.iter()).partition(|(of, _)| *of == vp);
        self.interrupts = others;
        let own: Vec<(VpIndex, u8)> = own;
        own.into_iter().map(|(_, vector)| vector).collect()
    }

    fn take_writable(&mut self) -> Vec<SintAddr> {
        self.listen();
        std::mem::take(&mut self.writable)
    }
}

#[cfg(feature = "mshv")]
pub use mshv::Mshv;

#[cfg(feature = "mshv")]
mod mshv {
    use super::*;
    use crate::backend::mshv::{HypercallAnswer, Served, handle_exit};
    use crate::test_utils::{MshvDouble, RecordingHost};
    use std::io;

    /// The backend for /dev/mshv, on a double of it.
    #[derive(Debug)]
    pub struct Mshv {
        /// The hypervisor.
        pub double: Arc<MshvDouble>,
        manager: Arc<SynicManager<Arc<GuestMemoryMmap>>>,
        host: Arc<RecordingHost>,
        interrupts: Vec<(VpIndex, u8)>,
        /// What the last hypercall that exited was answered with.
        answer: Answer,
    }

    #[derive(Debug, Default)]
    struct Answer(Option<u64>);

    impl HypercallAnswer for Answer {
        fn complete(&mut self, _rip: u64, rax: u64) -> io::Result<()> {
            self.0 = Some(rax);
            Ok(())
        }
    }

    impl Mshv {
        /// With a manager of this configuration.
        ///
        /// # Panics
        /// If it does not allow two VPs.
        pub fn new(config: Config) -> Self {
            let double = MshvDouble::new(2);
            let host = Arc::new(RecordingHost::default());
            let partition = double.partition();
            let installed = partition.install_intercepts();
            installed.expect("the double knows the intercepts");
            let memory = double.vm.memory.clone();
            let manager =
                SynicManager::of_partition(config, memory, host.clone(), Arc::new(partition));
            for vp in [0, 1].map(VpIndex::new) {
                let added = manager.add_vp(vp);
                added.expect("the configuration allows two VPs");
            }
            Self {
                double,
                manager,
                host,
                interrupts: Vec::new(),
                answer: Answer::default(),
            }
        }

        fn run(&mut self, vp: VpIndex) {
            self.manager.pre_run(vp);
            while let Some(message) = self.double.run(vp) {
                let served = handle_exit(&self.manager, vp, &message, &mut self.answer, |_| 2);
                let served = served.expect("the answer is never refused");
                assert_eq!(served, Served::Done, "all exits here are the SynIC's");
            }
        }
    }

    impl Machine for Mshv {
        type Space = Arc<GuestMemoryMmap>;

        fn manager(&self) -> &Arc<SynicManager<Self::Space>> {
            &self.manager
        }

        fn space(&self) -> &Self::Space {
            &self.double.vm.memory
        }

        fn pages(&self, vp: VpIndex) -> u64 {
            MockVm::FREE + MockVm::HEAP * u64::from(vp.get())
        }

        fn rdmsr(&mut self, vp: VpIndex, msr: u32) -> Result<u64, MsrError> {
            self.double.vm.manager.read_msr(vp, msr)
        }

        fn wrmsr(&mut self, vp: VpIndex, msr: u32, value: u64) -> Result<(), MsrError> {
            self.double.vm.manager.write_msr(vp, msr, value)
        }

        fn hypercall(&mut self, vp: VpIndex, input: HypercallInput) -> u64 {
            if let Some(result) = self.double.hypercall(vp, input) {
                return result;
            }
            self.run(vp);
            let answer = self.answer.0.take();
            answer.expect("a hypercall that exits is answered")
        }

        fn settle(&mut self) {
            for vp in [0, 1].map(VpIndex::new) {
                self.run(vp);
            }
        }

        fn take_interrupts(&mut self, vp: VpIndex) -> Vec<u8> {
            let raised = self.double.vm.host.take_interrupts().into_iter();
            let raised = raised.map(|interrupt| (interrupt.addr.vp, interrupt.vector));
            self.interrupts.extend(raised);
            let is_own = |(of, _): &(VpIndex, u8)| *of == vp;
            let own = self.interrupts.iter().copied().filter(is_own);
            let own = own.map(|(_, vector)| vector).collect();
            self.interrupts.retain(|interrupt| !is_own(interrupt));
            own
        }

        fn take_writable(&mut self) -> Vec<SintAddr> {
            self.host.take_writable()
        }
    }
}
