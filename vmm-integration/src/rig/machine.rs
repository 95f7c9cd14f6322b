// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! A virtual machine whose KVM has the in-kernel SynIC, wherever it runs: QEMU emulates an AMD
//! processor with SVM, so that Linux in it loads its own KVM.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use vmm_sys_util::tempfile::TempFile;

use super::initramfs::{SHELL, packed_path};
use super::order::{Event, Order, Outcome, Place, Word};

/// What QEMU is started with.
#[derive(Clone, Debug)]
pub struct Machine {
    /// The program.
    pub qemu: PathBuf,
    /// Has KVM as modules, or built in.
    pub kernel: PathBuf,
    /// As [`super::initramfs::machine`] packs it.
    pub initrd: PathBuf,
    /// The files in it, in its order.
    pub files: Vec<PathBuf>,
}

impl Machine {
    /// Gives the user a shell in it.
    pub fn shell(&self) -> Result<()> {
        let status = self
            .command(SHELL)
            .args(["-serial", "mon:stdio"])
            .status()
            .context("Cannot run QEMU")?;
        match status.success() {
            true => Ok(()),
            false => bail!("QEMU ended with {status}"),
        }
    }

    fn command(&self, cmdline: &str) -> Command {
        let mut command = Command::new(&self.qemu);
        command
            .args(OPTIONS)
            .arg("-kernel")
            .arg(&self.kernel)
            .arg("-initrd")
            .arg(&self.initrd)
            .args(["-append", &format!("{CMDLINE} {cmdline}")]);
        command
    }

    fn start(&self) -> Result<Running> {
        let console = TempFile::new().context("Cannot make a file for a console")?;
        let path = console.as_path().display();
        let mut command = self.command("");
        command
            .arg("-chardev")
            .arg(format!("file,id=console,append=on,path={path}"))
            .args(["-serial", "chardev:console"])
            .args(["-chardev", "stdio,id=agent,signal=off"])
            .args(["-serial", "chardev:agent"]);
        Running::start(command, console)
    }
}

/// The machine as a place for commands: started with the first one, and again with the one after
/// one that it did not survive.
#[derive(Debug)]
pub struct Nested {
    machine: Machine,
    running: Option<Running>,
}

impl Nested {
    /// Nothing is started yet.
    pub fn new(machine: Machine) -> Self {
        Self {
            machine,
            running: None,
        }
    }
}

impl Place for Nested {
    fn run(&mut self, order: &Order, tell: &mut dyn FnMut(&Event)) -> Result<Outcome> {
        let order = translate(order, &self.machine.files)?;
        let mut lost = Vec::new();
        // QEMU's SVM loses its way about once in a hundred guests and takes the kernel under KVM
        // with it, or leaves it hanging. No process in the machine may do that, so the order is not
        // to blame: once more.
        loop {
            let mut outcome = Outcome::default();
            match self.attempt(&order, &mut outcome, tell)? {
                Some(words) if lost.len() < RETRIES => lost.push(words),
                trouble => {
                    outcome.ended.trouble = trouble.or(outcome.ended.trouble);
                    outcome.lost = lost;
                    return Ok(outcome);
                }
            }
        }
    }
}

impl Nested {
    /// The last words of a machine that did not survive it.
    fn attempt(
        &mut self,
        order: &Order,
        outcome: &mut Outcome,
        tell: &mut dyn FnMut(&Event),
    ) -> Result<Option<String>> {
        let mut running = match self.running.take() {
            Some(running) => running,
            None => self.machine.start()?,
        };
        match running.run(order, outcome, tell) {
            Ok(()) => self.running = Some(running),
            Err(e) => return Ok(Some(format!("{e:#}"))),
        }
        Ok(None)
    }
}

/// Names files by their paths in the machine.
fn translate(order: &Order, files: &[PathBuf]) -> Result<Order> {
    let word = |word: &Word| match word {
        Word::File(path) => {
            let index = files.iter().position(|file| file == path);
            let index = index.with_context(|| format!("{} was not packed", path.display()))?;
            Ok(packed_path(index, path).into())
        }
        other => Ok(other.clone()),
    };
    Ok(Order {
        words: order.words.iter().map(word).collect::<Result<_>>()?,
        limit: order.limit,
    })
}

/// QEMU, and a line to the agent in it.
#[derive(Debug)]
struct Running {
    child: Child,
    orders: ChildStdin,
    events: Receiver<Event>,
    console: TempFile,
}

