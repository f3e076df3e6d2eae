//! Directories as runsv and runsvdir look at them: by what is open, so that neither a rename nor
//! another directory under the same name means anything to a service; and known by device and inode.

use super::News;
use super::hand::{Hand, NET};
use super::opening::open_directory;
use crate::os::wording;
use crate::supervisor::Settings;
use crate::supervisor::manner::{HERE, Manner};
use crate::svdir::load::{self, Definition, Findings};
use crate::svdir::scan::{self, Found, Scan};
use nix::errno::Errno;
use std::collections::HashMap;
use std::ffi::OsString;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// runsvdir's look at its directory, though inotify tells of changes ...
const LOOK: Duration = Duration::from_secs(5);
/// ... while it is not there, or a service can't be started; and as often runsvdir starts a runsv
/// that has ended.
const TRY_AGAIN: Duration = Duration::from_secs(1);

/// What runsv and runsvdir need to know of directories beside what there is anyway.
pub(super) struct Net {
    /// runsvdir, and not told to end; runsv has its one directory.
    pub(super) scans: bool,
    /// runsv.
    pub(super) one: bool,
    title: String,
    /// Names found in the last scan.
    names: HashMap<String, OsString>,
    /// Device, inode and change of the directory as last scanned; None when that failed.
    scanned: Option<(u64, u64, i64, i64)>,
}

impl Net {
    pub(super) fn for_manner(settings: &Settings) -> Option<Net> {
        let one = match settings.manner {
            Manner::Own => return None,
            Manner::Runsv { .. } => true,
            Manner::Runsvdir { .. } => false,
        };
        Some(Net {
            scans: !one,
            one,
            title: settings.title.clone(),
            names: HashMap::new(),
            scanned: None,
        })
    }

    /// `trouble`: some service is to be tried again.
    pub(super) fn period(&self, trouble: bool) -> Option<Duration> {
        match (trouble, self.scans) {
            (true, _) => Some(TRY_AGAIN),
            (false, true) if self.scanned.is_none() => Some(TRY_AGAIN),
            (false, true) => Some(LOOK),
            (false, false) => None,
        }
    }
}

/// The name that stays, whatever its directory is called.
fn key(dev: u64, ino: u64) -> String {
    format!("{dev:x}.{ino:x}")
}

impl Hand {
    /// How often to look without being told that there is something to see.
    pub(super) fn period(&self) -> Option<Duration> {
        let trouble = !self.again.is_empty();
        match &self.net {
            Some(net) => net.period(trouble),
            None => (self.unreliable || trouble || !self.failed_writes.is_empty()).then_some(NET),
        }
    }

    pub(super) fn watch_scan_directory(&mut self) -> io::Result<()> {
        match &self.net {
            Some(net) if !net.scans => Ok(()),
            Some(_) | None => self.watch.scan_directory(&self.scan_dir),
        }
    }

    /// Where a service's files are.
    pub(super) fn dir(&self, name: &str) -> Arc<PathBuf> {
        match self.known.get(name) {
            Some(known) => Arc::clone(&known.dir),
            None => Arc::new(self.scan_dir.join(name)),
        }
    }

    pub(super) fn load(&self, dir: &Path, name: &str) -> Result<Definition, Findings> {
        match self.net {
            Some(_) => load::load_as_runsv(dir),
            None => {
                #[cfg(debug_assertions)]
                crate::os::kill_point(&format!("read-{name}"));
                load::load(dir, name)
            }
        }
    }

    /// Tells what services there are now.
    pub(super) fn scan(&mut self) {
        let scan = match &self.net {
            None => scan::scan(&self.scan_dir),
            Some(net) if net.one => scan_here(&net.title),
            Some(net) if !net.scans => return,
            Some(_) => self.scan_as_runsvdir(),
        };
        self.say(News::Scanned(scan));
    }

