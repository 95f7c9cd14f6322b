// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! [`SynicManager`]: the VMM's one handle.
//!
//! | file | who calls |
//! |---|---|
//! | this one | the VMM, when it sets up, and when VPs come and go |
//! | `lifecycle` | the VMM, when the guest pauses, resumes, resets; a VP's thread before it runs |
//! | `guest` | a VP's thread, with an exit of the guest: MSRs, hypercalls, doorbell writes |
//! | `parent` | likewise, where the guest has partitions of its own; and the VPs of those |
//! | `vmm` | any thread that has something for the guest: messages, events, doorbells; ports |
//! | `timers` | the thread of the VMM's timers |
//! | `ports_state` | `state`, for the ports of a guest that is a parent |
//! | `state` | the VMM, while the guest is paused: save, restore; and at any time: snapshot |

mod guest;
mod lifecycle;
mod parent;
mod ports_state;
mod state;
mod timers;
mod vmm;

use crate::abi::{Bank, PartitionId, PortId, SintAddr, SintIndex, VpIndex};
use crate::config::{Config, MessageWriter, Provider};
use crate::error::Error;
use crate::events::{SynicEvents, WatchList};
use crate::host::Host;
use crate::hypercall::HypercallPage;
use crate::observe::TimelineKind;
use crate::page::GuestSpace;
use crate::partition::Partition;
use crate::routing::{ChildSpace, Connections, DoorbellPorts, Doorbells, Port, Table};
use crate::stimer::TimerSignals;
use crate::sync::lock;
use crate::synic::{ProvidedPages, Signals, Synic};
use crate::vp::{Context, Vp};
use std::collections::BTreeMap;
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
    /// Has the SynICs, if not we.
    partition: Option<Arc<dyn Partition>>,
    /// By index; a VP that was ever there stays, so that looking one up takes no lock.
    vps: Box<[OnceLock<Vp<AS>>]>,
    hypercall_page: HypercallPage,
    ports: Arc<Table<Arc<Port>>>,
    connections: Arc<Connections>,
    doorbells: Arc<Doorbells>,
    /// The ports of the guest's own, that doorbells of its children ring.
    guest_ports: DoorbellPorts,
    children: Arc<Table<Arc<ChildSpace>>>,
    /// Children of a saved state that the VMM has not added again yet.
    orphans: Mutex<BTreeMap<PartitionId, Arc<ChildSpace>>>,
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
        Self::make(config, space, host, None)
    }

    /// A manager for a partition whose hypervisor has the SynICs. It has queues, ports, connections,
    /// counters and state, and delivers by the hypervisor's calls. Registers, ownership, timers,
    /// event rings and interrupts are the hypervisor's; of the configuration, what is about them
    /// has no effect. [`WhenMasked::Write`](crate::WhenMasked::Write) is as `Hold`.
    pub fn of_partition(
        config: Config,
        space: AS,
        host: Arc<dyn Host>,
        partition: Arc<dyn Partition>,
    ) -> Arc<Self> {
        let config = Config {
            message_writer: MessageWriter::AnyThread,
            timers: config.timers.map(|_| Provider::Hypervisor),
            hypercall_page: Provider::Hypervisor,
            nested: false,
            guest_ports: 0,
            ..config
        };
        Self::make(config, space, host, Some(partition))
    }

    fn make(
        config: Config,
        space: AS,
        host: Arc<dyn Host>,
        partition: Option<Arc<dyn Partition>>,
    ) -> Arc<Self> {
        let vps = (0..config.max_vps).map(|_| OnceLock::new()).collect();
        Arc::new(Self {
            hypercall_page: HypercallPage::new(&config),
            config,
            space,
            host,
            partition,
            vps,
            ports: Arc::new(Table::new()),
            connections: Arc::new(Connections::new()),
            doorbells: Arc::new(Doorbells::new()),
            guest_ports: Table::new(),
            children: Arc::new(Table::new()),
            orphans: Mutex::default(),
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
            Vp::new(index, &self.config, self.partition.as_ref(), self.epoch)
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

    /// The half of the manager that belongs to the VMM's event loop. There is one at a time; when
    /// it is dropped, its watches go on with the next one.
    ///
    /// # Errors
    /// [`Error::EventsTaken`]; [`Error::Event`] if the host has no eventfd for it.
    pub fn events(&self) -> Result<SynicEvents, Error> {
        SynicEvents::new(&self.events)
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
