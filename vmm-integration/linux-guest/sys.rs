// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! System calls that std does not have.

use std::ffi::{CStr, CString};
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use crate::failure::{Failure, OrFail, Result};

/// Mounts the file systems that the kernel reports in.
pub fn mount_all() -> Result<()> {
    for (kind, target) in MOUNTS {
        fs::create_dir_all(target).or_fail("mount", target)?;
        match mount(kind, target) {
            // The kernel has mounted it.
            Err(e) if e.raw_os_error() == Some(libc::EBUSY) => {}
            mounted => mounted.or_fail("mount", target)?,
        }
    }
    Ok(())
}

fn mount(kind: &CStr, target: &str) -> io::Result<()> {
    let target = CString::new(target)?;
    // SAFETY: the strings end in NUL and outlive the call; no data is passed.
    check(unsafe {
        let data = std::ptr::null();
        libc::mount(kind.as_ptr(), target.as_ptr(), kind.as_ptr(), 0, data)
    })
}

/// The running kernel's release, as in `uname -r`.
pub fn kernel_release() -> Result<String> {
    let path = "/proc/sys/kernel/osrelease";
    let release = fs::read_to_string(path).or_fail("procfs", path)?;
    Ok(release.trim().to_owned())
}

/// Powers the guest off.
pub fn power_off() {
    report_failure(reboot(libc::RB_POWER_OFF));
}

/// Restarts the guest through the machine.
pub fn restart() -> Result<()> {
    reboot(libc::RB_AUTOBOOT).or_fail("reboot", "RB_AUTOBOOT")
}

/// Starts the kernel that [`kexec_file_load`] has loaded.
pub fn kexec() -> Result<()> {
    reboot(libc::RB_KEXEC).or_fail("kexec", "RB_KEXEC")
}

fn reboot(command: libc::c_int) -> io::Result<()> {
    // SAFETY: the call has no memory argument.
    check(unsafe { libc::reboot(command) })
}

/// Loads a kernel, to be started by [`kexec`] or, with `on_crash`, by a panic.
pub fn kexec_file_load(
    kernel: &File,
    initrd: &File,
    cmdline: &str,
    on_crash: bool,
) -> io::Result<()> {
    let cmdline = CString::new(cmdline)?;
    let flags = if on_crash { KEXEC_FILE_ON_CRASH } else { 0 };
    // SAFETY: the command line outlives the call and is as long as said, its NUL included.
    let result = unsafe {
        libc::syscall(
            libc::SYS_kexec_file_load,
            kernel.as_raw_fd(),
            initrd.as_raw_fd(),
            cmdline.as_bytes_with_nul().len(),
            cmdline.as_ptr(),
            flags,
        )
    };
    check(result)
}

/// Loads a module from its file.
pub fn finit_module(module: &File) -> io::Result<()> {
    // SAFETY: the parameter string ends in NUL and outlives the call.
    let result =
        unsafe { libc::syscall(libc::SYS_finit_module, module.as_raw_fd(), c"".as_ptr(), 0) };
    check(result)
}

/// Unloads a module, if nothing uses it.
pub fn delete_module(name: &str) -> io::Result<()> {
    let name = CString::new(name)?;
    // SAFETY: the name ends in NUL and outlives the call.
    check(unsafe { libc::syscall(libc::SYS_delete_module, name.as_ptr(), libc::O_NONBLOCK) })
}

/// Lets every thread of this process run on `cpu` alone.
pub fn pin_all_threads(cpu: usize) -> Result<()> {
    let tasks = "/proc/self/task";
    for task in fs::read_dir(tasks).or_fail("procfs", tasks)?.flatten() {
        if let Some(Ok(id)) = task.file_name().to_str().map(str::parse) {
            match pin(id, cpu) {
                // It has ended meanwhile; those that start inherit.
                Err(e) if e.raw_os_error() == Some(libc::ESRCH) => {}
                pinned => pinned.or_fail("affinity", cpu)?,
            }
        }
    }
    Ok(())
}

fn pin(task: libc::pid_t, cpu: usize) -> io::Result<()> {
    // SAFETY: all bits zero is the empty set.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: `CPU_SET` checks its index.
    unsafe { libc::CPU_SET(cpu, &mut set) };
    // SAFETY: the set is as large as said.
    check(unsafe { libc::sched_setaffinity(task, size_of_val(&set), &set) })
}

/// Connects a VMBus socket to `port` of the host.
pub fn vsock_connect(port: u32) -> io::Result<OwnedFd> {
    // SAFETY: the call has no memory argument.
    let fd = unsafe { libc::socket(libc::AF_VSOCK, libc::SOCK_STREAM | libc::SOCK_CLOEXEC, 0) };
    check(fd)?;
    // SAFETY: the descriptor is new, and nobody else's.
    let socket = unsafe { OwnedFd::from_raw_fd(fd) };
    let mut address = vsock_address();
    address.svm_cid = libc::VMADDR_CID_HOST;
    address.svm_port = port;
    // SAFETY: the address is as large as said.
    check(unsafe {
        let size = size_of_val(&address) as libc::socklen_t;
        libc::connect(fd, (&raw const address).cast(), size)
    })?;
    Ok(socket)
}

/// The local port of a VMBus socket.
pub fn vsock_port(socket: &impl AsRawFd) -> io::Result<u32> {
    let mut address = vsock_address();
    let mut size = size_of_val(&address) as libc::socklen_t;
    // SAFETY: the address is as large as said, and any bytes are a valid one.
    check(unsafe { libc::getsockname(socket.as_raw_fd(), (&raw mut address).cast(), &mut size) })?;
    Ok(address.svm_port)
}

/// Has a terminal bring whole lines without showing them.
pub fn silence(terminal: &impl AsRawFd) -> io::Result<()> {
    let fd = terminal.as_raw_fd();
    // SAFETY: the structure holds integers only.
    let mut settings: libc::termios = unsafe { std::mem::zeroed() };
    // SAFETY: the structure is as large as the call expects.
    check(unsafe { libc::tcgetattr(fd, &mut settings) })?;
    settings.c_lflag &= !libc::ECHO;
    // SAFETY: likewise.
    check(unsafe { libc::tcsetattr(fd, libc::TCSANOW, &settings) })
}

/// Wakes whoever waits for a socket, whose connection is over.
pub fn shut_down(socket: &impl AsRawFd) {
    // SAFETY: the call has no memory argument. It fails if the connection is over already.
    unsafe { libc::shutdown(socket.as_raw_fd(), libc::SHUT_RDWR) };
}

fn vsock_address() -> libc::sockaddr_vm {
    // SAFETY: the structure holds integers only.
    let mut address: libc::sockaddr_vm = unsafe { std::mem::zeroed() };
    address.svm_family = libc::AF_VSOCK as libc::sa_family_t;
    address
}

fn check(result: impl Into<i64>) -> io::Result<()> {
    match result.into() {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

fn report_failure(result: io::Result<()>) {
    if let Err(e) = result {
        let failure = Failure::new("power-off", e);
        crate::say(&format!("FAILED {failure}"));
    }
}

const KEXEC_FILE_ON_CRASH: libc::c_ulong = 2;
/// The one with the kernel's log comes first, so that the others' trouble can be reported.
const MOUNTS: [(&CStr, &str); 3] = [
    (c"devtmpfs", "/dev"),
    (c"proc", "/proc"),
    (c"sysfs", "/sys"),
];
