// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! The first serial port, for output.

use std::io::{self, Write};
use std::sync::{Arc, Mutex, MutexGuard};

use vm_superio::Trigger;
use vm_superio::serial::{NoEvents, Serial};
use vm_synic::VpIndex;

use super::{PortDevice, PortWrite};

/// Where a guest's output goes: to a writer by whole lines, and to a bounded memory of the last
/// of it.
#[derive(Clone)]
pub struct Console(Arc<Mutex<State>>);

impl Console {
    /// Writes to `out`, if any, besides remembering.
    pub fn new(out: Option<Box<dyn Write + Send>>) -> Self {
        Self(Arc::new(Mutex::new(State {
            out,
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
        if byte == b'\n' || self.line.len() >= LINE {
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

/// A 16550 without input and without an interrupt line.
pub struct SerialPort(Mutex<Serial<NoInterrupt, NoEvents, Console>>);

impl SerialPort {
    /// A port that writes to `console`.
    pub fn new(console: Console) -> Self {
        Self(Mutex::new(Serial::new(NoInterrupt, console)))
    }
}

impl PortDevice for SerialPort {
    fn read(&self, port: u16, data: &mut [u8]) {
        let mut serial = self.0.lock().unwrap_or_else(|e| e.into_inner());
        data.fill_with(|| serial.read(register(port)));
    }

    fn write(&self, _: VpIndex, port: u16, data: &[u8]) -> PortWrite {
        let mut serial = self.0.lock().unwrap_or_else(|e| e.into_inner());
        for byte in data {
            // Neither the console nor the absent interrupt line fails.
            let _ = serial.write(register(port), *byte);
        }
        PortWrite::Continue
    }
}

fn register(port: u16) -> u8 {
    (port & 7) as u8
}

struct NoInterrupt;

impl Trigger for NoInterrupt {
    type E = io::Error;

    fn trigger(&self) -> io::Result<()> {
        Ok(())
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

    fn send(port: &SerialPort, text: &str) {
        let written = port.write(VpIndex::new(0), 0x3f8, text.as_bytes());
        assert_eq!(written, PortWrite::Continue);
    }

    #[test]
    fn write_when_a_line_is_incomplete_holds_it_back_until_it_ends() {
        let out = Arc::new(Mutex::new(Vec::new()));
        let console = Console::new(Some(Box::new(Shared(out.clone()))));
        let port = SerialPort::new(console.clone());
        send(&port, "PASS: one\nFA");
        assert_eq!(out.lock().unwrap().as_slice(), b"PASS: one\n");
        assert_eq!(console.tail(), "PASS: one\nFA");
        send(&port, "IL: two\n");
        assert_eq!(out.lock().unwrap().as_slice(), b"PASS: one\nFAIL: two\n");
    }

    #[test]
    fn read_of_line_status_says_that_the_transmitter_is_empty() {
        let mut data = [0];
        SerialPort::new(Console::new(None)).read(0x3fd, &mut data);
        assert_eq!(data[0] & 0x20, 0x20);
    }

    #[test]
    fn tail_when_a_guest_never_stops_writing_stays_bounded() {
        let console = Console::new(None);
        let port = SerialPort::new(console.clone());
        for _ in 0..TAIL {
            send(&port, "abc");
        }
        let tail = console.tail();
        assert!(tail.len() <= TAIL && tail.ends_with("abc"));
    }
}
