// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! A manager with everything around it: 64 KiB of RAM, two VPs (and a third that comes and goes),
//! ports of every kind, doorbells, and a host that counts.

use crate::action::Action;
use crate::op::{self, HEAD_SIZE};
use std::collections::{HashMap, HashSet};
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use vm_memory::{GuestAddress, GuestMemoryMmap};
use vm_synic::state::State;
use vm_synic::{
    Child, Config, ConnectionId, Criterion, DoorbellSink, DoorbellSize, DoorbellSpec,
    DoorbellTarget, EventSink, Host, MessageSink, MessageWriter, PartitionId, PortBusy, PortHandle,
    PortId, PortSpec, Provider, Registration, RingConsumer, Role, SintAddr, SintIndex,
    SintInterrupt, SynicManager, ViolationPolicy, VpIndex, WhenDisabled, WhenMasked,
};

/// How the manager sees guest memory.
pub type Space = Arc<GuestMemoryMmap<()>>;

/// Bytes of guest RAM, from address 0.
pub const RAM: u64 = 16 * PAGE;
/// Bytes of a page.
pub const PAGE: u64 = 4096;
/// VP indices in use; the last one is not there at the start.
pub const VPS: u32 = 3;
/// How many ports, and connections to them.
pub const PORTS: u32 = 6;
/// How many doorbells.
pub const DOORBELLS: u32 = 4;
/// Address of the first doorbell; the others follow 8 bytes apart.
pub const DOORBELL_GPA: u64 = 0x1_0000_0000;
/// Port ids that ever go into a ring.
pub const RING_PORTS: u32 = 128;
/// The id of the guest's child.
pub const CHILD: u64 = 0x11;
/// How many ports the guest may create.
pub const GUEST_PORTS: u32 = 4;
/// Steps of an input that are run.
const STEPS: usize = 400;

/// The manager and what it works on.
pub struct World {
    pub manager: Arc<SynicManager<Space>>,
    pub memory: Space,
    pub host: Arc<Recorder>,
    pub config: Config,
    /// Ports and the connections to them.
    pub ports: Vec<Option<(PortHandle, Registration)>>,
    pub doorbells: Vec<Option<Registration>>,
    /// A partition of the guest's own.
    pub child: Option<Child>,
    /// The guest's ring tails, by VP and SINT.
    pub tails: HashMap<(VpIndex, SintIndex), RingConsumer>,
    /// Ports that were rung on a VP's ring, and that its guest has not seen yet.
    pub rung: HashMap<(VpIndex, SintIndex), HashSet<u32>>,
    /// Messages posted so far; each carries its number.
    pub posted: u64,
    /// Number of the last message that the guest took, by SINT.
    pub taken: HashMap<SintAddr, u64>,
    /// Which register owns a page, while each page has had but one owner.
    pub claims: HashMap<u64, (u32, u32)>,
    /// No page was shared by two registers, and nobody but the manager wrote to one.
    pub is_orderly: bool,
    /// Counters came from a tampered state: they need not balance.
    pub is_forged: bool,
    /// Pages that the guest ever named or wrote.
    pub touched: u64,
    pub is_paused: bool,
    /// VPs whose kernel has left, and whose next one has not written SIRBP yet.
    pub left: HashSet<VpIndex>,
}

/// A host that counts what it is asked for.
#[derive(Default)]
pub struct Recorder {
    raised: Mutex<HashMap<SintAddr, u64>>,
    total: AtomicU64,
    /// The reference time.
    time: AtomicU64,
    /// Every nth interrupt cannot be raised; 0 for none.
    fail_every: u64,
}

impl Recorder {
    /// Interrupts that were asked for.
    pub fn raised(&self, addr: SintAddr) -> u64 {
        let raised = self.raised.lock().unwrap_or_else(PoisonError::into_inner);
        raised.get(&addr).copied().unwrap_or(0)
    }

    /// Lets time pass.
    pub fn pass(&self, time: u64) {
        self.time.fetch_add(time, Ordering::Relaxed);
    }

