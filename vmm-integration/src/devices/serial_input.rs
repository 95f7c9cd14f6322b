// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! Standard input as the input of the guest's serial port.

use std::io::{self, IsTerminal, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result};
use vmm_sys_util::terminal::Terminal;

use super::SerialPort;

/// Brings standard input to a port until the process ends. A terminal is in raw mode while this
/// value exists, and its Ctrl-A x asks to quit.
#[derive(Debug)]
pub struct SerialInput {
    terminal: bool,
    quit: Arc<AtomicBool>,
}

impl SerialInput {
    /// Starts the thread that reads.
    pub fn start(port: Arc<SerialPort>) -> Result<Self> {
        let terminal = io::stdin().is_terminal();
        if terminal {
            let raw = io::stdin().lock().set_raw_mode();
            raw.context("Cannot set the terminal to raw mode")?;
        }
        let quit = Arc::new(AtomicBool::new(false));
        let input = Self {
            terminal,
            quit: quit.clone(),
        };
        std::thread::Builder::new()
            .name("serial-input".into())
            .spawn(move || forward(&port, terminal, &quit))
            .context("Cannot start the thread that reads standard input")?;
        Ok(input)
    }

    /// Whether a user types.
    pub fn is_terminal(&self) -> bool {
        self.terminal
    }

    /// Whether Ctrl-A x was typed.
    pub fn wants_to_quit(&self) -> bool {
        self.quit.load(Ordering::SeqCst)
    }
}

impl Drop for SerialInput {
    fn drop(&mut self) {
        if self.terminal {
            // The terminal is gone if this fails.
            let _ = io::stdin().lock().set_canon_mode();
        }
    }
}

fn forward(port: &SerialPort, terminal: bool, quit: &AtomicBool) {
    let mut escape = Escape::default();
    let mut buffer = [0; 256];
    loop {
        let input = match io::stdin().lock().read(&mut buffer) {
            Ok(0) => return,
            Ok(length) => buffer.get(..length).unwrap_or_default(),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            Err(_) => return,
        };
        if !terminal {
            port.receive(input);
            continue;
        }
        let typed: Vec<u8> = input.iter().filter_map(|byte| escape.next(*byte)).collect();
        if escape.quit {
            quit.store(true, Ordering::SeqCst);
            return;
        }
        port.receive(&typed);
    }
}

/// Finds Ctrl-A x in what is typed.
#[derive(Default)]
struct Escape {
    escaped: bool,
    quit: bool,
}

impl Escape {
    /// What the guest gets of a byte. Ctrl-A Ctrl-A is one for the guest.
    fn next(&mut self, byte: u8) -> Option<u8> {
        if byte == CTRL_A && !self.escaped {
            self.escaped = true;
            return None;
        }
        self.quit |= self.escaped && byte == b'x';
        self.escaped = false;
        Some(byte)
    }
}

const CTRL_A: u8 = 1;

#[cfg(test)]
mod tests {
    use super::*;

    fn typed(bytes: &[u8]) -> (Vec<u8>, bool) {
        let mut escape = Escape::default();
        let passed = bytes.iter().filter_map(|byte| escape.next(*byte)).collect();
        (passed, escape.quit)
    }

    #[test]
    fn next_when_nothing_is_escaped_passes_everything() {
        assert_eq!(typed(b"ax\n"), (b"ax\n".to_vec(), false));
    }

    #[test]
    fn next_when_ctrl_a_comes_before_x_quits() {
        assert!(typed(b"ls\x01x").1);
        assert!(!typed(b"\x01ax").1);
    }

    #[test]
    fn next_when_ctrl_a_is_doubled_passes_one() {
        assert_eq!(typed(b"\x01\x01x"), (b"\x01x".to_vec(), false));
    }
}
