// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! Snapshots of a small guest on a real KVM, good and bad.

use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};
use vm_memory::{Bytes, GuestAddress};
use vmm_sys_util::tempdir::TempDir;

use super::*;
use crate::cli::BackendArg;
use crate::vm::tests::{boot, has_kvm, image};

/// INC DWORD [0x200000]; OUT 0x80, AL; JMP back.
const COUNTING_GUEST: [u8; 10] = [0xff, 0x05, 0, 0, 0x20, 0, 0xe6, 0x80, 0xeb, 0xf6];
const COUNT: GuestAddress = GuestAddress(0x20_0000);

/// A folder with the snapshot of a guest that has counted for a while.
struct Saved {
    _folder: TempDir,
    path: PathBuf,
    count: u32,
}

fn console() -> Console {
    Console::new(None)
}

fn count(vm: &Vm) -> u32 {
    vm.memory().read_obj(COUNT).unwrap()
}

fn run_for_a_while(vm: Vm) -> Vm {
    let running = vm.start().unwrap();
    let stop = running.wait(Some(Duration::from_millis(50)));
    assert!(stop.is_none(), "{stop:?}");
    running.stop().unwrap()
}

/// `None`, and a word about it, without KVM.
fn saved() -> Option<Saved> {
    if !has_kvm() {
        return None;
    }
    let config = MachineConfig::small(BackendArg::Emulated);
    let mut machine = Machine::new(&config, console()).unwrap();
    machine.vm.load(boot(&image(&COUNTING_GUEST))).unwrap();
    let vm = run_for_a_while(machine.vm);
    let folder = TempDir::new().unwrap();
    let path = folder.as_path().join("snapshot");
    save(&machine.config, &vm, None, &path).unwrap();
    Some(Saved {
        count: count(&vm),
        _folder: folder,
        path,
    })
}

impl Saved {
    fn restore(&self) -> Result<Machine> {
        restore(&self.path, console(), |_| ())
    }

    /// The message of what is wrong.
    fn refused(&self) -> String {
        let error = self.restore().err().expect("it is not refused");
        format!("{error:#}")
    }

    fn json(&self) -> Value {
        let json = file::Reader::open(&self.path).unwrap().json().unwrap();
        serde_json::from_slice(&json).unwrap()
    }

    /// Puts another JSON in its place, with as much RAM, which is empty.
    fn set_json(&self, json: &Value) {
        let json = json.to_string();
        let mut file = fs::File::create(&self.path).unwrap();
        file.write_all(b"SYNICVMM").unwrap();
        file.write_all(&(json.len() as u64).to_le_bytes()).unwrap();
        file.write_all(json.as_bytes()).unwrap();
        let ram = (16 + json.len() as u64).next_multiple_of(4096);
        file.set_len(ram + (16 << 20)).unwrap();
    }
}

#[test]
fn restored_guest_goes_on_where_it_was_saved() {
    let Some(saved) = saved() else { return };
    let machine = saved.restore().unwrap();
    assert!(saved.count > 0);
    assert_eq!(count(&machine.vm), saved.count);
    let vm = run_for_a_while(machine.vm);
    assert!(
        count(&vm) > saved.count,
        "{} and {}",
        count(&vm),
        saved.count
    );
}

#[test]
fn restored_machine_saved_again_is_the_same() {
    let Some(saved) = saved() else { return };
    let before = saved.json();
    let machine = saved.restore().unwrap();
    // Whatever depends on the host's time would show.
    thread::sleep(Duration::from_millis(20));
    save(&machine.config, &machine.vm, None, &saved.path).unwrap();
    let mut after = saved.json();
    let [then, now] = [&before, &after].map(|json| json["vm"]["clock"].clone());
    assert!(now["tsc"].as_u64() > then["tsc"].as_u64());
    after["vm"]["clock"] = then;
    assert_eq!(before, after);
}

#[test]
fn save_where_there_is_no_folder_leaves_the_guest_to_go_on() {
    let Some(saved) = saved() else { return };
    let machine = saved.restore().unwrap();
    let nowhere = saved.path.join("below").join("a file");
    let error = save(&machine.config, &machine.vm, None, &nowhere).unwrap_err();
    assert!(
        format!("{error:#}").starts_with("Cannot write the snapshot"),
        "{error:#}"
    );
    let vm = run_for_a_while(machine.vm);
    assert!(count(&vm) > saved.count);
}

#[test]
fn file_that_ends_too_early_is_refused_with_what_is_missing() {
    let Some(saved) = saved() else { return };
    let whole = fs::read(&saved.path).unwrap();
    for (length, error) in [
        (0, "it is no snapshot of a VM"),
        (15, "it is no snapshot of a VM"),
        (16, "it ends after 0 of"),
        (1000, "it ends after 984 of"),
        (whole.len() - 4096, "memory: the file has"),
    ] {
        fs::write(&saved.path, &whole[..length]).unwrap();
        let refused = saved.refused();
        assert!(refused.contains(error), "{length}: {refused}");
    }
}

#[test]
fn file_of_something_else_is_refused() {
    let Some(saved) = saved() else { return };
    fs::write(&saved.path, "#!/bin/sh\necho This is no snapshot.\n").unwrap();
    assert!(saved.refused().ends_with("it is no snapshot of a VM"));
}

#[test]
fn file_of_a_later_version_is_refused_though_all_else_is_unknown() {
    let Some(saved) = saved() else { return };
    saved.set_json(&json!({"version": 2, "mashine": []}));
    let refused = saved.refused();
    assert!(
        refused.ends_with("version: it is 2, and this program reads 1"),
        "{refused}"
    );
}

/// Every place of a JSON that has a number, a string or a word; of long lists the first ones.
fn leaves(json: &Value, path: &str, found: &mut Vec<String>) {
    match json {
        Value::Object(fields) => fields
            .iter()
            .for_each(|(name, value)| leaves(value, &format!("{path}/{name}"), found)),
        Value::Array(values) => (values.iter().take(1).enumerate())
            .for_each(|(index, value)| leaves(value, &format!("{path}/{index}"), found)),
        Value::Null => {}
        _ => found.push(path.into()),
    }
}

#[test]
fn file_with_any_field_spoilt_is_refused_by_its_name_or_harmless() {
    let Some(saved) = saved() else { return };
    let good = saved.json();
    let mut paths = Vec::new();
    leaves(&good, "", &mut paths);
    assert!(paths.len() > 80, "{}", paths.len());
    let (mut refused, mut harmless) = (0, 0);
    for path in &paths {
        for value in [json!("zz"), json!(u64::MAX)] {
            let mut bad = good.clone();
            *bad.pointer_mut(path).unwrap() = value.clone();
            saved.set_json(&bad);
            match saved.restore() {
                Ok(_) => harmless += 1,
                Err(error) => {
                    refused += 1;
                    let (error, name) = (format!("{error:#}"), path.split('/').nth(1).unwrap());
                    let names = [name, "memory", "Guest memory", "vCPUs"];
                    assert!(
                        names.iter().any(|name| error.contains(name)),
                        "{path}: {error}"
                    );
                }
            }
        }
    }
    assert!(refused > harmless && harmless > 0, "{refused}, {harmless}");
}
