// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! [`SynicManager`]: the VMM's one handle.
//!
//! | file | who calls |
//! |---|---|
//! | this one | the VMM, when it sets up: VPs come and go, the guest pauses, resumes, resets |
//! | `guest` | a VP's thread, with an exit of the guest: MSRs, hypercalls, doorbell writes |
//! | `parent` | likewise, where the guest has partitions of its own; and the VPs of those |
//! | `vmm` | any thread that has something for the guest: messages, events, doorbells; ports |
//! | `timers` | the thread of the VMM's timers |
//! | `state` | the VMM, while the guest is paused: save, restore; and at any time: snapshot |

mod guest;
mod parent;
mod state;
mod timers;
mod vmm;

use crate::abi::{Bank, PortId, SintAddr, SintIndex, VpIndex};
use crate::config::Config;
use crate::error::Error;
use crate::events::{SynicEvents, WatchList};
use crate::host::Host;
use crate::hypercall::HypercallPage;
use crate::observe::TimelineKind;
use crate::page::GuestSpace;
use crate::routing::{ChildSpace, Connections, DoorbellPorts, Doorbells, Port, Table};
use crate::stimer::TimerSignals;
use crate::sync::lock;
use crate::synic::{ProvidedPages, Signals, Synic};
use crate::vp::{Context, Vp};
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Instant;

pub use parent::Child;
pub use vmm::PortHandle;

/// A complete Hyper-V SynIC for every VP of a guest.
///
/// Shared by reference: every method takes `&self` and may be called from any thread, unless it
/// says otherwise. No method holds a lock while it calls the [`Host`] or a handler.
///
/// ```
/// use std::sync::Arc;
/// use vm_memory::{GuestAddress, GuestMemoryMmap};
/// use vm_synic::{Config, Host, Message, MessageType, SintAddr, SintIndex, SintInterrupt};
/// use vm_synic::{SynicManager, VpIndex};
///
/// struct Vmm;
/// impl Host for Vmm {
///     fn assert_sint(&self, interrupt: SintInterrupt) -> std::io::Result<()> {
///         println!("inject vector {:#x} into {}", interrupt.vector, interrupt.addr.vp);
///         Ok(())
///     }
/// }
///
/// let ram = GuestMemoryMmap::<()>::from_ranges(&[(GuestAddress(0), 1 << 20)])?;
/// let synic = SynicManager::new(Config::new(4), Arc::new(ram), Arc::new(Vmm));
/// let vp = VpIndex::new(0);
/// synic.add_vp(vp)?;
///
/// // On the vCPU thread: the guest enables its message page, SINT2 and SCONTROL.
/// synic.write_msr(vp, 0x4000_0083, 0x8000 | 1)?;
/// synic.write_msr(vp, 0x4000_0092, 0xF3)?;
/// synic.write_msr(vp, 0x4000_0080, 1)?;
///
/// // On any thread: a message for it.
/// let message = Message::new(MessageType::VMBUS, b"hello")?;
/// synic.post_message(SintAddr::new(vp, SintIndex::VMBUS), &message)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct SynicManager<AS: GuestSpace> {
    config: Config,
    space: AS,
    host: Arc<dyn Host>,
    /// By index; a VP that was ever there stays, so that looking one up takes no lock.
    vps: Box<[OnceLock<Vp<AS>>]>,
    hypercall_page: HypercallPage,
    ports: Arc<Table<Arc<Port>>>,
    connections: Arc<Connections>,
    doorbells: Arc<Doorbells>,
    /// The ports of the guest's own, that doorbells of its children ring.
    guest_ports: DoorbellPorts,
    children: Arc<Table<Arc<ChildSpace>>>,
    events: Arc<WatchList>,
    /// Whether nothing is written to guest memory. Changes with `lifecycle` held.
    paused: AtomicBool,
    /// Held by whoever plugs VPs, pauses, resumes, resets or restores.
    lifecycle: Mutex<()>,
    epoch: Instant,
}

