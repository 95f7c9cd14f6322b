// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! A process of `synic-vmm` that has a guest for a while.

use std::io::{self, Read, Write};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use super::relay::TIMEOUT;
use crate::devices::Console;

/// A process that has the guest.
pub struct Runner {
    child: Child,
    listening: Option<thread::JoinHandle<io::Result<()>>>,
}

impl Runner {
    /// Starts it; `console` gets what the guest writes.
    pub fn start(mut command: Command, console: &Console) -> Result<Self> {
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().context("Cannot run this program again")?;
        let output = child.stdout.take().context("It has no output")?;
        let console = console.clone();
        let listening = thread::spawn(move || listen(output, console));
        Ok(Self {
            child,
            listening: Some(listening),
        })
    }

    /// Fails if it has ended.
    pub fn check(&mut self) -> Result<()> {
        match self.child.try_wait()? {
            Some(status) => bail!("it ended before the guest was to be saved: {status}"),
            None => Ok(()),
        }
    }

    /// Types a line on the guest's console.
    pub fn say(&mut self, line: &str) -> Result<()> {
        let input = self.child.stdin.as_mut().context("It has no input")?;
        Ok(writeln!(input, "{line}")?)
    }

    /// Asks it to save the guest and end.
    pub fn ask_to_save(&self) -> Result<()> {
        let pid = libc::pid_t::try_from(self.child.id())?;
        // SAFETY: a plain system call; the child has not been waited for, so the id is its own.
        let sent = unsafe { libc::kill(pid, libc::SIGUSR1) };
        ensure!(
            sent == 0,
            "Cannot signal the process: {}",
            io::Error::last_os_error()
        );
        Ok(())
    }

    /// Waits for it to end as it should, and for all that the guest has written.
    pub fn end(&mut self, wanted: i32, deadline: Instant) -> Result<()> {
        let status = loop {
            if let Some(status) = self.child.try_wait()? {
                break status;
            }
            ensure!(
                Instant::now() < deadline,
                "{TIMEOUT} while waiting for the guest's end"
            );
            thread::sleep(STEP);
        };
        if let Some(listening) = self.listening.take() {
            let heard = listening.join();
            heard.unwrap_or_else(|_| Err(io::Error::other("the thread panicked")))?;
        }
        let is_right = status.code() == Some(wanted);
        ensure!(
            is_right,
            "The process that has the guest ended with {status}"
        );
        Ok(())
    }
}

impl Drop for Runner {
    fn drop(&mut self) {
        // It has ended already, unless something went wrong.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The console puts a line together that one process begins, and the next one ends.
fn listen(mut output: impl Read, mut console: Console) -> io::Result<()> {
    let mut buffer = [0; 4096];
    loop {
        match output.read(&mut buffer)? {
            0 => return Ok(()),
            length => console.write_all(buffer.get(..length).unwrap_or_default())?,
        }
    }
}

const STEP: Duration = Duration::from_millis(20);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::listener::Listener;

    #[test]
    fn listen_when_a_line_is_cut_in_two_puts_it_together() {
        let listener = Listener::new();
        let console = Console::new(Some(Box::new(listener.clone())));
        for half in ["synic-guest: bo", "ot n=1 cpus=2\n"] {
            listen(half.as_bytes(), console.clone()).unwrap();
        }
        assert_eq!(listener.report().boots.len(), 1);
    }
}
