// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! Prints the steps of an input: `cargo run --example steps msr artifacts/msr/crash-1`.

use std::{env, fs, io};
use vm_synic_fuzz::{guest_pages, hypercall, mshv_exit, msr, op};

fn main() -> io::Result<()> {
    let arguments: Vec<_> = env::args().skip(1).collect();
    let [target, path] = arguments.as_slice() else {
        return Err(io::Error::other("usage: steps <target> <file>"));
    };
    let data = fs::read(path)?;
    if target == "mshv_exit" {
        print_exits(&data);
        return Ok(());
    }
    let actions = match target.as_str() {
        "msr" => msr::ACTIONS,
        "hypercall" => hypercall::ACTIONS,
        "guest_pages" => guest_pages::ACTIONS,
        _ => return Err(io::Error::other("a target without steps")),
    };
    let (head, ops) = op::split(&data);
    println!("configuration {head:?}");
    for op in ops {
        let action = actions[usize::from(op.action) % actions.len()];
        println!("{action:?} {op:x?}");
    }
    Ok(())
}

/// Those of a partition, with the messages that its VPs exit with.
fn print_exits(data: &[u8]) {
    let (head, steps) = mshv_exit::steps(data);
    println!("configuration {head:?}");
    for step in steps {
        println!("{:?} {:x?}", step.action, step.op);
        if let Some(message) = step.message {
            println!("    {message:02x?}");
        }
    }
}
