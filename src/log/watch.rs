//! Tells which of many log directories has news: one inotify instance, no polling.
//!
//! Each directory is watched, and so is the one above it, or the nearest above it that is there:
//! it tells when the directory comes, goes or is replaced. The directory itself can't be asked for
//! that: IN_DELETE_SELF comes only once nothing holds the removed directory any more, and a look
//! for a file in it that failed may hold it for long (as a negative entry of the kernel's cache).

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, InotifyEvent, WatchDescriptor};
use std::collections::{BTreeSet, HashMap};
use std::ffi::OsString;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};

/// inotify(7)'s IN_MASK_ADD, which nix does not name: a second watch of one directory adds to the
/// first instead of replacing it.
const MASK_ADD: AddWatchFlags = AddWatchFlags::from_bits_retain(0x2000_0000);

/// Who is concerned by a watched directory.
#[derive(Debug, Default)]
struct Concerned {
    /// It is theirs.
    own: BTreeSet<usize>,
    /// An entry of this name is theirs, or leads to theirs.
    below: HashMap<OsString, BTreeSet<usize>>,
}

/// Watches log directories, each known by its index.
#[derive(Debug)]
pub struct Watch {
    inotify: Inotify,
    dirs: Vec<PathBuf>,
    /// The watch of each directory that is there.
    owns: Vec<Option<WatchDescriptor>>,
    watches: HashMap<WatchDescriptor, Concerned>,
}

/// Why a wait ended.
#[derive(Debug, PartialEq, Eq)]
pub enum Woken {
    /// These directories have news.
    News(BTreeSet<usize>),
    /// Nobody reads from the descriptor any more.
    Unread,
}

impl Watch {
    pub fn new(dirs: Vec<PathBuf>) -> nix::Result<Watch> {
        let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)?;
        let mut watch = Watch {
            inotify,
            owns: vec![None; dirs.len()],
            dirs,
            watches: HashMap::new(),
        };
        for index in 0..watch.dirs.len() {
            watch.place(index)?;
        }
        Ok(watch)
    }

    /// Waits for news, or for the end of a pipe's or socket's other side.
    pub fn wait(&mut self, output: Option<BorrowedFd<'_>>) -> nix::Result<Woken> {
        let mut news = BTreeSet::new();
        while news.is_empty() {
            let mut fds = vec![PollFd::new(self.inotify.as_fd(), PollFlags::POLLIN)];
            // No events asked for: an error and a hang-up are always told.
            fds.extend(output.map(|fd| PollFd::new(fd, PollFlags::empty())));
            match poll(&mut fds, PollTimeout::NONE) {
                Err(Errno::EINTR) => continue,
                other => other?,
            };
            let gone = fds.get(1).and_then(PollFd::any).unwrap_or(false);
            if gone {
                return Ok(Woken::Unread);
            }
            let events = match self.inotify.read_events() {
                Err(Errno::EAGAIN | Errno::EINTR) => continue,
                other => other?,
            };
            for event in events {
                self.heed(&event, &mut news)?;
            }
        }
        Ok(Woken::News(news))
    }

    fn heed(&mut self, event: &InotifyEvent, news: &mut BTreeSet<usize>) -> nix::Result<()> {
        if event.mask.contains(AddWatchFlags::IN_Q_OVERFLOW) {
            news.extend(0..self.dirs.len());
            return Ok(());
        }
        let Some(concerned) = self.watches.get_mut(&event.wd) else {
            return Ok(());
        };
        news.extend(&concerned.own);
        let mut again = BTreeSet::new();
        if let Some(name) = &event.name {
            again.extend(concerned.below.remove(name).unwrap_or_default());
        }
        let lost =
            AddWatchFlags::IN_DELETE_SELF | AddWatchFlags::IN_MOVE_SELF | AddWatchFlags::IN_IGNORED;
        if event.mask.intersects(lost) {
            again.extend(concerned.below.drain().flat_map(|(_, those)| those));
            again.extend(&concerned.own);
        }
        for index in again {
            if self.place(index)? {
                news.insert(index);
            }
        }
        Ok(())
    }

    /// Watches a directory and what is above it; true when it has come, gone or been replaced.
    fn place(&mut self, index: usize) -> nix::Result<bool> {
        let before = self.owns[index];
        loop {
            let awaited = self.place_above(index)?;
            let own = any_change() | AddWatchFlags::IN_MODIFY;
            let found = missing(self.inotify.add_watch(&self.dirs[index], own))?;
            // What was made before its parent was watched was not announced: look again.
            if found.is_none() && awaited.is_some_and(|path| path.is_dir()) {
                continue;
            }
            self.owns[index] = found;
            if before != found {
                self.give_up(before, index);
            }
            if let Some(wd) = found {
                self.watches.entry(wd).or_default().own.insert(index);
            }
            return Ok(before != found);
        }
    }

    /// Watches the nearest directory above; returns its entry that is awaited.
    fn place_above(&mut self, index: usize) -> nix::Result<Option<PathBuf>> {
        let dir = self.dirs[index].clone();
        for path in dir.ancestors() {
            let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
                continue;
            };
            let parent = match parent.as_os_str().is_empty() {
                true => Path::new("."),
                false => parent,
            };
            if let Some(wd) = missing(self.inotify.add_watch(parent, any_change()))? {
                let below = &mut self.watches.entry(wd).or_default().below;
                below.entry(name.to_owned()).or_default().insert(index);
                return Ok(Some(path.to_owned()));
            }
        }
        Ok(None)
    }

    /// The directory that this watch was for is no longer this one's.
    fn give_up(&mut self, wd: Option<WatchDescriptor>, index: usize) {
        if let Some(wd) = wd
            && let Some(concerned) = self.watches.get_mut(&wd)
        {
            concerned.own.remove(&index);
            if concerned.own.is_empty() && concerned.below.is_empty() {
                self.watches.remove(&wd);
                // Gone by itself when the directory is.
                let _ = self.inotify.rm_watch(wd);
            }
        }
    }
}

