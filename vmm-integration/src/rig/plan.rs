// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! From the command line to jobs.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::cli::{Backend, Irqchip, L1vhArgs, LinuxArgs, MatrixArgs, Vcpus, Ways, or_env};
use super::job::{Job, Setting, What, images, matrix};
use super::kernel::Kernel;
use super::site::Site;
use crate::cli::PolicyArg;
use crate::scenario::{Scenario, Scenarios};
use vm_synic::Role;

/// The demo's, which needs two VPs.
pub fn demo(count: u32, ways: &Ways) -> Vec<Job> {
    let timeout = timeout(ways, DEMO_TIMEOUT);
    matrix(
        &[What::Demo { count }],
        &ways.settings(),
        &ways.vcpus(2),
        timeout,
    )
}

/// The attack's, whose guest has a witness beside those that fuzz.
pub fn hostile(seconds: u64, ways: &Ways) -> Vec<Job> {
    let timeout = timeout(ways, Duration::from_secs(seconds) + DEMO_TIMEOUT);
    let what = What::Hostile { seconds };
    matrix(&[what], &ways.settings(), &ways.vcpus(2), timeout)
}

/// The suite of all backends, in each setting; it has a number of VPs of its own.
pub fn conformance(timeout: Option<u64>) -> Vec<Job> {
    let timeout = timeout.map_or(CONFORMANCE_TIMEOUT, Duration::from_secs);
    matrix(&[What::Conformance], &Setting::ALL, &[2], timeout)
}

/// The test images' of a folder.
pub fn image_folder(folder: &Path, ways: &Ways) -> Result<Vec<Job>> {
    let whats = images(&image_files(folder)?);
    let timeout = timeout(ways, IMAGE_TIMEOUT);
    Ok(matrix(&whats, &ways.settings(), &ways.vcpus(2), timeout))
}

/// The Linux guests' that the user asks for.
pub fn linux(args: &LinuxArgs, site: &Site) -> Result<Vec<Job>> {
    let kernels = match &args.kernel {
        Some(image) => vec![Kernel::new(image, args.modules.as_deref())?],
        None => site.guest_kernels()?,
    };
    linux_matrix(
        &kernels,
        &each(&args.scenario)?,
        &args.ways,
        |kernel, scenario| guest(site, kernel, scenario, args.initrd.as_deref()),
    )
}

/// L1VH guests, on the emulated SynIC: KVM's own knows no event ring.
pub fn l1vh(args: &L1vhArgs, site: &Site) -> Result<Vec<Job>> {
    let kernel = match &args.kernel {
        Some(image) => Kernel::new(image, args.modules.as_deref())?,
        None => site.l1vh_kernel()?,
    };
    let ways = Ways {
        backend: vec![Backend::Emulated],
        irqchip: vec![Irqchip::Split],
        vcpus: args.vcpus.clone(),
        timeout: args.timeout,
    };
    let cmdline = format!(
        "{} synic.count={}",
        site.guest_cmdline(&kernel),
        args.doorbells / 2
    );
    let scenarios = args.scenario.for_guest(Role::L1vh, u32::MAX)?.0;
    let mut jobs = linux_matrix(&[kernel], &scenarios, &ways, |kernel, scenario| {
        let program = args.program.as_deref();
        Ok(What::Linux {
            kernel: kernel.name.clone(),
            image: kernel.image.clone(),
            initrd: site.l1vh_initrd(kernel, program, scenario.needs_kexec())?,
            scenario,
            cmdline: cmdline.trim_start().to_owned(),
            l1vh: Some(args.policy),
        })
    })?;
    jobs.extend(teardowns(&ways));
    Ok(jobs)
}

/// A bare-metal guest that replays what Linux did before it knew better, and what it does.
fn teardowns(ways: &Ways) -> Vec<Job> {
    let replays = [
        ("pre-patch", PolicyArg::Observe),
        ("pre-patch", PolicyArg::Refuse),
        ("vmbus-first", PolicyArg::Observe),
        ("merged", PolicyArg::Fault),
        ("root", PolicyArg::Fault),
    ];
    let whats = replays.map(|(sequence, policy)| What::Teardown { sequence, policy });
    let timeout = timeout(ways, TEARDOWN_TIMEOUT);
    matrix(&whats, &ways.settings(), &ways.vcpus(1), timeout)
}

