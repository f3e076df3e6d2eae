//! Opens service directories and their `supervise/`, again when something else stands in their place.

use super::hand::Hand;
use super::{News, Opened};
use crate::svdir::left::Spot;
use crate::svdir::supervise::{self, OpenError};
use nix::errno::Errno;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The identity of a file, for noticing that another one stands in its place.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Inode(pub(super) u64, pub(super) u64);

impl Inode {
    pub(super) fn at(path: &Path) -> Option<Inode> {
        std::fs::metadata(path)
            .ok()
            .map(|found| Inode(found.dev(), found.ino()))
    }
}

impl Hand {
    /// Opens a directory and its `supervise/`. False when another supervisor has it.
    pub(super) fn open(&mut self, name: &str, dir: &Path, log: bool, held: bool) -> bool {
        let Some(id) = self.id(name, log) else {
            return false;
        };
        let handle = self
            .known
            .get(name)
            .filter(|_| !log)
            .and_then(|known| known.handle.clone());
        let directory = match handle.map_or_else(|| open_directory(dir).map(Arc::new), Ok) {
            Ok(directory) => directory,
            Err(error) => {
                if is_shortage(&error) || self.net.is_some() {
                    self.again.insert((name.to_owned(), log));
                } else {
                    self.again.remove(&(name.to_owned(), log));
                }
                self.say(News::Unreadable { id, error });
                return false;
            }
        };
        let opened = if held && dir.join("supervise/lock").exists() {
            supervise::fifos(dir).map(|fifos| (fifos, None))
        } else {
            supervise::open(dir).map(|whole| (whole.fifos, Some(whole.lock)))
        };
        let free = match &opened {
            Err(OpenError::NotAFifo(_) | OpenError::Io { .. }) if self.net.is_some() => {
                // runsv would not run, and be started again.
                self.again.insert((name.to_owned(), log));
                false
            }
            Err(OpenError::Io { error, .. }) if is_shortage(error) || is_full(error) => {
                self.again.insert((name.to_owned(), log));
                true
            }
            Err(OpenError::Locked(_)) => {
                self.again.insert((name.to_owned(), log));
                false
            }
            Ok(_) | Err(OpenError::NotAFifo(_) | OpenError::Io { .. }) => {
                self.again.remove(&(name.to_owned(), log));
                true
            }
        };
        let failed = matches!(opened, Err(OpenError::Io { .. }));
        if failed && self.net.is_none() && !dir.exists() {
            // A name that stood there for a moment, as ln and editors make them.
            self.say(News::Vanished { id });
            return false;
        }
        let seen = inodes(dir);
        let locked = matches!(opened, Err(OpenError::Locked(_)));
        let mut accounted = false;
        if let Some(known) = self.known.get_mut(name) {
            *(if log {
                &mut known.seen_log
            } else {
                &mut known.seen
            }) = seen;
            // A lock that we took and could not go on with has been let go.
            known.locked[usize::from(log)] = held || opened.is_ok();
            if !locked {
                accounted = std::mem::replace(&mut known.accounted[usize::from(log)], true);
            }
        }
        let unseen = self.net.is_none() && !locked && opened.is_err();
        let aside = unseen.then(|| self.aside(dir, log, accounted)).flatten();
        let opened = opened.map(|(fifos, lock)| {
            let fresh = lock.is_some();
            let (left, pipe) = match self.net {
                Some(_) => (self.left_for_runsv(dir, fresh), None),
                None if fresh && !accounted => self.left(dir, log, Spot::Inside),
                // The keeper's book knows better, or we do.
                None => (None, None),
            };
            let shared = self.known.get(name).map(|known| Arc::clone(&known.dir));
            Opened {
                directory,
                dir: shared
                    .filter(|it| **it == *dir)
                    .unwrap_or_else(|| Arc::new(dir.to_owned())),
                left,
                pipe,
                fifos,
                lock,
            }
        });
        self.say(News::Opened { id, opened, aside });
        free
    }

    pub(super) fn reopen(&mut self, name: &str, dir: &Path, log: bool) -> bool {
        let held = self.holds(name, dir, log);
        self.open(name, dir, log, held)
    }

    /// Whether the keeper has the lock that stands there: another one would have to be taken.
    fn holds(&self, name: &str, dir: &Path, log: bool) -> bool {
        self.known.get(name).is_some_and(|known| {
            let seen = if log { known.seen_log } else { known.seen };
            let same = seen[1].is_some() && inodes(dir)[1] == seen[1];
            known.locked[usize::from(log)] && same
        })
    }
}

pub fn open_directory(dir: &Path) -> io::Result<OwnedFd> {
    let flags = nix::libc::O_DIRECTORY | nix::libc::O_PATH;
    let file: File = std::fs::OpenOptions::new()
        .read(true)
        .custom_flags(flags)
        .open(dir)?;
    Ok(file.into())
}

/// By what is open, whatever it is called.
pub(super) fn reached(directory: &OwnedFd) -> Arc<PathBuf> {
    Arc::new(format!("/proc/self/fd/{}", directory.as_raw_fd()).into())
}

pub(super) fn inodes(dir: &Path) -> [Option<Inode>; 3] {
    [
        Inode::at(dir),
        Inode::at(&dir.join("supervise/lock")),
        Inode::at(&dir.join("supervise/control")),
    ]
}

/// Nothing is wrong with the directory; a later try may work.
fn is_shortage(error: &io::Error) -> bool {
    let errno = error.raw_os_error().map(Errno::from_raw);
    matches!(errno, Some(Errno::EMFILE | Errno::ENFILE | Errno::ENOMEM))
}

fn is_full(error: &io::Error) -> bool {
    let errno = error.raw_os_error().map(Errno::from_raw);
    matches!(errno, Some(Errno::ENOSPC | Errno::EDQUOT))
}
