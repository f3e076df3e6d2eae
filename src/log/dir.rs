//! A log directory on disk: made, locked, opened, listed.
//!
//! Paths are put together anew for each call instead of holding the directory open: a log has two
//! descriptors here, `current` and `lock`, and ten thousand logs shall fit.

use super::config::{CONFIG_BYTES_MAX, Config, Flaw};
use super::mark::FileId;
use super::rotate::{Kind, Old, next_time};
use super::settings::Habits;
use super::way::{Reached, may_change, reach};
use crate::os::locks;
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg, OFlag};
use nix::sys::stat::fstat;
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Read};
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::time::Duration;

const MAKE: &str = "make directory";
const FOLLOW: &str = "go to";
const OPEN: &str = "open";
/// What is done when a log that is open takes lines.
pub const WRITE: &str = "write";

/// Why a log can't be written now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Halt {
    /// No space, or no quota, left.
    Full,
    /// Another process writes this directory.
    Locked { holder: Option<String> },
    /// The processor is still at work on the last file.
    Processing,
    Failed {
        /// `write`, `open`, `make` ...
        doing: &'static str,
        /// The name within the directory, empty for the directory itself.
        name: &'static str,
        errno: Errno,
    },
}

impl Halt {
    fn at(doing: &'static str, name: &'static str) -> impl Fn(io::Error) -> Halt {
        move |error| Halt::of(doing, name, &error)
    }

    /// From an error of the system.
    pub fn of(doing: &'static str, name: &'static str, error: &io::Error) -> Halt {
        let errno = error.raw_os_error().map_or(Errno::EIO, Errno::from_raw);
        match errno {
            Errno::ENOSPC | Errno::EDQUOT => Halt::Full,
            errno => Halt::Failed { doing, name, errno },
        }
    }

    /// Waiting does not help: somebody has to give us the right to write there, or to take away
    /// what is in the way.
    pub fn is_for_good(&self) -> bool {
        match self {
            Halt::Failed { doing, errno, .. } => match errno {
                Errno::EROFS | Errno::EACCES | Errno::EPERM => true,
                // Of a directory within a place that has none, such as /proc. Anything else that
                // is missing was removed in this moment, and is there at the next try.
                Errno::ENOENT => *doing == MAKE,
                Errno::ELOOP
                | Errno::EEXIST
                | Errno::EISDIR
                | Errno::ENOTDIR
                | Errno::EINVAL
                | Errno::ENXIO
                | Errno::ENODEV
                | Errno::ENAMETOOLONG
                | Errno::EMLINK
                | Errno::EOPNOTSUPP => *doing != WRITE,
                // A disk that fails, a server that is away, no descriptors, no memory.
                _ => false,
            },
            Halt::Full | Halt::Locked { .. } | Halt::Processing => false,
        }
    }

    /// What the system says, or what it means where that would mislead.
    fn cause(&self, errno: Errno) -> &'static str {
        match (self, errno) {
            (Halt::Failed { doing: FOLLOW, .. }, _) => {
                "a link on the way is not root's or ours, so that somebody could lead it anywhere"
            }
            (Halt::Failed { name: "", .. }, _) => errno.desc(),
            (_, Errno::EMLINK) => {
                "the file has another name, and the directory is not root's or ours alone"
            }
            (_, Errno::ELOOP) => "it is a link, which is not followed",
            (Halt::Failed { doing: OPEN, .. }, Errno::EINVAL | Errno::ENXIO) => {
                "it is not a plain file"
            }
            _ => errno.desc(),
        }
    }

    /// The same for a log that goes on without a file.
    pub fn words_without(&self, path: &Path) -> String {
        let words = self.words(path);
        let (what, _) = words.split_once("; output waits").unwrap_or((&words, ""));
        format!("{what}; its lines are on standard output only")
    }

    /// For people: what, cause, what happens next, way out.
    pub fn words(&self, path: &Path) -> String {
        let path = path.display();
        match self {
            Halt::Full => format!(
                "cannot write {path}/current: no space left; output waits in its pipe, trying \
                 again every 3 s; make room, or let old log files go: echo N2 >> {path}/config"
            ),
            Halt::Locked { holder } => format!(
                "cannot lock {path}/lock: held by {}; output waits in its pipe until the lock is \
                 free",
                holder.as_deref().unwrap_or("another process")
            ),
            Halt::Processing => format!(
                "{path} is due for rotation but the processor is still at work on the last file; \
                 output waits in its pipe"
            ),
            Halt::Failed { doing, name, errno } => {
                let slash = if name.is_empty() { "" } else { "/" };
                format!(
                    "cannot {doing} {path}{slash}{name}: {} ({errno:?}); output waits in its pipe, \
                     trying again",
                    self.cause(*errno)
                )
            }
        }
    }
}