impl Running {
    /// Waits until its agent is ready.
    fn start(mut command: Command, console: TempFile) -> Result<Self> {
        // QEMU's own messages belong with what the kernel says.
        let errors = fs::File::options().append(true).open(console.as_path());
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(errors.context("Cannot open the console's file")?)
            .spawn()
            .context("Cannot run QEMU")?;
        let orders = child.stdin.take().context("QEMU has no input")?;
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

    /// Fails if the machine is of no more use.
    fn run(
        &mut self,
        order: &Order,
        outcome: &mut Outcome,
        tell: &mut dyn FnMut(&Event),
    ) -> Result<()> {
        let line = serde_json::to_string(order)? + "\n";
        let sent = self.orders.write_all(line.as_bytes());
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

/// One CPU: with two threads QEMU's SVM now and then loses the state of a guest, or of the kernel
/// under KVM, within a minute of busy guests.
const OPTIONS: [&str; 12] = [
    "-nodefaults",
    "-no-reboot",
    "-display",
    "none",
    "-accel",
    "tcg,thread=single",
    "-cpu",
    "max,+svm",
    "-smp",
    "1",
    "-m",
    "2048",
];
/// Leaves out what takes time to start, and ends QEMU on a panic.
const CMDLINE: &str = "console=ttyS0 quiet panic=-1 mitigations=off nokaslr tsc=reliable \
                       no_timer_check noreplace-smp cryptomgr.notests lsm=capability \
                       random.trust_cpu=on";
const BOOT_LIMIT: Duration = Duration::from_secs(120);
/// After so long without a word of its agent, a machine is taken to hang.
const SILENCE: Duration = Duration::from_secs(60);
/// How often an order is tried again.
const RETRIES: usize = 2;
const LAST_LINES: usize = 30;

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;
    use vmm_sys_util::tempdir::TempDir;

    /// A script in place of QEMU.
    fn start(script: &str) -> Result<Running> {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        Running::start(command, TempFile::new().unwrap())
    }

    fn order() -> Order {
        Order {
            words: vec![
                "boot".into(),
                Word::File("/images/a.flat".into()),
                Word::Report,
            ],
            limit: 60,
        }
    }

    #[test]
    fn translate_when_a_file_was_packed_names_its_place() {
        let translated = translate(&order(), &["/b".into(), "/images/a.flat".into()]).unwrap();
        let expected = ["boot".into(), "/files/1/a.flat".into(), Word::Report];
        assert_eq!(translated.words, expected);
        let error = translate(&order(), &[]).unwrap_err();
        assert_eq!(error.to_string(), "/images/a.flat was not packed");
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
        let script = r#"echo '"Ready"'; read order; echo noise; echo '{"Output":"a"}'
            echo '{"Ended":{"status":3,"seconds":1.5,"report":null,"trouble":null}}'; read more"#;
        let mut outcome = Outcome::default();
        let mut running = start(script).unwrap();
        running.run(&order(), &mut outcome, &mut |_| ()).unwrap();
        assert_eq!(
            (outcome.output, outcome.ended.status),
            (vec!["a".into()], Some(3))
        );
    }

    /// A machine whose QEMU is a script.
    fn machine(folder: &TempDir, script: &str) -> Nested {
        let qemu = folder.as_path().join("qemu");
        fs::write(&qemu, format!("#!/bin/sh\n{script}")).unwrap();
        fs::set_permissions(&qemu, fs::Permissions::from_mode(0o700)).unwrap();
        Nested::new(Machine {
            qemu,
            kernel: "kernel".into(),
            initrd: "initrd".into(),
            files: vec!["/images/a.flat".into()],
        })
    }

    #[test]
    fn run_when_a_machine_is_lost_runs_the_order_in_the_next() {
        let folder = TempDir::new().unwrap();
        let script = r#"echo '"Ready"'; read order; mkdir "${0%/*}/lost" && exit
            echo '{"Ended":{"status":1,"seconds":1.5,"report":null,"trouble":null}}'; read more"#;
        let outcome = machine(&folder, script).run(&order(), &mut |_| ()).unwrap();
        assert_eq!(outcome.ended.status, Some(1));
        assert_eq!(outcome.lost.len(), 1);
    }

    #[test]
    fn run_when_every_machine_is_lost_gives_up() {
        let folder = TempDir::new().unwrap();
        let mut machine = machine(&folder, r#"echo '"Ready"'; read order"#);
        let outcome = machine.run(&order(), &mut |_| ()).unwrap();
        assert_eq!(outcome.lost.len(), RETRIES);
        assert_eq!(outcome.ended.status, None);
        assert!(outcome.ended.trouble.unwrap().contains("has ended"));
    }

    #[test]
    fn run_when_the_machine_ends_keeps_what_was_told_and_shows_its_console() {
        let script = r#"echo '"Ready"'; read order; echo '{"Output":"a"}'; echo panic >&2"#;
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