    /// What a VP has counted goes along with it, or is lost with one that is unplugged.
    pub fn forget_all_but(&self, state: &State) {
        let mut raised = self.raised.lock().unwrap_or_else(PoisonError::into_inner);
        raised.retain(|addr, _| state.vps.iter().any(|vp| vp.index == addr.vp));
    }
}

impl Host for Recorder {
    fn assert_sint(&self, interrupt: SintInterrupt) -> io::Result<()> {
        assert!(interrupt.vector >= 16, "{interrupt:?}");
        let mut raised = self.raised.lock().unwrap_or_else(PoisonError::into_inner);
        *raised.entry(interrupt.addr).or_default() += 1;
        let total = self.total.fetch_add(1, Ordering::Relaxed) + 1;
        if self.fail_every != 0 && total.is_multiple_of(self.fail_every) {
            return Err(io::ErrorKind::Other.into());
        }
        Ok(())
    }

    fn assert_vector(&self, _: VpIndex, vector: u8) -> io::Result<()> {
        assert!(vector >= 16);
        Ok(())
    }

    fn reference_time(&self) -> u64 {
        self.time.load(Ordering::Relaxed)
    }

    fn route(&self, _: SintAddr, vector: Option<u8>) -> io::Result<()> {
        assert!(vector.is_none_or(|vector| vector >= 16));
        Ok(())
    }
}

/// Runs the steps of an input, checking after each, and at the end that the manager still works.
pub fn run(data: &[u8], actions: &[Action]) {
    let (head, ops) = op::split(data);
    let mut world = World::new(head);
    for op in ops.take(STEPS) {
        let Some(action) = actions.get(usize::from(op.action) % actions.len()) else {
            return;
        };
        world.step(*action, &op);
        world.check();
    }
    world.check_memory();
    world.check_alive();
}

impl World {
    /// A world as the first bytes of an input configure it.
    pub fn new(head: [u8; HEAD_SIZE]) -> Self {
        let ranges = [(GuestAddress(0), RAM as usize)];
        let memory: Space = Arc::new(GuestMemoryMmap::from_ranges(&ranges).expect("64 KiB"));
        let host = Arc::new(Recorder {
            fail_every: head[6].into(),
            ..Recorder::default()
        });
        let config = config(head);
        let mut world = Self {
            manager: SynicManager::new(config.clone(), memory.clone(), host.clone()),
            memory,
            host,
            config,
            ports: Vec::new(),
            doorbells: Vec::new(),
            child: None,
            tails: HashMap::new(),
            rung: HashMap::new(),
            posted: 0,
            taken: HashMap::new(),
            claims: HashMap::new(),
            is_orderly: true,
            is_forged: false,
            touched: 0,
            is_paused: false,
            left: HashSet::new(),
        };
        world.register();
        for vp in 0..VPS - 1 {
            world.manager.add_vp(VpIndex::new(vp)).expect("a new VP");
        }
        world
    }

    /// A manager that knows nothing of the guest yet, with the same ports and doorbells.
    pub fn replace_manager(&mut self) {
        self.ports.clear();
        self.doorbells.clear();
        self.child = None;
        let host = self.host.clone();
        self.manager = SynicManager::new(self.config.clone(), self.memory.clone(), host);
        self.register();
    }

    /// Nothing is written to guest memory until [`resume`](Self::resume).
    pub fn pause(&mut self) {
        self.manager.pause();
        self.is_paused = true;
    }

    /// VPs go on at their next `pre_run`.
    pub fn resume(&mut self) {
        self.manager.resume();
        self.is_paused = false;
    }

    /// Registers a port and its connection, or takes them away.
    pub fn toggle_port(&mut self, index: u32) {
        let index = index % PORTS;
        let slot = index as usize;
        if self.ports[slot].take().is_none() {
            let id = PortId::new(index + 1).expect("a small id");
            let port = self
                .manager
                .create_port(id, port(index))
                .expect("a free id");
            let id = ConnectionId::new(index + 1).expect("a small id");
            let connection = self.manager.connect(id, &port).expect("a free id");
            self.ports[slot] = Some((port, connection));
        }
    }

