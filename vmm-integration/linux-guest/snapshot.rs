// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! Traffic on each CPU until the host says that it is enough, by a line on the console. Meanwhile it
//! may save and restore this guest, of which nothing is to be seen here.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::echo::Background;
use crate::failure::{OrFail, Result};
use crate::report::say;
use crate::vsock::PACKET;
use crate::{cpu, survey, watchdog};

/// Reports again and again how far the traffic has come, and at the end all of it.
pub fn run() -> Result<()> {
    let (is_over, start) = (listen()?, Instant::now());
    let cpus = cpu::present()?;
    let traffic: Vec<_> = (cpus.iter())
        .map(|cpu| Background::start(*cpu, BATCH))
        .collect::<Result<_>>()?;
    watchdog::doing("echoing");
    let mut told = 0;
    while !is_over.load(Ordering::SeqCst) && !traffic.iter().any(Background::has_ended) {
        thread::sleep(LOOK);
        let packets = traffic.iter().map(Background::echoed).sum();
        if packets > told {
            say(&format!("echo-part packets={packets}"));
            told = packets;
        }
    }
    // While the connections' channels are still there to be seen.
    survey::report()?;
    let connections = traffic.len();
    let packets: u64 = traffic
        .into_iter()
        .map(Background::stop)
        .sum::<Result<_>>()?;
    let (bytes, seconds) = (packets * PACKET as u64, start.elapsed().as_secs_f64());
    say(&format!(
        "echo-end connections={connections} packets={packets} bytes={bytes} arrivals={packets} \
         seconds={seconds:.3}"
    ));
    Ok(())
}

/// Set once a line has come.
fn listen() -> Result<Arc<AtomicBool>> {
    let is_over = Arc::new(AtomicBool::new(false));
    let heard = is_over.clone();
    let listen = move || {
        // No console is as good as a line.
        let _ = io::stdin().read_line(&mut String::new());
        heard.store(true, Ordering::SeqCst);
    };
    let thread = thread::Builder::new().name("console".into());
    thread.spawn(listen).or_fail("snapshot", "no thread")?;
    Ok(is_over)
}

/// Packets, after which both rings of a connection are empty for a moment.
const BATCH: u64 = 128;
const LOOK: Duration = Duration::from_millis(50);
