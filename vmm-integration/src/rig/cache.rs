// Copyright © 2026 The vm-synic Authors
// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! Results of earlier runs, each under the hash of what it was made from.

use std::path::{Path, PathBuf};
use std::time::Duration;
use std::{env, fs, process};

use anyhow::{Context, Result, anyhow};
use sha2::{Digest, Sha256};

/// A folder that may be deleted at any time.
#[derive(Clone, Debug)]
pub struct Cache {
    folder: PathBuf,
}

impl Cache {
    /// In `folder`, or where the user keeps caches.
    pub fn open(folder: Option<&Path>) -> Result<Self> {
        let folder = match folder {
            Some(folder) => folder.to_owned(),
            None => default_folder()?,
        };
        fs::create_dir_all(&folder)
            .with_context(|| format!("Cannot make the cache folder {}", folder.display()))?;
        let cache = Self { folder };
        cache.forget_old();
        Ok(cache)
    }

    /// The path of a file with these contents.
    pub fn store(&self, name: &str, contents: &[u8]) -> Result<PathBuf> {
        let folder = self.entry(&hash(contents), |folder| {
            let path = folder.join(name);
            fs::write(&path, contents).with_context(|| format!("Cannot write {}", path.display()))
        })?;
        Ok(folder.join(name))
    }

    /// The folder of `key`, which `fill` fills the first time.
    pub fn entry(&self, key: &str, fill: impl FnOnce(&Path) -> Result<()>) -> Result<PathBuf> {
        let folder = self.folder.join(key);
        if folder.is_dir() {
            return Ok(folder);
        }
        // Renamed when it is complete, as another run may look for it or be killed here.
        let unfinished = self.folder.join(format!("{key}.{}", process::id()));
        let filled = fs::create_dir_all(&unfinished)
            .with_context(|| format!("Cannot make {}", unfinished.display()))
            .and_then(|()| fill(&unfinished));
        let renamed = filled.is_ok() && fs::rename(&unfinished, &folder).is_ok();
        if !renamed {
            let _ = fs::remove_dir_all(&unfinished);
        }
        filled?;
        match folder.is_dir() {
            true => Ok(folder),
            false => Err(anyhow!("Cannot make {}", folder.display())),
        }
    }

    /// What is there, in no order.
    pub fn entries(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(&self.folder).into_iter().flatten();
        entries.flatten().map(|entry| entry.path()).collect()
    }

    /// Removes files of builds that are long gone.
    fn forget_old(&self) {
        for entry in self.entries().iter().filter(|entry| is_old(entry)) {
            // One that cannot be removed does no harm.
            let _ = fs::remove_dir_all(entry);
        }
    }
}

fn is_old(path: &Path) -> bool {
    let modified = fs::metadata(path).and_then(|data| data.modified());
    modified.is_ok_and(|time| time.elapsed().is_ok_and(|age| age > MAX_AGE))
}

fn hash(contents: &[u8]) -> String {
    format!("{:x}", Sha256::digest(contents))
}

/// As the XDG Base Directory Specification has it.
fn default_folder() -> Result<PathBuf> {
    let absolute = |name| {
        env::var_os(name)
            .map(PathBuf::from)
            .filter(|p| p.is_absolute())
    };
    absolute("XDG_CACHE_HOME")
        .or_else(|| absolute("HOME").map(|home| home.join(".cache")))
        .map(|caches| caches.join("synic-rig"))
        .context("Neither XDG_CACHE_HOME nor HOME is set; name a folder with --cache")
}

const MAX_AGE: Duration = Duration::from_secs(30 * 24 * 60 * 60);

#[cfg(test)]
mod tests {
    use super::*;
    use vmm_sys_util::tempdir::TempDir;

    fn cache() -> (TempDir, Cache) {
        let folder = TempDir::new().unwrap();
        let cache = Cache::open(Some(folder.as_path())).unwrap();
        (folder, cache)
    }

    #[test]
    fn store_when_contents_are_the_same_gives_the_same_file() {
        let (_folder, cache) = cache();
        let first = cache.store("initrd", b"abc").unwrap();
        assert_eq!(fs::read(&first).unwrap(), b"abc");
        assert_eq!(cache.store("initrd", b"abc").unwrap(), first);
        assert_ne!(cache.store("initrd", b"abd").unwrap(), first);
    }

    #[test]
    fn entry_when_it_is_there_is_not_filled_again() {
        let (_folder, cache) = cache();
        let first = cache.entry("key", |_| Ok(())).unwrap();
        let second = cache.entry("key", |_| unreachable!("it is there")).unwrap();
        assert_eq!(first, second);
    }

    #[test]
    fn entry_when_filling_fails_leaves_nothing() {
        let (_folder, cache) = cache();
        let error = cache
            .entry("key", |_| Err(anyhow!("no network")))
            .unwrap_err();
        assert_eq!(error.to_string(), "no network");
        assert!(cache.entries().is_empty());
    }
}
