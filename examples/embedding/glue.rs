// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! The SynIC in the VMM: the manager, its host, and a worker with one epoll set.

use std::error::Error;
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::{Arc, OnceLock};
use std::thread::{self, JoinHandle};

use vm_memory::GuestMemoryMmap;
use vm_synic::{
    Changes, Config, Host, HvStatus, HypercallInput, SintInterrupt, SynicEvents, SynicManager,
    Token, VpIndex,
};
use vmm_sys_util::epoll::{ControlOperation, Epoll, EpollEvent, EventSet};
use vmm_sys_util::eventfd::EventFd;

use crate::vmm::{InterruptManager, Pausable, Snapshottable, VcpuKick, VmOps};

type Manager = SynicManager<Arc<GuestMemoryMmap<()>>>;

/// What the VM owns, and its vCPUs share.
pub struct Synic {
    manager: Arc<Manager>,
    host: Arc<SynicHost>,
    worker: Option<Worker>,
}

impl Synic {
    /// Before vCPUs and devices are there. `state`: what [`Snapshottable::snapshot`] gave; nothing of
    /// it touches guest memory before the resume.
    pub fn new(
        vcpus: u32,
        ram: Arc<GuestMemoryMmap<()>>,
        state: Option<&str>,
    ) -> Result<Self, Box<dyn Error>> {
        let host = Arc::new(SynicHost::default());
        let manager = SynicManager::new(Config::new(vcpus), ram, host.clone());
        match state {
            Some(state) => manager.restore(&serde_json::from_str(state)?)?,
            None => (0..vcpus).try_for_each(|vp| manager.add_vp(VpIndex::new(vp)))?,
        }
        Ok(Self {
            worker: Some(Worker::start(manager.events()?)?),
            manager,
            host,
        })
    }

    /// Once interrupt manager and vCPUs are there; a second call changes nothing.
    pub fn bind(&self, interrupts: Arc<dyn InterruptManager>, kick: Arc<dyn VcpuKick>) {
        let _ = self.host.interrupts.set(interrupts);
        let _ = self.host.kick.set(kick);
    }

    /// For devices: messages, events, ports, watches.
    pub fn manager(&self) -> &Arc<Manager> {
        &self.manager
    }
}

impl Drop for Synic {
    fn drop(&mut self) {
        self.worker.take().into_iter().for_each(Worker::stop);
    }
}

/// What the manager asks for. It holds no lock while it does.
#[derive(Default)]
struct SynicHost {
    interrupts: OnceLock<Arc<dyn InterruptManager>>,
    kick: OnceLock<Arc<dyn VcpuKick>>,
}

impl Host for SynicHost {
    fn assert_sint(&self, interrupt: SintInterrupt) -> io::Result<()> {
        let interrupts = self.interrupts.get().ok_or(io::ErrorKind::NotConnected)?;
        interrupts.trigger(interrupt.addr.vp.get(), interrupt.vector)
    }

    fn kick(&self, vp: VpIndex) {
        if let Some(kick) = self.kick.get() {
            kick.signal_vcpu(vp.get());
        }
    }
}

impl VmOps for Synic {
    fn vp_pre_run(&self, vp: u32) {
        self.manager.pre_run(VpIndex::new(vp));
    }

    fn rdmsr(&self, vp: u32, msr: u32) -> Option<u64> {
        self.manager.read_msr(VpIndex::new(vp), msr).ok()
    }

    fn wrmsr(&self, vp: u32, msr: u32, value: u64) -> bool {
        (self.manager.write_msr(VpIndex::new(vp), msr, value)).is_ok()
    }

    fn hypercall(&self, vp: u32, [control, input, output]: [u64; 3]) -> u64 {
        let input = HypercallInput {
            control,
            input,
            output,
        };
        let result = self.manager.hypercall(VpIndex::new(vp), input);
        result.unwrap_or(HvStatus::InvalidHypercallCode.into())
    }

    fn mmio_write(&self, gpa: u64, data: &[u8]) -> bool {
        self.manager.mmio_write(gpa, data)
    }
}

impl Pausable for Synic {
    fn pause(&mut self) -> Result<(), Box<dyn Error>> {
        self.manager.pause();
        Ok(())
    }

    fn resume(&mut self) -> Result<(), Box<dyn Error>> {
        self.manager.resume();
        Ok(())
    }
}

impl Snapshottable for Synic {
    fn snapshot(&mut self) -> Result<String, Box<dyn Error>> {
        Ok(serde_json::to_string(&self.manager.save()?)?)
    }
}

/// The thread of the manager's eventfds.
struct Worker {
    kill: EventFd,
    thread: JoinHandle<io::Result<()>>,
}

impl Worker {
    fn start(events: SynicEvents) -> io::Result<Self> {
        let kill = EventFd::new(0)?;
        let epoll = Epoll::new()?;
        add(&epoll, kill.as_raw_fd(), KILL)?;
        for (fd, token) in events.watched() {
            add(&epoll, fd, token.get().into())?;
        }
        let thread = thread::spawn(move || run(&epoll, events));
        Ok(Self { kill, thread })
    }

    fn stop(self) {
        let ended = self.kill.write(1).map(|()| self.thread.join());
        if let Ok(Ok(Err(error))) = ended {
            log::error!("The SynIC's worker has failed: {error}");
        }
    }
}

fn run(epoll: &Epoll, mut events: SynicEvents) -> io::Result<()> {
    let mut ready = [EpollEvent::default(); 16];
    loop {
        let count = match epoll.wait(-1, &mut ready) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => 0,
            count => count?,
        };
        for event in ready.iter().take(count) {
            match u32::try_from(event.data()) {
                Ok(token) => apply(epoll, events.service(Token::from_raw(token)))?,
                Err(_) => return Ok(()),
            }
        }
    }
}

fn apply(epoll: &Epoll, changes: Changes) -> io::Result<()> {
    for gone in changes.removed {
        epoll.ctl(
            ControlOperation::Delete,
            gone.as_raw_fd(),
            EpollEvent::default(),
        )?;
    }
    let mut added = changes.added.into_iter();
    added.try_for_each(|(fd, token)| add(epoll, fd, token.get().into()))
}

fn add(epoll: &Epoll, fd: RawFd, data: u64) -> io::Result<()> {
    epoll.ctl(
        ControlOperation::Add,
        fd,
        EpollEvent::new(EventSet::IN, data),
    )
}

/// No token: those have 32 bits.
const KILL: u64 = u64::MAX;