/// What is told while things go well, or nearly so.
#[derive(Debug)]
pub enum Note<'a> {
    /// The config file held something.
    Read,
    Flaw(&'a Flaw),
    /// `current` was opened and is `new`, or goes on.
    Opened {
        new: bool,
    },
    Renamed {
        old: Old,
        bytes: u64,
    },
    Deleted(Old),
    /// ... since the disk is full.
    DeletedForRoom(Old),
    Processing(Old),
    Processed(Old),
    ProcessorFailed,
    Closed,
}

/// Hears of a log's doings.
pub trait Teller: std::fmt::Debug + Send {
    fn tell(&self, note: &Note<'_>);
}

/// A directory that we hold.
#[derive(Debug)]
pub struct Files {
    pub current: File,
    lock: Flock<File>,
    device: u64,
    inode: u64,
}

impl Files {
    /// Which file `current` is.
    pub fn id(&self) -> FileId {
        FileId {
            dev: self.device,
            ino: self.inode,
        }
    }

    /// Device of the file system that it is on.
    pub fn device(&self) -> u64 {
        self.device
    }
}

/// What was found.
#[derive(Debug)]
pub struct Opened {
    pub files: Files,
    /// Bytes in `current`.
    pub size: u64,
    /// `current` does not end with a newline.
    pub within_a_line: bool,
    /// `current` was not there, or was put aside.
    pub new: bool,
}

/// Makes, locks and opens a log directory.
pub fn open(path: &Path, habits: &Habits, now: Duration) -> Result<Opened, Halt> {
    let reached = reach(path, habits, true).map_err(|error| {
        let followed = error.raw_os_error() != Some(Errno::ELOOP as i32);
        Halt::of(if followed { MAKE } else { FOLLOW }, "", &error)
    })?;
    let path = reached.path();
    let lock = lock(path, habits)?;
    if habits.closed_mode.is_some() {
        put_unclean_aside(path, now)?;
    }
    let new = fs::metadata(path.join("current")).is_err();
    let (current, size, device, inode) = open_current(&reached, habits)?;
    let within_a_line = size > 0 && !ends_in_newline(&current, size);
    let files = Files {
        current,
        lock,
        device,
        inode,
    };
    Ok(Opened {
        files,
        size,
        within_a_line,
        new,
    })
}

/// A new `current` under a lock that is held, after the old one was renamed.
pub fn renew(at: &Reached, habits: &Habits, files: Files) -> Result<(Files, File), Halt> {
    let (current, _, device, inode) = open_current(at, habits)?;
    let new = Files {
        current,
        lock: files.lock,
        device,
        inode,
    };
    Ok((new, files.current))
}

/// Whether `current` in this directory is still the file that we write.
pub fn in_place(path: &Path, files: &Files) -> bool {
    fs::metadata(path.join("current"))
        .is_ok_and(|found| found.dev() == files.device && found.ino() == files.inode)
}

/// The svlogd config file, empty when there is none, and whether it holds anything. A command that
/// somebody may have written who is neither root nor we is not taken from it.
pub fn config(path: &Path, habits: &Habits) -> (Config, bool) {
    // Nearly every log has none, and this is asked at each start of a service.
    let none = fs::symlink_metadata(path.join("config"));
    if none.is_err_and(|error| error.kind() == io::ErrorKind::NotFound) {
        return (Config::default(), false);
    }
    let mut bytes = Vec::new();
    let mut writer = None;
    let read = reach(path, habits, false).and_then(|at| {
        // A FIFO of that name must not hang us.
        let mut flags = OFlag::O_NONBLOCK;
        if at.others.is_some() {
            flags |= OFlag::O_NOFOLLOW;
        }
        let file = OpenOptions::new()
            .read(true)
            .custom_flags(flags.bits())
            .open(at.path().join("config"))?;
        let about = fstat(&file)?;
        writer = at.others;
        if !habits.follows_links && may_change(&about) {
            writer = writer.or(Some(about.st_uid));
        }
        let most = u64::try_from(CONFIG_BYTES_MAX).unwrap_or(u64::MAX);
        file.take(most).read_to_end(&mut bytes)
    });
    // A config that can't be read is no config: logging goes on.
    let mut config = Config::parse(&bytes);
    if let Some(writer) = writer
        && config.processor.take().is_some()
    {
        config.flaws.push(Flaw::Distrusted(writer));
    }
    if let Err(error) = read
        && error.kind() != io::ErrorKind::NotFound
    {
        let errno = error.raw_os_error().map_or(Errno::EIO, Errno::from_raw);
        config.flaws.push(Flaw::Unreadable(errno));
    }
    (config, !bytes.is_empty())
}

/// The rotated files, in no order.
pub fn list(path: &Path) -> io::Result<Vec<Old>> {
    use std::os::unix::ffi::OsStrExt;
    let mut olds = Vec::new();
    for entry in fs::read_dir(path)? {
        olds.extend(Old::parse(entry?.file_name().as_bytes()));
    }
    Ok(olds)
}

/// Renames `current` to a rotated name that was never used, newer than all others.
pub fn rename_current(path: &Path, olds: &[Old], kind: Kind, now: Duration) -> io::Result<Old> {
    let old = Old {
        at: next_time(olds, now),
        kind,
    };
    // No other process makes such names: we hold the lock, and `olds` has the newest of them.
    fs::rename(path.join("current"), path.join(old.name()))?;
    Ok(old)
}

fn lock(path: &Path, habits: &Habits) -> Result<Flock<File>, Halt> {
    let file = options(habits)
        .append(true)
        .mode(0o600)
        .open(path.join("lock"))
        .map_err(Halt::at(OPEN, "lock"))?;
    Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(file, errno)| match errno {
        Errno::EWOULDBLOCK => Halt::Locked {
            holder: holder(&file),
        },
        errno => Halt::Failed {
            doing: "lock",
            name: "lock",
            errno,
        },
    })
}