impl<AS: GuestSpace> SynicManager<AS> {
    /// A manager without VPs, running.
    pub fn new(config: Config, space: AS, host: Arc<dyn Host>) -> Arc<Self> {
        let vps = (0..config.max_vps).map(|_| OnceLock::new()).collect();
        Arc::new(Self {
            hypercall_page: HypercallPage::new(config.hypercall_port),
            config,
            space,
            host,
            vps,
            ports: Arc::new(Table::new()),
            connections: Arc::new(Connections::new()),
            doorbells: Arc::new(Doorbells::new()),
            guest_ports: Table::new(),
            children: Arc::new(Table::new()),
            events: Arc::default(),
            paused: AtomicBool::new(false),
            lifecycle: Mutex::new(()),
            epoch: Instant::now(),
        })
    }

    /// What the manager was made with.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Plugs a VP in, as after power-on.
    ///
    /// # Errors
    /// [`Error::VpOutOfRange`], [`Error::VpExists`].
    pub fn add_vp(&self, index: VpIndex) -> Result<(), Error> {
        let _lifecycle = lock(&self.lifecycle);
        let slot = self.slot(index).ok_or(Error::VpOutOfRange {
            vp: index,
            max: self.config.max_vps,
        })?;
        let mut is_new = false;
        let vp = slot.get_or_init(|| {
            is_new = true;
            Vp::new(index, &self.config, self.epoch)
        });
        if !is_new && !vp.set_online(true) {
            return Err(Error::VpExists(index));
        }
        // A VP that comes back has left in another state of the manager, perhaps.
        if self.is_paused() {
            vp.pause();
        } else {
            vp.unpause(&self.config);
        }
        Ok(())
    }

    /// Unplugs a VP; what waited for it is dropped. Its thread must have left the guest.
    ///
    /// # Errors
    /// [`Error::NoVp`].
    pub fn remove_vp(&self, index: VpIndex) -> Result<(), Error> {
        let lifecycle = lock(&self.lifecycle);
        let vp = self.vp(index).ok_or(Error::NoVp(index))?;
        vp.set_online(false);
        vp.reset(&self.config);
        drop(lifecycle);
        self.tell_of_reset(vp);
        Ok(())
    }

    /// For a root partition: provides a VP's pages. To be called before the VP runs.
    ///
    /// # Errors
    /// [`Error::NoVp`].
    pub fn provide_pages(&self, index: VpIndex, pages: ProvidedPages) -> Result<(), Error> {
        let vp = self.vp(index).ok_or(Error::NoVp(index))?;
        if let Some(synic) = vp.synic(Bank::Plain) {
            synic.provide_pages(pages);
        }
        Ok(())
    }

    /// To be called on a VP's thread before each entry into the guest. When there is nothing to
    /// do, it is one atomic load.
    pub fn pre_run(&self, index: VpIndex) {
        let Some(vp) = self.vp(index).filter(|vp| vp.has_work()) else {
            return;
        };
        if vp.take_work() {
            self.bring_time(vp, true);
            for (bank, synic) in vp.banks() {
                let turn = vp.take_turn();
                // Not to undo a pause that comes between. The next resume gives this work again.
                if self.is_paused() {
                    return;
                }
                let signals = synic.resume(&self.config);
                drop(turn);
                self.apply(vp, bank, synic, signals);
            }
        }
    }

    /// Writes nothing to guest memory from now on; after this returns, nobody is doing so. What is
    /// posted waits. To be called after the VPs have left the guest. Only a register write of the VMM's
    /// own may still touch the page that it names.
    pub fn pause(&self) {
        let lifecycle = lock(&self.lifecycle);
        self.pause_vps();
        drop(lifecycle);
        self.tell_deadlines();
    }

    /// Delivers again. To be called before the VPs enter the guest; what waited is delivered by
    /// each VP's [`pre_run`](Self::pre_run), before it does.
    pub fn resume(&self) {
        let lifecycle = lock(&self.lifecycle);
        self.paused.store(false, Ordering::Release);
        self.online().for_each(Vp::give_work);
        drop(lifecycle);
        self.online().for_each(|vp| self.host.kick(vp.index));
    }

    /// As after power-on: all VPs and the hypercall page. VPs must have left the guest; ports,
    /// connections and doorbells of the VMM's stay, those of the guest's own go, and what waited is
    /// dropped and counted.
    pub fn reset(&self) {
        let lifecycle = lock(&self.lifecycle);
        self.hypercall_page.reset();
        self.forget_guest_ports();
        self.online().for_each(|vp| vp.reset(&self.config));
        drop(lifecycle);
        self.online().for_each(|vp| self.tell_of_reset(vp));
    }