/// All of it, or the part that a quick check takes.
pub fn whole(args: &MatrixArgs, site: &Site) -> Result<Vec<Job>> {
    let mut ways = Ways::all(args.timeout);
    let kernels = site.guest_kernels()?;
    let guest = |kernel: &Kernel, scenario| guest(site, kernel, scenario, None);
    let mut jobs = if args.quick {
        ways.vcpus = vec![Vcpus::Count(2)];
        let mut jobs = demo(QUICK_DEMO_COUNT, &ways);
        jobs.extend(hostile(QUICK_ATTACK, &ways));
        jobs.extend(conformance(args.timeout));
        jobs.extend(quick(&kernels, args.timeout, guest)?);
        jobs
    } else {
        let mut jobs = demo(DEMO_COUNT, &ways);
        jobs.extend(hostile(ATTACK, &ways));
        jobs.extend(conformance(args.timeout));
        jobs.extend(linux_matrix(
            &kernels,
            &each(&Scenarios::All)?,
            &ways,
            guest,
        )?);
        jobs
    };
    if let Some(folder) = or_env(args.images.as_ref(), "SYNIC_TEST_IMAGES") {
        jobs.extend(image_folder(&folder, &ways)?);
    }
    Ok(jobs)
}

/// What a scenario is on a kernel.
fn guest(site: &Site, kernel: &Kernel, scenario: Scenario, initrd: Option<&Path>) -> Result<What> {
    Ok(What::Linux {
        kernel: kernel.name.clone(),
        image: kernel.image.clone(),
        initrd: match initrd {
            Some(initrd) => initrd.to_owned(),
            None => site.guest_initrd(kernel, scenario.needs_kexec())?,
        },
        scenario,
        cmdline: site.guest_cmdline(kernel),
        l1vh: None,
    })
}

fn linux_matrix(
    kernels: &[Kernel],
    scenarios: &[Scenario],
    ways: &Ways,
    guest: impl Fn(&Kernel, Scenario) -> Result<What>,
) -> Result<Vec<Job>> {
    let mut jobs = Vec::new();
    for kernel in kernels {
        for &scenario in scenarios {
            let what = guest(kernel, scenario)?;
            // The last CPU cannot go offline.
            let least = if scenario == Scenario::Hotplug { 2 } else { 1 };
            let timeout = timeout(ways, LINUX_TIMEOUT);
            jobs.extend(matrix(
                &[what],
                &ways.settings(),
                &ways.vcpus(least),
                timeout,
            ));
        }
    }
    Ok(jobs)
}

/// One by one.
fn each(scenarios: &Scenarios) -> Result<Vec<Scenario>> {
    Ok(scenarios.for_guest(Role::Guest, u32::MAX)?.0)
}

/// Each scenario once, and each setting, number of vCPUs and kernel at least once.
fn quick(
    kernels: &[Kernel],
    timeout: Option<u64>,
    guest: impl Fn(&Kernel, Scenario) -> Result<What>,
) -> Result<Vec<Job>> {
    let timeout = timeout.map_or(LINUX_TIMEOUT, Duration::from_secs);
    let [emulated, full, split] = Setting::ALL;
    let picks = [
        (Scenario::Basic, emulated, 1),
        (Scenario::Echo, split, 2),
        (Scenario::Reload, full, 1),
        (Scenario::Hotplug, emulated, 4),
        (Scenario::Reboot, split, 4),
        (Scenario::Kexec, full, 2),
        (Scenario::Crash, emulated, 2),
        (Scenario::Snapshot, emulated, 2),
        (Scenario::Snapshot, full, 2),
        (Scenario::Snapshot, split, 1),
        (Scenario::Snapshot, Setting::CHANGING, 2),
    ];
    let mut jobs = Vec::new();
    // So that they are all used, and neighbours differ.
    for ((scenario, setting, vcpus), kernel) in picks.into_iter().zip(kernels.iter().cycle()) {
        jobs.extend(matrix(
            &[guest(kernel, scenario)?],
            &[setting],
            &[vcpus],
            timeout,
        ));
    }
    Ok(jobs)
}

