// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! The first serial port.

use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::Duration;

use anyhow::{Result, anyhow};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use vm_superio::Trigger;
use vm_superio::serial::{Serial, SerialEvents, SerialState};
use vm_synic::VpIndex;

use super::{Console, PortDevice, PortWrite};

/// Has a rising edge at an interrupt line.
pub type InterruptLine = Arc<dyn Fn() -> io::Result<()> + Send + Sync>;

/// A 16550.
pub struct SerialPort {
    serial: Mutex<Serial<Interrupt, Room, Console>>,
    room: Room,
}

impl SerialPort {
    /// A port that writes to `console` and, where it is wired to one, interrupts by `line`.
    pub fn new(console: Console, line: Option<InterruptLine>) -> Self {
        let room = Room::default();
        let interrupt = Interrupt(line);
        let serial = Serial::with_events(interrupt, room.clone(), console);
        let serial = Mutex::new(serial);
        Self { serial, room }
    }

    /// Receives all of `input`, as fast as the guest takes it. That waits for a guest that has not
    /// enabled the interrupt: Linux throws away what is in the FIFO when the port is opened.
    pub fn receive(&self, mut input: &[u8]) {
        let mut serial = self.lock();
        while !input.is_empty() {
            let taken = match serial.state().interrupt_enable & RECEIVED_DATA {
                0 => 0,
                // The one error is a full FIFO; looped back, the port takes nothing either.
                _ => serial.enqueue_raw_bytes(input).unwrap_or(0),
            };
            input = input.get(taken..).unwrap_or_default();
            if taken == 0 {
                let waited = self.room.0.wait_timeout(serial, RETRY);
                serial = waited.unwrap_or_else(|e| e.into_inner()).0;
            }
        }
    }

    fn set(&self, state: &SerialState) -> Result<()> {
        let mut serial = self.lock();
        let (interrupt, events) = (
            Interrupt(serial.interrupt_evt().0.clone()),
            self.room.clone(),
        );
        let console = serial.writer().clone();
        let fresh = Serial::from_state(state, interrupt, events, console);
        *serial = fresh.map_err(|e| anyhow!("{e:?}"))?;
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Serial<Interrupt, Room, Console>> {
        self.serial.lock().unwrap_or_else(|e| e.into_inner())
    }
}

impl PortDevice for SerialPort {
    fn read(&self, port: u16, data: &mut [u8]) {
        let mut serial = self.lock();
        data.fill_with(|| serial.read(register(port)));
    }

    fn write(&self, _: VpIndex, port: u16, data: &[u8]) -> PortWrite {
        let mut serial = self.lock();
        for byte in data {
            // Neither the console nor, while the VM lives, the interrupt line fails.
            let _ = serial.write(register(port), *byte);
        }
        if register(port) == INTERRUPT_ENABLE {
            self.room.0.notify_all();
        }
        PortWrite::Continue
    }

    fn reset(&self) {
        // The one state that cannot be is a FIFO that is too long.
        let _ = self.set(&SerialState::default());
    }

    fn save(&self) -> Value {
        json!(Saved(self.lock().state()))
    }

    fn restore(&self, state: &Value) -> Result<()> {
        self.set(&Saved::deserialize(state)?.0)
    }
}

/// The port's own state, with names in the file.
#[derive(Serialize, Deserialize)]
struct Saved(#[serde(with = "Registers")] SerialState);

#[derive(Serialize, Deserialize)]
#[serde(remote = "SerialState")]
struct Registers {
    baud_divisor_low: u8,
    baud_divisor_high: u8,
    interrupt_enable: u8,
    interrupt_identification: u8,
    line_control: u8,
    line_status: u8,
    modem_control: u8,
    modem_status: u8,
    scratch: u8,
    in_buffer: Vec<u8>,
}

fn register(port: u16) -> u8 {
    (port & 7) as u8
}

struct Interrupt(Option<InterruptLine>);

impl Trigger for Interrupt {
    type E = io::Error;

    fn trigger(&self) -> io::Result<()> {
        self.0.as_ref().map_or(Ok(()), |line| line())
    }
}

/// Tells the thread that brings the input that there may be room for more.
#[derive(Clone, Default)]
struct Room(Arc<Condvar>);

impl SerialEvents for Room {
    fn buffer_read(&self) {}

    fn out_byte(&self) {}

    fn tx_lost_byte(&self) {}

    fn in_buffer_empty(&self) {
        self.0.notify_all();
    }
}

const INTERRUPT_ENABLE: u8 = 1;
/// The bit of the interrupt for input.
const RECEIVED_DATA: u8 = 1 << 0;
/// A guest that leaves loopback mode, or that was reset, has room without having read anything.
const RETRY: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU32, Ordering};

    fn send(port: &SerialPort, text: &str) {
        let written = port.write(VpIndex::new(0), 0x3f8, text.as_bytes());
        assert_eq!(written, PortWrite::Continue);
    }

    #[test]
    fn read_of_line_status_says_that_the_transmitter_is_empty() {
        let mut data = [0];
        SerialPort::new(Console::new(None), None).read(0x3fd, &mut data);
        assert_eq!(data[0] & 0x20, 0x20);
    }

    /// A port whose interrupts are counted.
    fn interrupting() -> (Arc<SerialPort>, Arc<AtomicU32>) {
        let count = Arc::new(AtomicU32::new(0));
        let counter = count.clone();
        let line: InterruptLine = Arc::new(move || {
            counter.fetch_add(1, Ordering::SeqCst);
            Ok(())
        });
        let port = SerialPort::new(Console::new(None), Some(line));
        (Arc::new(port), count)
    }

    fn set(port: &SerialPort, register: u16, value: u8) {
        let written = port.write(VpIndex::new(0), 0x3f8 + register, &[value]);
        assert_eq!(written, PortWrite::Continue);
    }

    fn get(port: &SerialPort, register: u16) -> u8 {
        let mut data = [0];
        port.read(0x3f8 + register, &mut data);
        data[0]
    }

    #[test]
    fn receive_when_the_guest_is_slow_brings_every_byte_in_order() {
        let (port, interrupts) = interrupting();
        let input: Vec<u8> = (0..200).collect();
        let (sending, bytes) = (port.clone(), input.clone());
        let sender = std::thread::spawn(move || sending.receive(&bytes));
        set(&port, 1, RECEIVED_DATA);
        let mut received = Vec::new();
        while received.len() < input.len() {
            match get(&port, 5) & 1 {
                0 => std::thread::yield_now(),
                _ => received.push(get(&port, 0)),
            }
        }
        sender.join().unwrap();
        assert_eq!(received, input);
        assert!(interrupts.load(Ordering::SeqCst) > 0);
    }

    #[test]
    fn write_of_a_byte_when_the_transmit_interrupt_is_on_interrupts() {
        let (port, interrupts) = interrupting();
        send(&port, "a");
        assert_eq!(interrupts.load(Ordering::SeqCst), 0);
        set(&port, 1, 1 << 1);
        // The transmitter is empty, and says so when asked.
        assert_eq!(
            (interrupts.load(Ordering::SeqCst), get(&port, 2) & 0xf),
            (1, 2)
        );
        send(&port, "a");
        assert_eq!(interrupts.load(Ordering::SeqCst), 2);
    }

    #[test]
    fn reset_forgets_what_the_guest_has_set() {
        let (port, _) = interrupting();
        set(&port, 1, RECEIVED_DATA);
        set(&port, 7, 0x5a);
        port.reset();
        assert_eq!((get(&port, 1), get(&port, 7)), (0, 0));
    }
}