    /// Adds a doorbell or takes it away.
    pub fn toggle_doorbell(&mut self, index: u32) {
        let index = index % DOORBELLS;
        let slot = index as usize;
        if self.doorbells[slot].take().is_none() {
            let (spec, sink) = doorbell(index);
            let doorbell = self.manager.add_doorbell(spec, sink);
            self.doorbells[slot] = Some(doorbell.expect("a free address"));
        }
    }

    fn register(&mut self) {
        self.ports.resize_with(PORTS as usize, || None);
        self.doorbells.resize_with(DOORBELLS as usize, || None);
        let child = self.manager.add_child(PartitionId::new(CHILD));
        self.child = Some(child.expect("a new manager"));
        (0..PORTS).for_each(|index| self.toggle_port(index));
        (0..DOORBELLS).for_each(|index| self.toggle_doorbell(index));
    }
}

fn config(head: [u8; HEAD_SIZE]) -> Config {
    let [role, policy, flags, masked, depth, timeline, _, _] = head;
    Config {
        role: [Role::Guest, Role::L1vh, Role::Root, Role::NestedRoot][usize::from(role % 4)],
        criterion: [Criterion::Linux72, Criterion::Seed][usize::from(role / 4 % 2)],
        violations: [
            ViolationPolicy::Observe,
            ViolationPolicy::Refuse,
            ViolationPolicy::Fault,
        ][usize::from(policy % 3)],
        scontrol_at_reset: flags & 1 != 0,
        nested: flags & 2 != 0,
        when_disabled: if flags & 4 != 0 {
            WhenDisabled::Hold
        } else {
            WhenDisabled::Refuse
        },
        message_writer: if flags & 32 != 0 {
            MessageWriter::VpThread
        } else {
            MessageWriter::AnyThread
        },
        timers: (flags & 64 != 0).then_some(Provider::Manager),
        may_post_messages: flags & 8 == 0,
        may_signal_events: flags & 16 == 0,
        when_masked: [WhenMasked::Refuse, WhenMasked::Hold, WhenMasked::Write]
            [usize::from(masked % 3)],
        queue_depth: depth.into(),
        ledger_depth: 4,
        guest_ports: GUEST_PORTS,
        timeline_depth: usize::from(timeline % 16),
        ..Config::new(VPS)
    }
}

/// One port of each kind.
fn port(index: u32) -> PortSpec {
    let addr = |vp| SintAddr::new(VpIndex::new(vp), SintIndex::VMBUS);
    match index {
        0 => PortSpec::Message(MessageSink::Call(Arc::new(|message| {
            assert!(message.message_type.is_guest_defined());
            assert!(message.payload.len() <= 240);
            let is_odd = message.payload.first().is_some_and(|first| first % 2 != 0);
            if is_odd { Err(PortBusy) } else { Ok(()) }
        }))),
        1 => PortSpec::Message(MessageSink::Sint(addr(0))),
        2 => PortSpec::Message(MessageSink::Sint(addr(VPS))),
        3 => PortSpec::Event {
            sink: EventSink::Call(Arc::new(|flag| assert!(flag < 7))),
            flags: 7,
        },
        4 => PortSpec::Event {
            sink: EventSink::Sint {
                addr: addr(1),
                base: 2000,
            },
            flags: u16::MAX,
        },
        _ => PortSpec::Event {
            sink: EventSink::Sint {
                addr: addr(0).nested(),
                base: u16::MAX,
            },
            flags: u16::MAX,
        },
    }
}

fn doorbell(index: u32) -> (DoorbellSpec, DoorbellSink) {
    let at = DoorbellSpec::at(DOORBELL_GPA + u64::from(index) * 8);
    let (spec, target) = match index {
        0 => (at, DoorbellTarget::Vp(VpIndex::new(0))),
        1 => (at.size(DoorbellSize::Dword), DoorbellTarget::AnyVp),
        2 => (at.value(7), DoorbellTarget::Vp(VpIndex::new(1))),
        _ => (at, DoorbellTarget::Vp(VpIndex::new(VPS))),
    };
    let sink = DoorbellSink::Ring {
        target,
        sint: SintIndex::DOORBELL,
        port: PortId::new(index + 1).expect("a small id"),
    };
    (spec, sink)
}
