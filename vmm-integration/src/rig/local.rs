// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! Runs commands on this machine: the rig itself with `--direct`, and its agent in the virtual
//! machine.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};
use std::{fs, thread};

use anyhow::{Context, Result};
use vmm_sys_util::tempfile::TempFile;

use super::order::{Ended, Event, Order, Outcome, Place, Word};

/// This machine.
#[derive(Debug, Default)]
pub struct Local;

impl Place for Local {
    fn run(&mut self, order: &Order, tell: &mut dyn FnMut(&Event)) -> Result<Outcome> {
        let mut outcome = Outcome::default();
        outcome.ended = run(order, &mut |event| {
            tell(&event);
            outcome.add(event);
        });
        Ok(outcome)
    }
}

/// Runs each order that `input` brings until its end, and tells on `output` what comes of it.
pub fn serve(input: impl BufRead + Send + 'static, mut output: impl Write) -> Result<()> {
    write_line(&mut output, &Event::Ready)?;
    for line in lines_of(input) {
        let order: Order = serde_json::from_str(&line?).context("Cannot read an order")?;
        let mut broken = Ok(());
        let ended = run(&order, &mut |event| {
            if broken.is_ok() {
                broken = write_line(&mut output, &event);
            }
        });
        broken?;
        write_line(&mut output, &Event::Ended(ended))?;
    }
    Ok(())
}

/// Those that are not empty; read at once, so that the empty ones do not fill the line.
fn lines_of(input: impl BufRead + Send + 'static) -> Receiver<io::Result<String>> {
    let (sender, lines) = channel();
    thread::spawn(move || {
        let says = |line: &io::Result<String>| !line.as_ref().is_ok_and(String::is_empty);
        let mut lines = input.lines().filter(says);
        while lines.next().is_some_and(|line| sender.send(line).is_ok()) {}
    });
    lines
}

fn write_line(output: &mut impl Write, event: &Event) -> Result<()> {
    let line = serde_json::to_string(event)? + "\n";
    output
        .write_all(line.as_bytes())
        .and_then(|()| output.flush())
        .context("Cannot tell what a command does")
}

fn run(order: &Order, tell: &mut dyn FnMut(Event)) -> Ended {
    let start = Instant::now();
    let mut ended = match run_with_report(order, tell) {
        Ok(ended) => ended,
        Err(e) => Ended {
            trouble: Some(format!("{e:#}")),
            ..Ended::default()
        },
    };
    ended.seconds = start.elapsed().as_secs_f64();
    ended
}

fn run_with_report(order: &Order, tell: &mut dyn FnMut(Event)) -> Result<Ended> {
    let report = TempFile::new().context("Cannot make a file for a report")?;
    let child = spawn(order, report.as_path())?;
    let (status, trouble) = watch(child, order.limit, tell)?;
    Ok(Ended {
        status,
        trouble,
        report: read_report(report.as_path()),
        seconds: 0.0,
    })
}

fn spawn(order: &Order, report: &Path) -> Result<Child> {
    let mut words = order.words.iter().map(|word| match word {
        Word::Text(text) => PathBuf::from(text),
        Word::File(path) => path.clone(),
        Word::Report => report.to_owned(),
    });
    let program = words.next().context("An order without a program")?;
    Command::new(&program)
        .args(words)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("Cannot run {}", program.display()))
}

/// The command's status, and what had to be done to end it.
fn watch(
    mut child: Child,
    limit: u64,
    tell: &mut dyn FnMut(Event),
) -> Result<(Option<i32>, Option<String>)> {
    let events = events_of(&mut child);
    let deadline = Instant::now() + Duration::from_secs(limit);
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        match events.recv_timeout(left.min(ALIVE)) {
            Ok(event) => tell(event),
            Err(RecvTimeoutError::Disconnected) => break,
            Err(RecvTimeoutError::Timeout) if left > ALIVE => tell(Event::Alive),
            Err(RecvTimeoutError::Timeout) => {
                child.kill().context("Cannot kill a command")?;
                child.wait().context("Cannot wait for a command")?;
                return Ok((None, Some(format!("Killed after {limit} s"))));
            }
        }
    }
    let status = child.wait().context("Cannot wait for a command")?;
    Ok((status.code(), None))
}

/// Its lines, until both of its streams are closed.
fn events_of(child: &mut Child) -> Receiver<Event> {
    let (sender, receiver) = channel();
    if let Some(stream) = child.stdout.take() {
        forward(stream, sender.clone(), Event::Output);
    }
    if let Some(stream) = child.stderr.take() {
        forward(stream, sender, Event::Errors);
    }
    receiver
}

fn forward(
    stream: impl Read + Send + 'static,
    to: Sender<Event>,
    event: impl Fn(String) -> Event + Send + 'static,
) {
    thread::spawn(move || {
        for line in BufReader::new(stream).split(b'\n').map_while(Result::ok) {
            // The console of a guest ends its lines with "\r\n", and need not write UTF-8.
            let line = String::from_utf8_lossy(&line);
            if to
                .send(event(line.trim_end_matches('\r').to_owned()))
                .is_err()
            {
                return;
            }
        }
    });
}

/// None if nothing was written.
fn read_report(path: &Path) -> Option<serde_json::Value> {
    serde_json::from_slice(&fs::read(path).ok()?).ok()
}

/// So often an agent tells that it is there.
const ALIVE: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    fn shell(script: &str, limit: u64) -> Order {
        let words = ["sh".into(), "-c".into(), script.into(), Word::Report];
        Order {
            words: words.into(),
            limit,
        }
    }

    fn run_here(order: &Order) -> Outcome {
        Local.run(order, &mut |_| ()).unwrap()
    }

    #[test]
    fn run_when_a_command_ends_gives_its_lines_report_and_status() {
        let script = r#"printf 'one\r\ntwo'; echo oops >&2; echo '{"n":1}' >"$0"; exit 3"#;
        let outcome = run_here(&shell(script, 60));
        assert_eq!(outcome.output, ["one", "two"]);
        assert_eq!(outcome.errors, ["oops"]);
        assert_eq!(outcome.ended.status, Some(3));
        assert_eq!(outcome.ended.report, Some(serde_json::json!({"n": 1})));
        assert_eq!(outcome.ended.trouble, None);
    }

    #[test]
    fn run_when_a_command_does_not_end_kills_it() {
        let outcome = run_here(&shell("exec cat /dev/zero >/dev/null", 0));
        assert_eq!(outcome.ended.status, None);
        assert_eq!(outcome.ended.trouble.as_deref(), Some("Killed after 0 s"));
    }

    #[test]
    fn run_when_there_is_no_such_program_says_which() {
        let order = Order {
            words: vec!["/nowhere/program".into()],
            limit: 60,
        };
        let trouble = run_here(&order).ended.trouble.unwrap();
        assert!(trouble.contains("Cannot run /nowhere/program"), "{trouble}");
    }

    #[test]
    fn serve_when_given_two_orders_tells_of_both() {
        let orders = ["echo one", "exit 7"].map(|script| shell(script, 60));
        let input = orders
            .map(|order| serde_json::to_string(&order).unwrap() + "\n\n")
            .concat();
        let mut output = Vec::new();
        serve(Cursor::new(input), &mut output).unwrap();
        let events: Vec<Event> = String::from_utf8(output)
            .unwrap()
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        assert_eq!(events[..2], [Event::Ready, Event::Output("one".into())]);
        let statuses = events.iter().filter_map(|event| match event {
            Event::Ended(ended) => Some(ended.status),
            _ => None,
        });
        assert_eq!(statuses.collect::<Vec<_>>(), [Some(0), Some(7)]);
    }
}