fn options(habits: &Habits) -> OpenOptions {
    let mut flags = OFlag::O_NONBLOCK;
    if !habits.follows_links {
        flags |= OFlag::O_NOFOLLOW;
    }
    let mut options = OpenOptions::new();
    options.create(true).custom_flags(flags.bits());
    options
}

/// Who holds the lock of that file, in words.
fn holder(file: &File) -> Option<String> {
    let pid = locks::holder(file)?;
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
    let ours = u32::try_from(pid).is_ok_and(|pid| pid == std::process::id());
    let whose = if ours {
        " for another service, which has the same log directory"
    } else {
        ""
    };
    Some(format!("{} (pid {pid}){whose}", name.trim_end()))
}

fn open_current(at: &Reached, habits: &Habits) -> Result<(File, u64, u64, u64), Halt> {
    let path = at.path();
    let failed = Halt::at(OPEN, "current");
    let file = options(habits)
        .read(true)
        .append(true)
        .mode(habits.current_mode)
        .open(path.join("current"))
        .map_err(&failed)?;
    let about = file.metadata().map_err(&failed)?;
    let kind = about.file_type();
    // svlogd's users may point it at /dev/null.
    let fits = kind.is_file() || (habits.follows_links && kind.is_char_device());
    if !fits {
        return Err(failed(Errno::EINVAL.into()));
    }
    // Another name of a file that is none of theirs.
    if at.others.is_some() && about.nlink() > 1 {
        return Err(failed(Errno::EMLINK.into()));
    }
    // The umask may have taken bits from a new file; an old one's mode is its owner's affair.
    let new = about.len() == 0;
    if (new || habits.current_mode_is_enforced) && about.mode() & 0o777 != habits.current_mode {
        let mode = Permissions::from_mode(habits.current_mode);
        file.set_permissions(mode)
            .map_err(Halt::at("chmod", "current"))?;
    }
    Ok((file, about.len(), about.dev(), about.ino()))
}

fn ends_in_newline(file: &File, size: u64) -> bool {
    let mut last = [0];
    file.read_exact_at(&mut last, size.saturating_sub(1))
        .is_ok()
        && last == *b"\n"
}

/// A non-empty `current` without its owner's x bit was not closed in order.
fn put_unclean_aside(path: &Path, now: Duration) -> Result<(), Halt> {
    let Ok(about) = fs::metadata(path.join("current")) else {
        return Ok(());
    };
    if about.len() == 0 || about.mode() & 0o100 != 0 {
        return Ok(());
    }
    let olds = list(path).map_err(Halt::at("read directory", ""))?;
    let renamed = rename_current(path, &olds, Kind::Unprocessed, now);
    renamed.map(drop).map_err(Halt::at("rename", "current"))
}

