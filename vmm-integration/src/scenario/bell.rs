// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! Rings doorbells of the guest's children when a program in the guest asks for it, as those
//! children's VPs would; the answer goes to the guest's serial port. Request and answer are
//! described in `mshv-guest/bell.rs`.

use std::fmt::Display;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use vm_synic::{Child, RingCounters, SintAddr, SintIndex, VpIndex};

use super::event::Event;
use crate::devices::SerialPort;
use crate::hypervisor::Hypervisor;
use crate::vm::Manager;

/// Who rings.
pub struct Bell {
    pub manager: Arc<Manager>,
    pub hypervisor: Arc<Hypervisor>,
    pub com1: Arc<SerialPort>,
}

/// What to ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Request {
    child: usize,
    gpa: u64,
    stride: u64,
    ports: u64,
    size: usize,
    value: u64,
    threads: u64,
    count: u64,
    paced: bool,
}

impl Bell {
    /// Answers a report of the guest's that is a request, on a thread of its own: the caller is a
    /// vCPU.
    pub fn hear(self: &Arc<Self>, event: &Event) {
        if event.name != "ring" {
            return;
        }
        let (bell, request) = (self.clone(), Request::parse(event));
        let spawned = thread::Builder::new().name("bell".into()).spawn(move || {
            let answer = match request {
                Ok(request) => bell.ring(&request),
                Err(e) => format!("rung error: {e:#}"),
            };
            bell.com1.receive(format!("{answer}\n").as_bytes());
        });
        if let Err(e) = spawned {
            // The guest's watchdog ends its wait.
            log::error!("Cannot start a thread that rings: {e}");
        }
    }

    fn ring(&self, request: &Request) -> String {
        let before = self.counters();
        let start = Instant::now();
        let accepted = match self.hypervisor.child(request.child) {
            Some(child) => self.ring_child(&child, request),
            None => 0,
        };
        let microseconds = start.elapsed().as_micros();
        let after = self.counters();
        let refused = request.count.saturating_sub(accepted);
        let [coalesced, held, notices] = [
            after.coalesced - before.coalesced,
            after.held - before.held,
            after.notices - before.notices,
        ];
        format!(
            "rung accepted={accepted} refused={refused} coalesced={coalesced} held={held} \
             notices={notices} microseconds={microseconds}"
        )
    }

    /// How many writes met a doorbell.
    fn ring_child(&self, child: &Child, request: &Request) -> u64 {
        let value = request.value.to_le_bytes();
        let data = value.get(..request.size).unwrap_or_default();
        let accepted = AtomicU64::new(0);
        thread::scope(|scope| {
            for first in 0..request.threads {
                let accepted = &accepted;
                scope.spawn(move || {
                    let addresses = request.addresses(first);
                    let rung = addresses.filter(|gpa| {
                        self.wait_for_room(request);
                        child.mmio_write(&self.manager, *gpa, data)
                    });
                    let rung = rung.count();
                    // Relaxed: read after the threads have been joined.
                    accepted.fetch_add(rung as u64, Ordering::Relaxed);
                });
            }
        });
        accepted.into_inner()
    }

    /// The guest makes room, so that a fixed pause is no guess of anything.
    fn wait_for_room(&self, request: &Request) {
        while request.paced && self.rings().any(|ring| ring.waiting > 0) {
            thread::sleep(PAUSE);
        }
    }

    /// The doorbell ring of each VP.
    fn rings(&self) -> impl Iterator<Item = RingCounters> {
        let vps = (0..self.manager.config().max_vps).map(VpIndex::new);
        let addrs = vps.map(|vp| SintAddr::new(vp, SintIndex::DOORBELL));
        addrs.filter_map(|addr| self.manager.ring_counters(addr))
    }

    /// The sum over all VPs.
    fn counters(&self) -> RingCounters {
        let none = RingCounters::default();
        self.rings().fold(none, |sum, ring| RingCounters {
            coalesced: sum.coalesced + ring.coalesced,
            held: sum.held + ring.held,
            notices: sum.notices + ring.notices,
            ..sum
        })
    }
}

impl Request {
    fn parse(event: &Event) -> Result<Self> {
        let number = |key: &str| -> Result<u64> {
            let text = event.get(key);
            let parsed = match text.strip_prefix("0x") {
                Some(digits) => u64::from_str_radix(digits, 16),
                None => text.parse(),
            };
            parsed.with_context(|| format!("{key} is {text:?}"))
        };
        let request = Self {
            child: usize::try_from(number("child")?)?,
            gpa: number("gpa")?,
            stride: number("stride")?,
            ports: number("ports")?,
            size: usize::try_from(number("size")?)?,
            value: number("value")?,
            threads: number("threads")?,
            count: number("count")?,
            paced: number("paced")? != 0,
        };
        let within = |what: &dyn Display, value, most| {
            ensure!((1..=most).contains(&value), "{what} is not 1 to {most}");
            Ok(())
        };
        within(&"ports", request.ports, MOST_PORTS)?;
        within(&"size", request.size as u64, 8)?;
        within(&"threads", request.threads, MOST_THREADS)?;
        Ok(request)
    }

    /// Where the thread writes that makes the write with this number, and every so many after it.
    fn addresses(&self, first: u64) -> impl Iterator<Item = u64> {
        let (gpa, stride, ports) = (self.gpa, self.stride, self.ports);
        let numbers = (first..self.count).step_by(self.threads as usize);
        numbers.map(move |number| gpa.wrapping_add(stride.wrapping_mul(number % ports)))
    }
}

const MOST_PORTS: u64 = 1 << 20;
const MOST_THREADS: u64 = 64;
const PAUSE: Duration = Duration::from_micros(50);

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: &str = "synic-guest: ring child=0 gpa=0xf0000000 stride=4096 ports=3 size=2 \
                        value=0x1234 threads=2 count=5 paced=0\n";

    fn parse(line: &str) -> Result<Request> {
        Request::parse(&Event::parse(line).unwrap())
    }

    #[test]
    fn addresses_when_threads_share_them_are_all_written_once_in_turn() {
        let request = parse(LINE).unwrap();
        let of_thread = |first| request.addresses(first).collect::<Vec<_>>();
        let [a, b, c] = [0xf000_0000, 0xf000_1000, 0xf000_2000];
        assert_eq!([of_thread(0), of_thread(1)], [vec![a, c, b], vec![b, a]]);
    }

    #[test]
    fn parse_when_a_number_is_missing_or_absurd_names_it() {
        for (good, bad) in [
            ("ports=3", "ports=0"),
            ("size=2", "size=9"),
            ("count=5", ""),
        ] {
            let error = parse(&LINE.replace(good, bad)).unwrap_err();
            let name = good.split('=').next().unwrap();
            assert!(error.to_string().starts_with(name), "{error}");
        }
    }
}
