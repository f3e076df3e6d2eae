//! Without inotify, or without enough of it: then everything is looked at every few seconds.

use super::hand::Hand;
use super::opening::Inode;
use crate::svdir::watch::{Watch, reliable};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

pub(super) fn watch_or_none() -> Watch {
    Watch::new().unwrap_or_else(|error| {
        tracing::warn!(
            "cannot watch directories: no inotify instance ({error}); changes are noticed within some \
             seconds; raise fs.inotify.max_user_instances (sysctl), which all processes of a user share"
        );
        Watch::blind()
    })
}

/// Files that are this young may change once more within the same tick of a file system's clock.
const YOUNG: Duration = Duration::from_millis(100);
/// What may be in a service directory, and in its `log/`, that a definition is read from.
const FILES: [&str; 8] = [
    "",
    "run",
    "finish",
    "check",
    "down",
    "control",
    "service.toml",
    "supervise",
];

/// How the files of a definition are: which, of what size, changed when. None when that is not to be
/// relied on.
fn glance(dir: &Path) -> Option<u64> {
    let mut hasher = DefaultHasher::new();
    let now = SystemTime::now();
    for file in FILES {
        for path in [dir.join(file), dir.join("log").join(file)] {
            let Ok(found) = std::fs::metadata(path) else {
                0u8.hash(&mut hasher);
                continue;
            };
            // We write into supervise/ ourselves.
            if file != "supervise" {
                let changed = Duration::new(
                    u64::try_from(found.ctime()).ok()?,
                    u32::try_from(found.ctime_nsec()).ok()?,
                );
                let age = now.duration_since(SystemTime::UNIX_EPOCH + changed);
                // Of the directory itself only what comes and goes there is of interest.
                if !file.is_empty() && age.is_ok_and(|age| age < YOUNG) {
                    return None;
                }
                (changed, found.size(), found.mode()).hash(&mut hasher);
            }
            (found.dev(), found.ino()).hash(&mut hasher);
        }
    }
    Some(hasher.finish())
}

impl Hand {
    pub(super) fn watch_service(&mut self, name: &Arc<str>, dir: &Arc<PathBuf>) {
        let Err(error) = self.watch.service(name, dir) else {
            return;
        };
        // One that has gone is no matter, and so it is where nothing is watched anyway.
        if dir.is_dir() && !std::mem::replace(&mut self.unreliable, true) {
            tracing::warn!(
                service = &**name,
                "cannot watch its directory: {error}; changes are noticed within some seconds, of all \
                 services; fs.inotify.max_user_watches (sysctl) may be too low"
            );
        }
    }

    /// Whether a look at a directory finds other files than the last one: one that is read again counts
    /// as changed, and what is broken is tried again then.
    pub(super) fn looks_different(&self, name: &str) -> bool {
        let Some(known) = self.known.get(name) else {
            return false;
        };
        // What could not be made may be possible by now.
        let whole = |seen: &[Option<Inode>; 3]| !seen[1..].contains(&None);
        let all_there = whole(&known.seen) && (known.log.is_none() || whole(&known.seen_log));
        let now = glance(&known.dir);
        now.is_none() || known.glance != now || !all_there
    }

    /// To be called before it is read: a change meanwhile must not be missed.
    pub(super) fn take_a_glance(&mut self, name: &str) {
        if let Some(known) = self.known.get_mut(name).filter(|_| self.unreliable) {
            known.glance = glance(&known.dir);
        }
    }

    /// Looks whether there is an instance now.
    pub(super) fn see_again(&mut self) {
        let Ok(watch) = Watch::new() else {
            return;
        };
        self.watch = watch;
        self.unreliable = self.watch_scan_directory().is_err() || !reliable(&self.scan_dir);
        let all = self.known.iter();
        let all = all.map(|(name, known)| (Arc::clone(name), Arc::clone(&known.dir)));
        for (name, dir) in all.collect::<Vec<_>>() {
            self.watch_service(&name, &dir);
        }
    }
}
