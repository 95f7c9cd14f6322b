// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! What sysfs shows of VMBus: devices, their channels, and the CPUs that serve them.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::failure::{Failure, Result};
use crate::kernel_log;
use crate::watchdog::wait_until;

/// A channel of a device.
#[derive(Debug)]
pub struct Channel {
    path: PathBuf,
}

/// Fails where the kernel does not take the hypervisor for Hyper-V.
pub fn check_hypervisor() -> Result<()> {
    match kernel_log::latest_word_after("Hypervisor detected: Microsoft") {
        Some(_) => Ok(()),
        None => {
            let hint = "this kernel has not detected Hyper-V";
            Err(Failure::new("no-hyperv", hint))
        }
    }
}

/// Fails if VMBus has not come up with the modules.
pub fn wait_for_connection() -> Result<()> {
    if !Path::new(DEVICES).exists() {
        let hint = "no driver hv_vmbus: neither built in nor in /modules, or it found no device";
        return Err(Failure::new("no-vmbus", hint));
    }
    wait_until("VMBus to connect", || version().is_some());
    Ok(())
}

/// The version that the driver and the host have agreed on.
pub fn version() -> Option<String> {
    kernel_log::latest_word_after("Vmbus version:")
}

/// Waits until the host has interrupted the heartbeat's channel `beats` times more.
pub fn wait_for_heartbeat(beats: u64) -> Result<()> {
    wait_until("a heartbeat device", || !of_class(HEARTBEAT).is_empty());
    let count = || {
        of_class(HEARTBEAT)
            .iter()
            .map(Channel::interrupts)
            .sum::<u64>()
    };
    let goal = count() + beats;
    wait_until("heartbeats", || count() >= goal);
    Ok(())
}

/// The open channels of all devices.
pub fn channels() -> Vec<Channel> {
    let devices = entries(Path::new(DEVICES));
    let channels = devices
        .iter()
        .flat_map(|device| entries(&device.join("channels")));
    channels.map(|path| Channel { path }).collect()
}

/// The channel of the socket with this local port: Linux makes the instance id of its device from
/// the port (`hvs_open_connection`).
pub fn of_socket(local_port: u32) -> Option<Channel> {
    let instance = format!("{local_port:08x}-facb-11e6-bd58-64006a7986d3");
    let all = channels();
    all.into_iter()
        .find(|channel| channel.instance() == instance)
}

fn of_class(class: &str) -> Vec<Channel> {
    let mut all = channels();
    all.retain(|channel| channel.class() == class);
    all
}

impl Channel {
    pub fn relid(&self) -> &str {
        name(&self.path)
    }

    /// The instance id of its device.
    pub fn instance(&self) -> &str {
        name(self.device())
    }

    /// The class id of its device.
    pub fn class(&self) -> String {
        let class = read(&self.device().join("class_id"));
        class.trim_matches(['{', '}']).to_owned()
    }

    /// The driver of its device, or `none`.
    pub fn driver(&self) -> String {
        let link = fs::read_link(self.device().join("driver"));
        link.map_or("none".into(), |path| name(&path).to_owned())
    }

    /// The CPU that the host interrupts for it.
    pub fn cpu(&self) -> Option<usize> {
        read(&self.path.join("cpu")).parse().ok()
    }

    /// Has the host interrupt another CPU, by a MODIFYCHANNEL message.
    pub fn move_to(&self, cpu: usize) -> io::Result<()> {
        fs::write(self.path.join("cpu"), cpu.to_string())
    }

    /// How often the host has interrupted for it.
    pub fn interrupts(&self) -> u64 {
        read(&self.path.join("interrupts")).parse().unwrap_or(0)
    }

    /// How often the guest has signalled the host for it.
    pub fn signals(&self) -> u64 {
        read(&self.path.join("events")).parse().unwrap_or(0)
    }

    /// Two levels up: `<device>/channels/<relid>`.
    fn device(&self) -> &Path {
        self.path.ancestors().nth(2).unwrap_or(&self.path)
    }
}

fn entries(directory: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(directory) else {
        return Vec::new();
    };
    let mut paths: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    paths
}

fn name(path: &Path) -> &str {
    path.file_name()
        .and_then(|name| name.to_str())
        .unwrap_or_default()
}

fn read(path: &Path) -> String {
    let text = fs::read_to_string(path).unwrap_or_default();
    text.trim().to_owned()
}

const DEVICES: &str = "/sys/bus/vmbus/devices";
const HEARTBEAT: &str = "57164f39-9115-4e78-ab55-382f3bd5422d";