    fn scan_as_runsvdir(&mut self) -> io::Result<Scan> {
        let dir = self.scan_dir.clone();
        let Some(net) = &mut self.net else {
            return Ok(Scan::default());
        };
        let warn = |what: &str, errno: i32| {
            let cause = wording::cause(Errno::from_raw(errno));
            let line = format!("runsvdir {}: warning: {what}: {cause}\n", net.title);
            let _ = io::Write::write_all(&mut io::stderr(), line.as_bytes());
        };
        let look = |what: &'static str| {
            let title = &net.title;
            move |error: io::Error| (format!("unable to {what}{title}"), error)
        };
        let looked = std::fs::metadata(&dir)
            .map_err(look("stat "))
            .and_then(|found| match found.is_dir() {
                true => Ok(found),
                false => Err(look("change directory to ")(Errno::ENOTDIR.into())),
            })
            .and_then(|found| {
                let entries = scan::scan_as_runsvdir(&dir).map_err(look("open directory "))?;
                Ok((found, entries))
            });
        let (found, (entries, odd)) = match looked {
            Ok(looked) => looked,
            Err((what, error)) => {
                warn(&what, error.raw_os_error().unwrap_or_default());
                net.scanned = None;
                return Err(error);
            }
        };
        for (name, errno) in odd {
            warn(&format!("unable to stat {}", name.display()), errno);
        }
        net.scanned = Some(stamp(&found));
        net.names.clear();
        let mut scan = Scan::default();
        for entry in entries {
            let name = key(entry.dev, entry.ino);
            scan.found.push(Found {
                name: name.clone(),
                title: entry.name.to_string_lossy().into_owned(),
                dev: entry.dev,
                ino: entry.ino,
                link: None,
            });
            net.names.insert(name, entry.name);
        }
        Ok(scan)
    }

    /// The net under inotify: whether runsvdir would read its directory now.
    pub(super) fn scan_is_due(&self) -> bool {
        let Some(net) = self.net.as_ref().filter(|net| net.scans) else {
            return false;
        };
        let now = std::fs::metadata(&self.scan_dir).ok();
        net.scanned.is_none() || net.scanned != now.as_ref().map(stamp)
    }

    /// runsvdir has ended: what runs goes on, and nothing else is looked for.
    pub(super) fn rest(&mut self) {
        if let Some(net) = &mut self.net {
            net.scans = false;
        }
    }

    /// By what path a service is reached, and what has to be held open for that.
    pub(super) fn grasp(&self, name: &str) -> (PathBuf, Option<Arc<OwnedFd>>) {
        let Some(net) = &self.net else {
            return (self.scan_dir.join(name), None);
        };
        let path = match net.names.get(name) {
            Some(found) => self.scan_dir.join(found),
            None => self.scan_dir.join(name),
        };
        let held = open_directory(&path).ok().filter(|held| {
            let found = nix::sys::stat::fstat(held);
            // Another one may have come in its place since the scan.
            net.one || found.is_ok_and(|found| key(found.st_dev, found.st_ino) == name)
        });
        match held {
            Some(held) => {
                let path = format!("/proc/self/fd/{}", held.as_raw_fd()).into();
                (path, Some(Arc::new(held)))
            }
            None => (path, None),
        }
    }

    pub(super) fn is_deleted(&self, dir: &Path) -> bool {
        self.net.is_some() && std::fs::metadata(dir).is_ok_and(|found| found.nlink() == 0)
    }
}

/// runsv stands in its directory, wherever that has been moved to.
fn scan_here(title: &str) -> io::Result<Scan> {
    let here = std::fs::metadata(HERE)?;
    let mut scan = Scan::default();
    scan.found.push(Found {
        name: HERE.to_owned(),
        title: title.to_owned(),
        dev: here.dev(),
        ino: here.ino(),
        link: None,
    });
    Ok(scan)
}

fn stamp(found: &std::fs::Metadata) -> (u64, u64, i64, i64) {
    (found.dev(), found.ino(), found.mtime(), found.mtime_nsec())
}
