// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! The console behind the serial port.

use std::io::{self, Write};
use std::sync::{Arc, Mutex, MutexGuard};

/// Where a guest's output goes: to a writer by whole lines, and to a bounded memory of the last
/// of it.
#[derive(Clone)]
pub struct Console(Arc<Mutex<State>>);

impl Console {
    /// Writes to `out`, if any, besides remembering.
    pub fn new(out: Option<Box<dyn Write + Send>>) -> Self {
        Self::with(out, true)
    }

    /// Writes to `out` byte by byte, for a user who has a conversation with the guest.
    pub fn unbuffered(out: Box<dyn Write + Send>) -> Self {
        Self::with(Some(out), false)
    }

    /// How many bytes the guest has written so far.
    pub fn written(&self) -> u64 {
        self.lock().written
    }

    fn with(out: Option<Box<dyn Write + Send>>, by_line: bool) -> Self {
        Self(Arc::new(Mutex::new(State {
            out,
            by_line,
            written: 0,
            line: Vec::new(),
            tail: Vec::new(),
        })))
    }

    /// The last of what the guest has written, at most 64 KiB.
    pub fn tail(&self) -> String {
        String::from_utf8_lossy(&self.lock().tail).into_owned()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(|e| e.into_inner())
    }
}

impl Write for Console {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        let mut state = self.lock();
        for byte in buf {
            state.push(*byte);
        }
        Ok(buf.len())
    }

    /// vm-superio flushes after each byte; a line is written when it is complete.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

struct State {
    out: Option<Box<dyn Write + Send>>,
    by_line: bool,
    written: u64,
    line: Vec<u8>,
    tail: Vec<u8>,
}

impl State {
    fn push(&mut self, byte: u8) {
        if self.tail.len() >= TAIL {
            self.tail.drain(..TAIL / 2);
        }
        self.tail.push(byte);
        self.line.push(byte);
        self.written = self.written.wrapping_add(1);
        if !self.by_line || byte == b'\n' || self.line.len() >= LINE {
            self.write_line();
        }
    }

    fn write_line(&mut self) {
        let line = std::mem::take(&mut self.line);
        let written = match &mut self.out {
            Some(out) => out.write_all(&line).and_then(|()| out.flush()),
            None => Ok(()),
        };
        if written.is_err() {
            // The reader is gone; the guest goes on and its output is still remembered.
            self.out = None;
        }
    }
}

impl Drop for State {
    fn drop(&mut self) {
        self.write_line();
    }
}

/// How much output is remembered.
const TAIL: usize = 64 << 10;
/// A line is written in parts of this size if it does not end.
const LINE: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    struct Shared(Arc<Mutex<Vec<u8>>>);

    impl Write for Shared {
        fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(buf);
            Ok(buf.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn send(console: &Console, text: &str) {
        console.clone().write_all(text.as_bytes()).unwrap();
    }

    #[test]
    fn write_when_a_line_is_incomplete_holds_it_back_until_it_ends() {
        let out = Arc::new(Mutex::new(Vec::new()));
        let console = Console::new(Some(Box::new(Shared(out.clone()))));
        send(&console, "PASS: one\nFA");
        assert_eq!(out.lock().unwrap().as_slice(), b"PASS: one\n");
        assert_eq!(console.tail(), "PASS: one\nFA");
        send(&console, "IL: two\n");
        assert_eq!(out.lock().unwrap().as_slice(), b"PASS: one\nFAIL: two\n");
    }

    #[test]
    fn write_when_the_console_is_unbuffered_comes_out_at_once() {
        let out = Arc::new(Mutex::new(Vec::new()));
        let console = Console::unbuffered(Box::new(Shared(out.clone())));
        send(&console, "# ");
        assert_eq!(out.lock().unwrap().as_slice(), b"# ");
        assert_eq!(console.written(), 2);
    }

    #[test]
    fn tail_when_a_guest_never_stops_writing_stays_bounded() {
        let console = Console::new(None);
        for _ in 0..TAIL {
            send(&console, "abc");
        }
        let tail = console.tail();
        assert!(tail.len() <= TAIL && tail.ends_with("abc"));
    }
}
