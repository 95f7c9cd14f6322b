// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! A virtual machine whose KVM has the in-kernel SynIC, wherever it runs: QEMU emulates an AMD
//! processor with SVM, so that Linux in it loads its own KVM.

mod running;

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail};
use vmm_sys_util::tempfile::TempFile;

use super::initramfs::{SHELL, packed_path};
use super::order::{Event, Order, Outcome, Place, Word};
use running::Running;

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
pub struct Nested {
    start: Box<dyn FnMut() -> Result<Running>>,
    files: Vec<PathBuf>,
    running: Option<Running>,
}

impl Nested {
    /// Nothing is started yet.
    pub fn new(machine: Machine) -> Self {
        Self {
            files: machine.files.clone(),
            start: Box::new(move || machine.start()),
            running: None,
        }
    }
}

impl Place for Nested {
    fn run(&mut self, order: &Order, tell: &mut dyn FnMut(&Event)) -> Result<Outcome> {
        let order = translate(order, &self.files)?;
        let mut lost = Vec::new();
        // QEMU's SVM may lose its way and take the kernel under KVM with it, or leave it hanging. No
        // process in the machine may do that, so the order is not to blame: once more.
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
            None => (self.start)()?,
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
/// How often an order is tried again.
const RETRIES: usize = 2;

#[cfg(test)]
mod tests {
    use super::running::tests::start;
    use super::*;

    pub fn order() -> Order {
        Order {
            words: vec![
                "boot".into(),
                Word::File("/images/a.flat".into()),
                Word::Report,
            ],
            limit: 60,
        }
    }

    /// Each machine is the next of these scripts.
    fn machines(scripts: &'static [&str]) -> Nested {
        let mut scripts = scripts.iter();
        Nested {
            start: Box::new(move || start(scripts.next().unwrap())),
            files: vec!["/images/a.flat".into()],
            running: None,
        }
    }

    const DIES: &str = r#"echo '"Ready"'; take"#;
    const FAILS: &str = r#"echo '"Ready"'; take
        echo '{"Ended":{"status":1,"seconds":1.5,"report":null,"trouble":null}}'; take"#;

    #[test]
    fn translate_when_a_file_was_packed_names_its_place() {
        let translated = translate(&order(), &["/b".into(), "/images/a.flat".into()]).unwrap();
        let expected = ["boot".into(), "/files/1/a.flat".into(), Word::Report];
        assert_eq!(translated.words, expected);
        let error = translate(&order(), &[]).unwrap_err();
        assert_eq!(error.to_string(), "/images/a.flat was not packed");
    }

    #[test]
    fn run_when_a_machine_is_lost_runs_the_order_in_the_next() {
        let mut place = machines(&[DIES, FAILS]);
        let outcome = place.run(&order(), &mut |_| ()).unwrap();
        assert_eq!(outcome.ended.status, Some(1));
        assert_eq!(outcome.lost.len(), 1);
    }

    #[test]
    fn run_when_the_command_fails_does_not_try_again() {
        let outcome = machines(&[FAILS]).run(&order(), &mut |_| ()).unwrap();
        assert_eq!(outcome.ended.status, Some(1));
        assert_eq!(outcome.lost, [""; 0]);
    }

    #[test]
    fn run_when_every_machine_is_lost_gives_up() {
        let mut place = machines(&[DIES; 1 + RETRIES]);
        let outcome = place.run(&order(), &mut |_| ()).unwrap();
        assert_eq!(outcome.lost.len(), RETRIES);
        assert_eq!(outcome.ended.status, None);
        assert!(outcome.ended.trouble.unwrap().contains("has ended"));
    }
}
