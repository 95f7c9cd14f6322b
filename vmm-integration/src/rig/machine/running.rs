// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! QEMU while it runs, and the line to the agent in it.

use std::fs;
use std::io::{self, BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use vmm_sys_util::tempfile::TempFile;

use super::{Event, Order, Outcome};

/// It ends when this is dropped.
#[derive(Debug)]
pub struct Running {
    child: Child,
    orders: Arc<Mutex<ChildStdin>>,
    events: Receiver<Event>,
    console: TempFile,
}

impl Running {
    /// Waits until its agent is ready.
    pub fn start(mut command: Command, console: TempFile) -> Result<Self> {
        // QEMU's own messages belong with what the kernel says.
        let errors = fs::File::options().append(true).open(console.as_path());
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(errors.context("Cannot open the console's file")?)
            .spawn()
            .context("Cannot run QEMU")?;
        let orders = child.stdin.take().context("QEMU has no input")?;
        let orders = Arc::new(Mutex::new(orders));
        ring(orders.clone());
        let events = events_of(&mut child)?;
        let running = Self {
            child,
            orders,
            events,
            console,
        };
        match running.events.recv_timeout(BOOT_LIMIT) {
            Ok(Event::Ready) => Ok(running),
            _ => bail!(running.last_words("did not come up")),
        }
    }

    /// Has its agent run an order. Fails if the machine is of no more use.
    pub fn run(
        &mut self,
        order: &Order,
        outcome: &mut Outcome,
        tell: &mut dyn FnMut(&Event),
    ) -> Result<()> {
        let line = serde_json::to_string(order)? + "\n";
        let sent = write(&self.orders, &line);
        sent.with_context(|| self.last_words("has ended"))?;
        loop {
            match self.events.recv_timeout(SILENCE) {
                Ok(event) => {
                    tell(&event);
                    if outcome.add(event) {
                        return Ok(());
                    }
                }
                Err(RecvTimeoutError::Timeout) => bail!(self.last_words("hangs")),
                Err(RecvTimeoutError::Disconnected) => bail!(self.last_words("has ended")),
            }
        }
    }

    fn last_words(&self, what: &str) -> String {
        let console = fs::read(self.console.as_path()).unwrap_or_default();
        let console = String::from_utf8_lossy(&console);
        let lines: Vec<_> = console.lines().collect();
        let tail = lines.len().saturating_sub(LAST_LINES);
        let tail = lines.get(tail..).unwrap_or_default().join("\n");
        format!("The virtual machine {what}. Its console ends with:\n{tail}")
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It has nothing to lose, and may have ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Interrupts the machine again and again, by empty lines to its agent, until it is gone.
///
/// QEMU 7.2 to 10.0 lose an interrupt now and then: `helper_vmrun` and `do_vmexit` change a CPU's
/// `interrupt_request` without the lock that the thread of the timers holds. The LAPIC has the vector
/// requested then, and its CPU does not look; the next interrupt makes it. If the timer's was lost
/// and a guest loops, there would be no next one.
fn ring(orders: Arc<Mutex<ChildStdin>>) {
    thread::spawn(move || {
        while write(&orders, "\n").is_ok() {
            thread::sleep(RING);
        }
    });
}

fn write(to: &Mutex<ChildStdin>, text: &str) -> io::Result<()> {
    let mut to = to.lock().unwrap_or_else(PoisonError::into_inner);
    to.write_all(text.as_bytes())?;
    to.flush()
}

/// What the agent tells, until QEMU ends.
fn events_of(child: &mut Child) -> Result<Receiver<Event>> {
    let lines = BufReader::new(child.stdout.take().context("QEMU has no output")?);
    let (sender, receiver) = channel();
    thread::spawn(move || {
        for line in lines.split(b'\n').map_while(Result::ok) {
            // Firmware may use the port before the agent has it.
            let Ok(event) = serde_json::from_slice(&line) else {
                continue;
            };
            if sender.send(event).is_err() {
                return;
            }
        }
    });
    Ok(receiver)
}

const BOOT_LIMIT: Duration = Duration::from_secs(120);
/// Short beside the patience of whoever waits in the machine.
const RING: Duration = Duration::from_millis(200);
/// After so long without a word of its agent, a machine is taken to hang.
const SILENCE: Duration = Duration::from_secs(60);
const LAST_LINES: usize = 30;

#[cfg(test)]
pub(super) mod tests {
    use super::super::tests::order;
    use super::*;

    /// A script in place of QEMU; `take` in it waits for an order.
    pub fn start(script: &str) -> Result<Running> {
        let take = r#"take() { while read -r order; do [ "$order" ] && return; done; exit; }"#;
        let mut command = Command::new("sh");
        command.args(["-c", &format!("{take}; {script}")]);
        Running::start(command, TempFile::new().unwrap())
    }

    #[test]
    fn start_when_the_machine_ends_shows_its_console() {
        let error = start("echo no such CPU >&2").unwrap_err().to_string();
        assert!(
            error.starts_with("The virtual machine did not come up."),
            "{error}"
        );
        assert!(error.ends_with("no such CPU"), "{error}");
    }

    #[test]
    fn run_when_the_agent_answers_collects_what_it_tells() {
        let script = r#"echo '"Ready"'; take; echo noise; echo '{"Output":"a"}'
            echo '{"Ended":{"status":3,"seconds":1.5,"report":null,"trouble":null}}'; take"#;
        let mut outcome = Outcome::default();
        let mut running = start(script).unwrap();
        running.run(&order(), &mut outcome, &mut |_| ()).unwrap();
        assert_eq!(
            (outcome.output, outcome.ended.status),
            (vec!["a".into()], Some(3))
        );
    }

    #[test]
    fn run_when_the_machine_ends_keeps_what_was_told_and_shows_its_console() {
        let script = r#"echo '"Ready"'; take; echo '{"Output":"a"}'; echo panic >&2"#;
        let mut outcome = Outcome::default();
        let mut running = start(script).unwrap();
        let error = running
            .run(&order(), &mut outcome, &mut |_| ())
            .unwrap_err();
        assert_eq!(outcome.output, ["a"]);
        assert!(
            error
                .to_string()
                .ends_with("has ended. Its console ends with:\npanic"),
            "{error}"
        );
    }
}
