// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! The two initramfs images: of the virtual machine that has KVM, and of the Linux guests in it.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::cpio::{Archive, Mode};
use super::kernel::Kernel;

/// What the virtual machine needs beside its kernel.
#[derive(Clone, Debug)]
pub struct Programs {
    /// busybox, static.
    pub busybox: PathBuf,
    /// synic-vmm, static.
    pub vmm: PathBuf,
    /// synic-rig, static; it is the agent there.
    pub rig: PathBuf,
}

/// Packs the machine that has KVM. Its files are in the folder of their number, under their own
/// names; see [`packed_path`].
pub fn machine(kernel: &Kernel, programs: &Programs, files: &[PathBuf]) -> Result<Vec<u8>> {
    let mut archive = Archive::default();
    archive.file("init", Mode::Program, INIT.as_bytes())?;
    for (path, program) in [
        ("bin/busybox", &programs.busybox),
        ("bin/synic-rig", &programs.rig),
        (VMM, &programs.vmm),
    ] {
        archive.file(path, Mode::Program, &read(program)?)?;
    }
    for (index, module) in kernel
        .modules()?
        .load_order(&KVM_MODULES)?
        .iter()
        .enumerate()
    {
        let path = format!("modules/{index:02}-{}.ko", module.name);
        archive.file(&path, Mode::Data, &module.image)?;
    }
    for (index, file) in files.iter().enumerate() {
        let path = packed_path(index, file);
        archive.file(path.trim_start_matches('/'), Mode::Data, &read(file)?)?;
    }
    archive.character_device("dev/console", 5, 1)?;
    archive.finish()
}

/// Where [`machine`] has the file with this number.
pub fn packed_path(index: usize, file: &Path) -> String {
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    format!("/files/{index}/{name}")
}

/// What a Linux guest has beside the modules that VMBus needs.
#[derive(Clone, Debug)]
pub struct Guest {
    /// Its init.
    pub init: PathBuf,
    /// Of an L1VH guest: a program that uses the MSHV driver's device. The driver comes with it.
    pub program: Option<PathBuf>,
    /// It is to start its kernel again, with an initramfs like its own.
    pub for_kexec: bool,
}

/// Packs a Linux guest.
pub fn guest(kernel: &Kernel, guest: &Guest) -> Result<Vec<u8>> {
    let mut archive = Archive::default();
    archive.file("init", Mode::Program, &read(&guest.init)?)?;
    let mut wanted = GUEST_MODULES.to_vec();
    if let Some(program) = &guest.program {
        archive.file("bin/program", Mode::Program, &read(program)?)?;
        wanted.push(MSHV);
    }
    for module in kernel.modules()?.load_order(&wanted)? {
        archive.file(
            &format!("modules/{}.ko", module.name),
            Mode::Data,
            &module.image,
        )?;
    }
    for folder in ["proc", "sys", "tmp"] {
        archive.directory(folder)?;
    }
    archive.character_device("dev/console", 5, 1)?;
    let packed = archive.finish()?;
    match guest.for_kexec {
        true => with_kexec(kernel, packed),
        false => Ok(packed),
    }
}

fn with_kexec(kernel: &Kernel, mut packed: Vec<u8>) -> Result<Vec<u8>> {
    let mut archive = Archive::default();
    archive.file("kexec/vmlinuz", Mode::Data, &read(&kernel.image)?)?;
    archive.file("kexec/initrd", Mode::Data, &packed)?;
    packed.extend(archive.finish()?);
    Ok(packed)
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("Cannot read {}", path.display()))
}

/// Where [`machine`] has synic-vmm.
pub const VMM: &str = "bin/synic-vmm";
/// On the kernel's command line: a shell on the console in place of the agent.
pub const SHELL: &str = "rig.shell";

/// The console is for the kernel; orders and events go over the second serial port, raw.
const INIT: &str = r#"#!/bin/busybox sh
/bin/busybox --install -s /bin
export PATH=/bin HOME=/ RUST_BACKTRACE=1
mkdir -p /proc /sys /tmp
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
for module in /modules/*.ko; do
    [ -e "$module" ] && insmod "$module"
done
[ -c /dev/kvm ] || echo "synic-rig: there is no /dev/kvm"
if grep -q rig.shell /proc/cmdline; then
    echo "synic-vmm is in /bin, kernels and other files are in /files; leave with 'exit'"
    setsid cttyhack sh
else
    stty -F /dev/ttyS1 raw -echo
    synic-rig agent </dev/ttyS1 >/dev/ttyS1
    echo "synic-rig: the agent has ended with status $?"
fi
poweroff -f
"#;

/// The driver of a parent partition.
pub const MSHV: &str = "mshv_root";
const KVM_MODULES: [&str; 2] = ["kvm_amd", "kvm_intel"];
const GUEST_MODULES: [&str; 6] = [
    "hv_vmbus",
    "hv_utils",
    "vsock",
    "hv_sock",
    "uio",
    "uio_hv_generic",
];

#[cfg(test)]
mod tests {
    use super::*;
    use vmm_sys_util::tempdir::TempDir;

    fn contains(archive: &[u8], text: &str) -> bool {
        archive
            .windows(text.len())
            .any(|window| window == text.as_bytes())
    }

    fn kernel(folder: &TempDir) -> Kernel {
        let image = folder.as_path().join("bzImage-1");
        fs::write(&image, "the kernel").unwrap();
        Kernel::new(&image, None).unwrap()
    }

    #[test]
    fn guest_when_packed_for_kexec_begins_as_the_one_without() {
        let folder = TempDir::new().unwrap();
        let kernel = kernel(&folder);
        let plain = Guest {
            init: kernel.image.clone(),
            program: None,
            for_kexec: false,
        };
        let for_kexec = Guest {
            for_kexec: true,
            ..plain.clone()
        };
        let [plain, kexec] = [plain, for_kexec].map(|files| guest(&kernel, &files).unwrap());
        assert!(kexec.starts_with(&plain));
        assert!(contains(&kexec, "kexec/vmlinuz\0") && !contains(&plain, "kexec"));
    }

    #[test]
    fn guest_when_it_has_a_program_has_it_where_its_init_looks() {
        let folder = TempDir::new().unwrap();
        let kernel = kernel(&folder);
        let files = Guest {
            init: kernel.image.clone(),
            program: Some(kernel.image.clone()),
            for_kexec: false,
        };
        assert!(contains(&guest(&kernel, &files).unwrap(), "bin/program\0"));
    }

    #[test]
    fn machine_when_packed_has_each_file_under_its_number() {
        let folder = TempDir::new().unwrap();
        let kernel = kernel(&folder);
        let programs = Programs {
            busybox: kernel.image.clone(),
            vmm: kernel.image.clone(),
            rig: kernel.image.clone(),
        };
        let packed = machine(&kernel, &programs, std::slice::from_ref(&kernel.image)).unwrap();
        assert!(contains(&packed, "files/0/bzImage-1\0"));
        assert_eq!(packed_path(0, &kernel.image), "/files/0/bzImage-1");
    }

    #[test]
    fn init_when_it_looks_for_the_shell_looks_for_the_word_that_asks_for_it() {
        assert!(INIT.contains(&format!("grep -q {SHELL} /proc/cmdline")));
    }
}
