// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! What is to be run: jobs, from lists of settings.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::order::{Order, Word};
use crate::cli::PolicyArg;
use crate::scenario::Scenario;

/// Who has the SynIC, and where the irqchip is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Setting {
    /// As synic-vmm takes it.
    pub backend: &'static str,
    /// As synic-vmm takes it.
    pub irqchip: &'static str,
}

impl Setting {
    /// Those that differ in what they exercise. The emulated SynIC has no full irqchip.
    pub const ALL: [Self; 3] = [
        Self::new("emulated", "split"),
        Self::new("kvm", "full"),
        Self::new("kvm", "split"),
    ];

    /// Another backend after each snapshot of the guest, which only scenario snapshot takes.
    pub const CHANGING: Self = Self::new("changing", "split");

    /// A backend with an irqchip.
    pub const fn new(backend: &'static str, irqchip: &'static str) -> Self {
        Self { backend, irqchip }
    }
}

impl fmt::Display for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.backend, self.irqchip)
    }
}

/// Something to run in a setting.
#[derive(Clone, Debug)]
pub struct Job {
    /// What it is, which says how to judge it.
    pub what: What,
    /// In what setting.
    pub setting: Setting,
    /// With how many vCPUs.
    pub vcpus: u32,
    /// How long it may take.
    pub timeout: Duration,
}

/// What can be run.
#[derive(Clone, Debug)]
pub enum What {
    /// `synic-vmm demo`.
    Demo {
        /// Messages, event flags and doorbells, each.
        count: u32,
    },
    /// `synic-vmm hostile`.
    Hostile {
        /// How long.
        seconds: u64,
    },
    /// `synic-vmm conformance`.
    Conformance,
    /// `synic-vmm linux`.
    Linux {
        /// What it is called in reports.
        kernel: String,
        /// bzImage or vmlinux.
        image: PathBuf,
        /// Has synic-guest for its init.
        initrd: PathBuf,
        /// What the guest is to do.
        scenario: Scenario,
        /// More for the guest's command line.
        cmdline: String,
        /// What happens to a write that breaks an ownership rule; `None`: the guest is no L1VH.
        l1vh: Option<PolicyArg>,
    },
    /// `synic-vmm teardown`.
    Teardown {
        /// As synic-vmm takes it.
        sequence: &'static str,
        /// What happens to a write that breaks an ownership rule.
        policy: PolicyArg,
    },
    /// `synic-vmm boot --test-devices`.
    Image {
        /// A multiboot image.
        path: PathBuf,
        /// Arguments for it.
        arguments: &'static str,
    },
}

impl Job {
    /// The command that runs it.
    pub fn order(&self, vmm: Word) -> Order {
        let mut words = vec![vmm];
        words.extend(self.what.words());
        let seconds = self.timeout.as_secs();
        if self.what.takes_setting() {
            words.extend(match self.setting {
                Setting::CHANGING => {
                    vec!["--change-backend".into(), "--snapshots".into(), "10".into()]
                }
                Setting { backend, .. } => vec!["--backend".into(), backend.into()],
            });
            words.extend(["--irqchip".into(), self.setting.irqchip.into()]);
        }
        if self.what.takes_vcpus() {
            words.extend(["--vcpus".into(), self.vcpus.to_string().into()]);
        }
        if self.what.takes_timeout() {
            words.extend(["--timeout".into(), seconds.to_string().into()]);
        }
        Order {
            words,
            // synic-vmm's own end comes with an account of what the guest was doing.
            limit: seconds.saturating_add(GRACE),
        }
    }
}

impl fmt::Display for Job {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plural = if self.vcpus == 1 { "" } else { "s" };
        let Self {
            what,
            setting,
            vcpus,
            ..
        } = self;
        write!(f, "{what}, {setting}, {vcpus} vCPU{plural}")
    }
}

impl What {
    fn words(&self) -> Vec<Word> {
        match self {
            Self::Demo { count } => {
                vec![
                    "demo".into(),
                    "--json".into(),
                    "--count".into(),
                    count.to_string().into(),
                ]
            }
            Self::Conformance => vec!["conformance".into(), "--json".into()],
            Self::Hostile { seconds } => vec![
                "hostile".into(),
                "--json".into(),
                "--seconds".into(),
                seconds.to_string().into(),
            ],
            Self::Linux {
                image,
                initrd,
                scenario,
                cmdline,
                l1vh,
                ..
            } => {
                let mut words = vec![
                    "linux".into(),
                    "--kernel".into(),
                    Word::File(image.clone()),
                    "--initrd".into(),
                    Word::File(initrd.clone()),
                    "--scenario".into(),
                    scenario.to_string().into(),
                    "--cmdline".into(),
                    cmdline.as_str().into(),
                    "--json".into(),
                    Word::Report,
                ];
                if *scenario == Scenario::Snapshot {
                    // All of it is written and read each time.
                    words.extend(["--memory".into(), "160".into()]);
                }
                if let Some(policy) = l1vh {
                    let policy = policy.to_string();
                    words.extend(["--role".into(), "l1vh".into()]);
                    words.extend(["--policy".into(), policy.into()]);
                }
                words
            }
            Self::Teardown { sequence, policy } => vec![
                "teardown".into(),
                "--json".into(),
                "--sequence".into(),
                (*sequence).into(),
                "--policy".into(),
                policy.to_string().into(),
            ],
            Self::Image { path, arguments } => vec![
                "boot".into(),
                "--test-devices".into(),
                "--kernel".into(),
                Word::File(path.clone()),
                "--cmdline".into(),
                (*arguments).into(),
                "--json".into(),
                Word::Report,
            ],
        }
    }