#[cfg(test)]
mod tests {
    use super::super::settings::{SCRIBE, SVLOGD};
    use super::*;

    const NOW: Duration = Duration::from_secs(1_795_168_800);

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().mode() & 0o777
    }

    #[test]
    fn a_missing_directory_is_made_with_its_parents_and_modes() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("a/b");
        let opened = open(&path, &SCRIBE, NOW).unwrap();
        assert_eq!((opened.size, opened.within_a_line), (0, false));
        assert_eq!(mode(&path.join("current")), 0o640);
        assert_eq!(mode(&path.join("lock")), 0o600);
        assert_eq!(mode(&path), 0o750);
        assert_eq!(mode(&place.path().join("a")), 0o750);
    }

    #[test]
    fn what_is_missing_comes_by_itself_but_not_where_no_directory_can_be_made() {
        let nowhere = Path::new("/proc/1/outlast/web");
        assert!(open(nowhere, &SCRIBE, NOW).unwrap_err().is_for_good());
        let missing = |doing, name| Halt::of(doing, name, &io::Error::from(Errno::ENOENT));
        assert!(!missing(OPEN, "lock").is_for_good());
        assert!(!missing(OPEN, "current").is_for_good());
    }

    #[test]
    fn svlogd_does_not_make_its_directory() {
        let place = tempfile::tempdir().unwrap();
        let halt = open(&place.path().join("none"), &SVLOGD, NOW).unwrap_err();
        assert!(matches!(
            halt,
            Halt::Failed {
                errno: Errno::ENOENT,
                ..
            }
        ));
    }

    #[test]
    fn a_second_holder_is_told_who_the_first_is() {
        let place = tempfile::tempdir().unwrap();
        let first = open(place.path(), &SCRIBE, NOW).unwrap();
        let Err(halt) = open(place.path(), &SCRIBE, NOW) else {
            panic!("locked twice");
        };
        let words = halt.words(place.path());
        assert!(
            words.contains(&format!("(pid {})", std::process::id())),
            "{words}"
        );
        drop(first);
        assert!(open(place.path(), &SCRIBE, NOW).is_ok());
    }

    #[test]
    fn a_link_in_place_of_current_is_refused() {
        let place = tempfile::tempdir().unwrap();
        let target = place.path().join("target");
        fs::write(&target, "x").unwrap();
        std::os::unix::fs::symlink(&target, place.path().join("current")).unwrap();
        let halt = open(place.path(), &SCRIBE, NOW).unwrap_err();
        assert!(
            matches!(
                halt,
                Halt::Failed {
                    errno: Errno::ELOOP,
                    ..
                }
            ),
            "{halt:?}"
        );
    }

    #[test]
    fn a_fifo_in_place_of_current_is_refused_without_waiting() {
        let place = tempfile::tempdir().unwrap();
        let mode = nix::sys::stat::Mode::S_IRWXU;
        nix::unistd::mkfifo(&place.path().join("current"), mode).unwrap();
        assert!(open(place.path(), &SCRIBE, NOW).is_err());
        nix::unistd::mkfifo(&place.path().join("config"), mode).unwrap();
        let none = (Config::default(), false);
        assert_eq!(config(place.path(), &SCRIBE), none);
    }

    #[test]
    fn svlogds_unclean_current_is_put_aside_and_a_clean_one_is_not() {
        let place = tempfile::tempdir().unwrap();
        let current = place.path().join("current");
        fs::write(&current, "old\n").unwrap();
        fs::set_permissions(&current, Permissions::from_mode(0o744)).unwrap();
        assert_eq!(open(place.path(), &SVLOGD, NOW).unwrap().size, 4);
        assert_eq!(mode(&current), 0o644);
        assert_eq!(open(place.path(), &SVLOGD, NOW).unwrap().size, 0);
        let olds = list(place.path()).unwrap();
        assert_eq!(
            olds,
            [Old {
                at: NOW,
                kind: Kind::Unprocessed
            }]
        );
    }

    #[test]
    fn a_removed_current_is_not_in_place() {
        let place = tempfile::tempdir().unwrap();
        let opened = open(place.path(), &SCRIBE, NOW).unwrap();
        assert!(in_place(place.path(), &opened.files));
        fs::remove_file(place.path().join("current")).unwrap();
        assert!(!in_place(place.path(), &opened.files));
        fs::write(place.path().join("current"), "").unwrap();
        assert!(!in_place(place.path(), &opened.files));
    }
}