    /// One VP as after power-on.
    ///
    /// # Errors
    /// [`Error::NoVp`].
    pub fn reset_vp(&self, index: VpIndex) -> Result<(), Error> {
        let lifecycle = lock(&self.lifecycle);
        let vp = self.vp(index).ok_or(Error::NoVp(index))?;
        vp.reset(&self.config);
        drop(lifecycle);
        self.tell_of_reset(vp);
        Ok(())
    }

    /// The VMM has changed the memory map: looks every page up again. To be called while paused.
    pub fn memory_changed(&self) {
        for vp in self.online() {
            vp.banks().for_each(|(_, synic)| synic.remap(&self.space));
        }
    }

    /// The half of the manager that belongs to the VMM's event loop. There is one at a time; when
    /// it is dropped, its watches go on with the next one.
    ///
    /// # Errors
    /// [`Error::EventsTaken`]; [`Error::Event`] if the host has no eventfd for it.
    pub fn events(&self) -> Result<SynicEvents, Error> {
        SynicEvents::new(&self.events)
    }

    fn pause_vps(&self) {
        self.paused.store(true, Ordering::Release);
        for vp in self.online() {
            let _turn = vp.take_turn();
            vp.take_work();
            vp.pause();
        }
    }

    fn is_paused(&self) -> bool {
        self.paused.load(Ordering::Acquire)
    }

    fn slot(&self, index: VpIndex) -> Option<&OnceLock<Vp<AS>>> {
        self.vps.get(usize::try_from(index.get()).ok()?)
    }

    /// The VP, if it is plugged in.
    fn vp(&self, index: VpIndex) -> Option<&Vp<AS>> {
        self.slot(index)?.get().filter(|vp| vp.is_online())
    }

    fn online(&self) -> impl Iterator<Item = &Vp<AS>> {
        let there = self.vps.iter().filter_map(OnceLock::get);
        there.filter(|vp| vp.is_online())
    }

    fn context(&self) -> Context<'_, AS> {
        Context {
            space: &self.space,
            config: &self.config,
        }
    }

    fn tell_of_reset(&self, vp: &Vp<AS>) {
        self.update_routes(vp);
        for (bank, synic) in vp.banks() {
            self.apply(vp, bank, synic, synic.news(&self.config));
        }
    }

    /// Tells the VMM what a SynIC wants it to know. No lock is held.
    fn apply(&self, vp: &Vp<AS>, bank: Bank, synic: &Synic<AS>, signals: Signals) {
        if signals.work {
            vp.give_work();
            self.host.kick(vp.index);
        }
        for sint in SintIndex::of_set(signals.interrupts | signals.writable) {
            let addr = SintAddr {
                vp: vp.index,
                bank,
                sint,
            };
            if signals.interrupts & sint.bit() != 0 {
                self.interrupt(vp, synic, addr);
            }
            if signals.writable & sint.bit() != 0 {
                self.host.writable(addr);
            }
        }
        if signals.timers != TimerSignals::NONE {
            self.apply_timers(vp, synic, signals.timers);
        }
    }

    fn interrupt(&self, vp: &Vp<AS>, synic: &Synic<AS>, addr: SintAddr) {
        let Some(interrupt) = synic.interrupt(addr) else {
            return;
        };
        vp.record(|| TimelineKind::Interrupt {
            sint: addr.sint,
            vector: interrupt.vector,
        });
        if let Err(error) = self.host.assert_sint(interrupt) {
            let level = synic.interrupt_failed(addr.sint);
            log::log!(level, "Cannot interrupt {addr}: {error}");
        }
    }

    /// Rings a port on one VP's ring.
    fn ring_on(&self, vp: &Vp<AS>, sint: SintIndex, port: PortId) {
        if let Some(synic) = vp.synic(Bank::Plain) {
            vp.record(|| TimelineKind::Doorbell {
                sint,
                port: port.get(),
            });
            let signals = synic.ring(sint, port, &self.config);
            self.apply(vp, Bank::Plain, synic, signals);
        }
    }
}

impl<AS: GuestSpace> fmt::Debug for SynicManager<AS> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SynicManager")
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}