    /// A teardown is the emulated SynIC's.
    fn takes_setting(&self) -> bool {
        !matches!(self, Self::Teardown { .. })
    }

    /// The suite has two VPs.
    fn takes_vcpus(&self) -> bool {
        !matches!(self, Self::Conformance)
    }

    /// The others watch whether anything moves.
    fn takes_timeout(&self) -> bool {
        matches!(self, Self::Linux { .. } | Self::Image { .. })
    }
}

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Demo { .. } => f.write_str("demo"),
            Self::Hostile { .. } => f.write_str("hostile"),
            Self::Conformance => f.write_str("conformance"),
            Self::Linux {
                kernel,
                scenario,
                l1vh: None,
                ..
            } => write!(f, "{scenario} on {kernel}"),
            Self::Linux {
                kernel,
                scenario,
                l1vh: Some(policy),
                ..
            } => write!(f, "l1vh {scenario} on {kernel}, {policy}"),
            Self::Teardown { sequence, policy } => write!(f, "teardown {sequence}, {policy}"),
            Self::Image { path, arguments } => {
                let name = path.file_stem().unwrap_or_default().to_string_lossy();
                f.write_str(format!("{name} {arguments}").trim_end())
            }
        }
    }
}

/// Each of `whats` in each setting with each number of vCPUs.
pub fn matrix(whats: &[What], settings: &[Setting], vcpus: &[u32], timeout: Duration) -> Vec<Job> {
    let mut jobs = Vec::new();
    for what in whats {
        for &setting in settings {
            jobs.extend(vcpus.iter().map(|&vcpus| Job {
                what: what.clone(),
                setting,
                vcpus,
                timeout,
            }));
        }
    }
    jobs
}

/// The files that these commands read.
pub fn files(orders: &[Order]) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = Vec::new();
    for word in orders.iter().flat_map(|order| &order.words) {
        match word {
            Word::File(path) if !files.contains(path) => files.push(path.clone()),
            _ => {}
        }
    }
    files
}

/// Test images of a folder, some of them with more than one set of arguments.
pub fn images(paths: &[PathBuf]) -> Vec<What> {
    let with = |path: &Path, arguments| What::Image {
        path: path.to_owned(),
        arguments,
    };
    let mut images = Vec::new();
    for path in paths {
        images.push(with(path, ""));
        // kvm-unit-tests' unittests.cfg runs it a second time, with timers in direct mode.
        if path.ends_with("hyperv_stimer.flat") {
            images.push(with(path, "direct"));
        }
    }
    images
}

/// Seconds between the end that synic-vmm makes and the one that is made of it.
const GRACE: u64 = 30;

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    fn text(words: &[Word]) -> String {
        let text = words.iter().map(|word| match word {
            Word::Text(text) => text.clone(),
            Word::File(path) => path.display().to_string(),
            Word::Report => "REPORT".into(),
        });
        text.collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn matrix_when_given_lists_has_each_combination_once() {
        let jobs = matrix(&[What::Demo { count: 7 }], &Setting::ALL, &[2, 4], MINUTE);
        let names: Vec<_> = jobs.iter().map(Job::to_string).collect();
        let expected = [
            "demo, emulated split, 2 vCPUs",
            "demo, emulated split, 4 vCPUs",
            "demo, kvm full, 2 vCPUs",
            "demo, kvm full, 4 vCPUs",
            "demo, kvm split, 2 vCPUs",
            "demo, kvm split, 4 vCPUs",
        ];
        assert_eq!(names, expected);
    }

    #[test]
    fn order_of_the_suite_has_a_setting_and_no_number_of_vcpus() {
        let jobs = matrix(&[What::Conformance], &Setting::ALL[1..2], &[2], MINUTE);
        let words = text(&jobs[0].order("vmm".into()).words);
        assert_eq!(words, "vmm conformance --json --backend kvm --irqchip full");
    }

    #[test]
    fn images_when_one_has_two_sets_of_arguments_has_it_twice() {
        let paths = ["/i/hyperv_clock.flat", "/i/hyperv_stimer.flat"].map(PathBuf::from);
        let images = images(&paths);
        let names: Vec<_> = images.iter().map(What::to_string).collect();
        assert_eq!(
            names,
            ["hyperv_clock", "hyperv_stimer", "hyperv_stimer direct"]
        );
        let orders: Vec<_> = matrix(&images, &Setting::ALL[..1], &[2], MINUTE)
            .iter()
            .map(|job| job.order("vmm".into()))
            .collect();
        assert_eq!(files(&orders), paths);
    }

    #[test]
    fn order_when_an_image_is_run_has_its_own_timeout_and_a_later_limit() {
        let images = images(&[PathBuf::from("/i/a.flat")]);
        let jobs = matrix(&images, &Setting::ALL[2..], &[4], MINUTE);
        let order = jobs[0].order("vmm".into());
        assert_eq!(
            text(&order.words),
            "vmm boot --test-devices --kernel /i/a.flat --cmdline  --json REPORT --backend kvm \
             --irqchip split --vcpus 4 --timeout 60"
        );
        assert_eq!(order.limit, 90);
    }
}
