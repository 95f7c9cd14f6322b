// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! Writes the seed corpora below `corpus`, in the directory of this package.

use std::path::Path;
use std::{fs, io};

fn main() -> io::Result<()> {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    for (target, seeds) in vm_synic_fuzz::seeds::all() {
        let directory = corpus.join(target);
        fs::create_dir_all(&directory)?;
        for (name, input) in &seeds {
            fs::write(directory.join(name), input)?;
        }
        println!("{}: {} seeds", directory.display(), seeds.len());
    }
    Ok(())
}
