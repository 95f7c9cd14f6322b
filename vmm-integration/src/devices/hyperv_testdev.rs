// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! QEMU's hyperv-testdev: lets a guest ask for the SynIC events that it wants to test.
//!
//! A 32-bit OUT carries a command, in bits 23:16, for a SINT, in bits 7:0, of a VP, in bits 15:8, and
//! for a connection id in bits 31:24. Connections lead back into the guest: a message posted to one
//! is echoed to its SINT, an event signalled on one sets the flag whose number is the connection id.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex};

use anyhow::{Context, Result, bail};
use log::warn;
use vm_synic::abi::Sint;
use vm_synic::{
    ConnectionId, EventSink, Host, MessageSink, PortHandle, PortId, PortSpec, Registration,
    SintAddr, SintIndex, SintInterrupt, VpIndex,
};

use super::{PortDevice, PortWrite};
use crate::host::VmHost;
use crate::vm::Manager;

/// The device, on top of a VM's manager.
#[derive(Debug)]
pub struct HypervTestdev {
    manager: Arc<Manager>,
    host: Arc<VmHost>,
    /// By connection id.
    links: Mutex<HashMap<u8, Link>>,
}

impl HypervTestdev {
    /// A device without connections.
    pub fn new(manager: Arc<Manager>, host: Arc<VmHost>) -> Self {
        Self {
            manager,
            host,
            links: Mutex::default(),
        }
    }

    fn execute(&self, command: Command) -> Result<()> {
        match command {
            Command::Route => Ok(()),
            Command::SetSint(addr) => self.set_sint(addr).context("Cannot raise the SINT"),
            Command::Connect(id, spec) => self.connect(id, spec),
            Command::Disconnect(id) => {
                self.links().remove(&id);
                Ok(())
            }
        }
    }

    /// Raises a SINT that is not masked, as an interrupt source of the VMM's own would.
    fn set_sint(&self, addr: SintAddr) -> io::Result<()> {
        let msr = HV_X64_MSR_SINT0 + u32::from(addr.sint.get());
        match self.manager.read_msr(addr.vp, msr).map(Sint::from) {
            Ok(sint) if !sint.masked() => self.host.assert_sint(SintInterrupt {
                addr,
                vector: sint.vector(),
                auto_eoi: sint.auto_eoi(),
            }),
            _ => Ok(()),
        }
    }

    fn connect(&self, id: u8, spec: PortSpec) -> Result<()> {
        // Port ids start at 1, connection ids at 0.
        let port = PortId::new(u32::from(id) + 1).context("Port id out of range")?;
        let connection = ConnectionId::new(id.into()).context("Connection id out of range")?;
        let mut links = self.links();
        // The old link has to go before the new one can have its ids.
        links.remove(&id);
        let port = self.manager.create_port(port, spec)?;
        let link = Link {
            _connection: self.manager.connect(connection, &port)?,
            _port: port,
        };
        links.insert(id, link);
        Ok(())
    }

    fn links(&self) -> std::sync::MutexGuard<'_, HashMap<u8, Link>> {
        self.links.lock().unwrap_or_else(|e| e.into_inner())
    }
}

impl PortDevice for HypervTestdev {
    fn read(&self, _: u16, data: &mut [u8]) {
        data.fill(0);
    }

    fn write(&self, _: VpIndex, _: u16, data: &[u8]) -> PortWrite {
        let done = Command::parse(data).and_then(|command| self.execute(command));
        if let Err(e) = done {
            warn!("hyperv-testdev ignores {data:02x?}: {e:#}");
        }
        PortWrite::Continue
    }
}

/// A connection and the port behind it, both gone when this is dropped.
#[derive(Debug)]
struct Link {
    _connection: Registration,
    _port: PortHandle,
}

#[derive(Debug)]
enum Command {
    /// Make or drop an interrupt route, of which this VMM has none: it injects by vector.
    Route,
    SetSint(SintAddr),
    Connect(u8, PortSpec),
    Disconnect(u8),
}

impl Command {
    fn parse(data: &[u8]) -> Result<Self> {
        let Ok([sint, vp, command, id]) = <[u8; 4]>::try_from(data) else {
            bail!("not a 32-bit access");
        };
        let sint = SintIndex::new(sint).context("no such SINT")?;
        let addr = SintAddr::new(VpIndex::new(vp.into()), sint);
        Ok(match command {
            1 | 2 => Self::Route,
            3 => Self::SetSint(addr),
            4 => Self::Connect(id, PortSpec::Message(MessageSink::Sint(addr))),
            6 => Self::Connect(id, event_port(addr, id.into())),
            5 | 7 => Self::Disconnect(id),
            _ => bail!("no such command"),
        })
    }
}

fn event_port(addr: SintAddr, base: u16) -> PortSpec {
    PortSpec::Event {
        sink: EventSink::Sint { addr, base },
        flags: 1,
    }
}

const HV_X64_MSR_SINT0: u32 = 0x4000_0090;

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(command: u8) -> Command {
        // SINT 8 of VP 1, connection 0x11.
        Command::parse(&[8, 1, command, 0x11]).unwrap()
    }

    fn addr() -> SintAddr {
        SintAddr::new(VpIndex::new(1), SintIndex::new(8).unwrap())
    }

    #[test]
    fn parse_of_each_command_finds_target_and_connection() {
        assert!(matches!(parse(1), Command::Route));
        assert!(matches!(parse(2), Command::Route));
        assert!(matches!(parse(3), Command::SetSint(a) if a == addr()));
        assert!(matches!(parse(5), Command::Disconnect(0x11)));
        assert!(matches!(parse(7), Command::Disconnect(0x11)));
        let Command::Connect(0x11, PortSpec::Message(MessageSink::Sint(target))) = parse(4) else {
            panic!("not a message connection: {:?}", parse(4));
        };
        assert_eq!(target, addr());
    }

    #[test]
    fn parse_of_an_event_connection_takes_its_id_as_flag_number() {
        let Command::Connect(0x11, PortSpec::Event { sink, flags: 1 }) = parse(6) else {
            panic!("not an event connection: {:?}", parse(6));
        };
        assert!(
            matches!(sink, EventSink::Sint { addr: target, base: 0x11 } if target == addr()),
            "{sink:?}"
        );
    }

    #[test]
    fn parse_when_the_access_the_command_or_the_sint_is_unknown_fails() {
        for data in [&[8, 1, 3][..], &[8, 1, 0, 0], &[8, 1, 8, 0], &[16, 1, 3, 0]] {
            assert!(Command::parse(data).is_err(), "{data:?}");
        }
    }
}