/// Of the entries of a directory, and of itself.
fn any_change() -> AddWatchFlags {
    AddWatchFlags::IN_CREATE
        | AddWatchFlags::IN_MOVED_TO
        | AddWatchFlags::IN_MOVED_FROM
        | AddWatchFlags::IN_DELETE
        | AddWatchFlags::IN_DELETE_SELF
        | AddWatchFlags::IN_MOVE_SELF
        | AddWatchFlags::IN_ONLYDIR
        | MASK_ADD
}

fn missing<T>(result: nix::Result<T>) -> nix::Result<Option<T>> {
    match result {
        Ok(found) => Ok(Some(found)),
        Err(Errno::ENOENT | Errno::ENOTDIR) => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn news(watch: &mut Watch) -> Vec<usize> {
        match watch.wait(None).unwrap() {
            Woken::News(news) => news.into_iter().collect(),
            Woken::Unread => panic!("nothing to read from was given"),
        }
    }

    #[test]
    fn a_directory_that_comes_later_is_seen() {
        let place = tempfile::tempdir().unwrap();
        let (a, b) = (place.path().join("a"), place.path().join("x/y/b"));
        fs::create_dir(&a).unwrap();
        let mut watch = Watch::new(vec![a.clone(), b.clone()]).unwrap();
        fs::write(a.join("current"), "x").unwrap();
        assert_eq!(news(&mut watch), [0]);
        fs::create_dir_all(&b).unwrap();
        assert_eq!(news(&mut watch), [1]);
        fs::write(b.join("current"), "x").unwrap();
        assert_eq!(news(&mut watch), [1]);
        fs::remove_dir_all(&b).unwrap();
        assert_eq!(news(&mut watch), [1]);
    }

    /// As a reader does who looks for `current` at that moment: the kernel then remembers that
    /// there is none, and with it the directory.
    #[test]
    fn a_directory_that_is_made_anew_is_seen_although_the_old_one_is_held() {
        let place = tempfile::tempdir().unwrap();
        let dir = place.path().join("log");
        fs::create_dir(&dir).unwrap();
        let mut watch = Watch::new(vec![dir.clone()]).unwrap();
        let _held = fs::File::open(&dir).unwrap();
        fs::remove_dir(&dir).unwrap();
        assert_eq!(news(&mut watch), [0]);
        fs::create_dir(&dir).unwrap();
        assert_eq!(news(&mut watch), [0]);
        fs::write(dir.join("current"), "x").unwrap();
        assert_eq!(news(&mut watch), [0]);
    }

    #[test]
    fn a_change_beside_the_directory_is_no_news() {
        let place = tempfile::tempdir().unwrap();
        let (a, b) = (place.path().join("a"), place.path().join("b"));
        fs::create_dir(&a).unwrap();
        fs::create_dir(&b).unwrap();
        let mut watch = Watch::new(vec![a.clone(), b.clone()]).unwrap();
        fs::create_dir(place.path().join("c")).unwrap();
        fs::write(a.join("current"), "x").unwrap();
        assert_eq!(news(&mut watch), [0]);
        fs::write(b.join("current"), "x").unwrap();
        // What is left of the first one's events may come before.
        while news(&mut watch) != [1] {}
    }

    #[test]
    fn a_reader_who_left_ends_the_wait() {
        let place = tempfile::tempdir().unwrap();
        let mut watch = Watch::new(vec![place.path().to_path_buf()]).unwrap();
        let (reader, writer) = nix::unistd::pipe().unwrap();
        drop(reader);
        assert_eq!(watch.wait(Some(writer.as_fd())).unwrap(), Woken::Unread);
    }
}