fn image_files(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(folder)
        .with_context(|| format!("Cannot read the folder {}", folder.display()))?;
    let mut paths: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
    paths.retain(|path| {
        path.extension()
            .is_some_and(|extension| extension == "flat")
    });
    ensure!(
        !paths.is_empty(),
        "There is no *.flat file in {}",
        folder.display()
    );
    paths.sort();
    Ok(paths)
}

fn timeout(ways: &Ways, default: Duration) -> Duration {
    ways.timeout.map_or(default, Duration::from_secs)
}

const DEMO_COUNT: u32 = 200_000;
const QUICK_DEMO_COUNT: u32 = 5000;
/// Seconds.
const ATTACK: u64 = 60;
const QUICK_ATTACK: u64 = 3;
/// An idle machine takes 5 s.
const CONFORMANCE_TIMEOUT: Duration = Duration::from_secs(180);
const TEARDOWN_TIMEOUT: Duration = Duration::from_secs(60);
const DEMO_TIMEOUT: Duration = Duration::from_secs(300);
/// The longest one counts to ten million seven times: 16 s on an idle machine.
const IMAGE_TIMEOUT: Duration = Duration::from_secs(180);
const LINUX_TIMEOUT: Duration = Duration::from_secs(240);

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;
    use vmm_sys_util::tempdir::TempDir;

    fn kernels() -> [Kernel; 2] {
        ["6.1", "7.2"].map(|name| Kernel {
            name: name.into(),
            image: name.into(),
            modules: None,
        })
    }

    fn guest(kernel: &Kernel, scenario: Scenario) -> Result<What> {
        Ok(What::Linux {
            kernel: kernel.name.clone(),
            image: kernel.image.clone(),
            initrd: "initrd".into(),
            scenario,
            cmdline: String::new(),
            l1vh: None,
        })
    }

    #[test]
    fn quick_when_there_are_two_kernels_has_each_choice_at_least_once() {
        let jobs = quick(&kernels(), None, guest).unwrap();
        let settings: BTreeSet<_> = jobs.iter().map(|job| job.setting.to_string()).collect();
        let vcpus: BTreeSet<_> = jobs.iter().map(|job| job.vcpus).collect();
        let whats: Vec<_> = jobs.iter().map(|job| job.what.to_string()).collect();
        assert_eq!(settings.len(), 4);
        assert_eq!(vcpus, BTreeSet::from([1, 2, 4]));
        for name in kernels()
            .map(|kernel| kernel.name)
            .iter()
            .map(String::as_str)
        {
            assert!(whats.iter().any(|what| what.ends_with(name)), "{whats:?}");
        }
        for scenario in each(&Scenarios::All).unwrap() {
            let name = scenario.to_string();
            assert!(
                whats.iter().any(|what| what.starts_with(&name)),
                "{whats:?}"
            );
        }
    }

    #[test]
    fn linux_matrix_when_all_is_asked_for_is_kernels_times_scenarios_times_ways() {
        let scenarios = each(&Scenarios::All).unwrap();
        let jobs = linux_matrix(&kernels(), &scenarios, &Ways::all(None), guest).unwrap();
        // Seven scenarios in nine ways, and hotplug without those that have one vCPU.
        assert_eq!(jobs.len(), 2 * (7 * 9 + 6));
    }

    #[test]
    fn image_folder_when_it_has_no_image_says_so() {
        let folder = TempDir::new().unwrap();
        let error = image_folder(folder.as_path(), &Ways::all(None)).unwrap_err();
        assert!(
            error.to_string().starts_with("There is no *.flat file in"),
            "{error}"
        );
    }
}
