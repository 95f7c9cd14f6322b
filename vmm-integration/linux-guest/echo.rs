// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! Echo traffic: everything that is sent comes back, in order and unchanged.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use crate::failure::{Failure, OrFail, Result};
use crate::report::say;
use crate::vsock::{Connection, PACKET};
use crate::{cpu, survey, watchdog};

/// Sends `packets` over one connection for each CPU at the same time, and reports.
pub fn run(packets: u64) -> Result<()> {
    let cpus = cpu::present()?;
    let connections: Vec<_> = cpus
        .iter()
        .map(|cpu| Connection::open(*cpu))
        .collect::<Result<_>>()?;
    let count = connections.len();
    say(&format!("echo-begin connections={count} packets={packets}"));
    watchdog::doing("echoing");
    let start = Instant::now();
    let arrivals = exchange_all(&connections, packets)?;
    let seconds = start.elapsed().as_secs_f64();
    let bytes = packets * PACKET as u64;
    say(&format!(
        "echo-end connections={count} packets={packets} bytes={bytes} arrivals={arrivals} \
         seconds={seconds:.3}"
    ));
    // While the connections' channels are still there to be seen.
    survey::report()
}

fn exchange_all(connections: &[Connection], packets: u64) -> Result<u64> {
    let shares = shares(packets, connections.len() as u64);
    thread::scope(|scope| {
        let exchanges: Vec<_> = connections
            .iter()
            .zip(shares)
            .map(|(connection, share)| scope.spawn(move || exchange(connection, share)))
            .collect();
        exchanges
            .into_iter()
            .map(|exchange| join(exchange.join()))
            .sum()
    })
}

/// Sends and receives at the same time, so that both rings can be full.
fn exchange(connection: &Connection, range: Range<u64>) -> Result<u64> {
    thread::scope(|scope| {
        let to_send = range.clone();
        let sender = scope.spawn(move || connection.send(to_send));
        let received = connection.receive(range);
        if received.is_err() {
            // Nobody empties the ring any more that its sender may be waiting for.
            connection.abandon();
        }
        let sent = join(sender.join());
        received.and_then(|arrivals| sent.map(|()| arrivals))
    })
}

fn join<T>(result: thread::Result<Result<T>>) -> Result<T> {
    result.unwrap_or_else(|_| Err(Failure::new("panic", "a thread of the echo")))
}

/// As equal parts of `packets` as there can be.
fn shares(packets: u64, parts: u64) -> impl Iterator<Item = Range<u64>> {
    (0..parts).map(move |part| packets * part / parts..packets * (part + 1) / parts)
}

/// Traffic that goes on until it is told to end.
pub struct Background {
    traffic: Arc<Traffic>,
    thread: JoinHandle<Result<()>>,
}

struct Traffic {
    batch: u64,
    connection: Connection,
    stop: AtomicBool,
    echoed: AtomicU64,
}

impl Background {
    /// Starts on a connection whose channel is CPU `cpu`'s, and lets it get going. All that was sent is
    /// waited for after each `batch` of packets.
    pub fn start(cpu: usize, batch: u64) -> Result<Self> {
        let traffic = Arc::new(Traffic {
            batch,
            connection: Connection::open(cpu)?,
            stop: AtomicBool::new(false),
            echoed: AtomicU64::new(0),
        });
        let for_thread = traffic.clone();
        let thread = thread::Builder::new().name("echo".into());
        let thread = thread.spawn(move || for_thread.run());
        let thread = thread.or_fail("echo", "no thread")?;
        watchdog::wait_until("traffic", || {
            traffic.echoed.load(Ordering::SeqCst) > 0 || thread.is_finished()
        });
        Ok(Self { traffic, thread })
    }

    /// Has the host interrupt `cpu` from now on.
    pub fn move_to(&self, cpu: usize) -> Result<()> {
        self.traffic.connection.move_to(cpu)
    }

    /// How many packets came back so far.
    pub fn echoed(&self) -> u64 {
        self.traffic.echoed.load(Ordering::SeqCst)
    }

    /// Whether it has failed.
    pub fn has_ended(&self) -> bool {
        self.thread.is_finished()
    }

    /// Ends the traffic; the result is how many packets came back.
    pub fn stop(self) -> Result<u64> {
        self.traffic.stop.store(true, Ordering::SeqCst);
        join(self.thread.join())?;
        Ok(self.traffic.echoed.load(Ordering::SeqCst))
    }
}

impl Traffic {
    fn run(&self) -> Result<()> {
        let mut next = 0;
        while !self.stop.load(Ordering::SeqCst) {
            let end = next + self.batch;
            exchange(&self.connection, next..end)?;
            self.echoed.store(end, Ordering::SeqCst);
            next = end;
        }
        Ok(())
    }
}

/// Enough to fill neither ring, but to have both sides at work.
pub const BATCH: u64 = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_when_packets_do_not_divide_evenly_cover_them_all() {
        let shares: Vec<_> = shares(10, 3).collect();
        assert_eq!(shares, [0..3, 3..6, 6..10]);
    }
}
