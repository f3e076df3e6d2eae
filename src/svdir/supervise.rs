//! `supervise/` on disk, so that runit's own `sv` and every other runit client work.
//!
//! The lock comes first: nothing else is written before it is ours, so a second supervisor that
//! comes by mistake changes nothing of the first one's. `dir` is always a service directory or
//! its `log/`. The files are left behind when supervision ends, as runit does it.

use super::status::{State, Status, Want, encode, pid_text, stat_text};
use crate::os::draft::Draft;
use crate::os::pidfd::PidFd;
use crate::os::{kill_point, locks, wording};
use nix::errno::Errno;
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use std::fmt;
use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// What is held open as long as a service is supervised.
#[derive(Debug)]
pub struct Supervise {
    /// Held locked (flock(2)) by whoever has this descriptor or a duplicate of it.
    pub lock: OwnedFd,
    pub fifos: Fifos,
}

#[derive(Debug)]
pub struct Fifos {
    /// Both ends, non-blocking: without a writer of our own it would be readable for ever after
    /// the first client has closed it.
    pub control: OwnedFd,
    /// The read end alone: that it can be opened for writing tells clients that we live.
    pub ok: OwnedFd,
}

/// Why a `supervise/` can't be used.
#[derive(Debug)]
pub enum OpenError {
    /// Somebody else supervises this directory.
    Locked(PathBuf),
    NotAFifo(PathBuf),
    Io {
        what: &'static str,
        path: PathBuf,
        error: io::Error,
    },
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            OpenError::Locked(path) => write!(
                f,
                "{} is locked: another supervisor (runsv, or another outlast) looks after this \
                 directory; end that one, or take the directory away from it",
                path.display()
            ),
            OpenError::NotAFifo(path) => write!(
                f,
                "{0} is there but is no FIFO; remove it: rm {0}",
                path.display()
            ),
            OpenError::Io { what, path, error } => {
                write!(f, "cannot {what} {}: {error}", path.display())?;
                match error.kind() {
                    io::ErrorKind::ReadOnlyFilesystem => write!(
                        f,
                        "; make supervise a link to a directory that can be written, such as one in /run"
                    ),
                    io::ErrorKind::PermissionDenied => {
                        write!(f, "; it must be writable for the supervisor's user")
                    }
                    _ => Ok(()),
                }
            }
        }
    }
}

impl OpenError {
    /// The same as runsv says it; `log` for its log service's.
    pub fn as_runsv(&self, log: bool) -> String {
        let log = if log { "log/" } else { "" };
        let named = |path: &Path| match path.file_name().and_then(|name| name.to_str()) {
            Some(name) if name != "supervise" => format!("{log}supervise/{name}"),
            Some(_) | None => format!("{log}supervise"),
        };
        match self {
            OpenError::Locked(path) => format!(
                "unable to lock {}: {}",
                named(path),
                wording::cause(Errno::EAGAIN)
            ),
            OpenError::NotAFifo(path) => format!("{} exists but is not a fifo", named(path)),
            OpenError::Io { what, path, error } => {
                let errno = error.raw_os_error().map_or(Errno::EIO, Errno::from_raw);
                let cause = wording::cause(errno);
                match *what {
                    // runsv finds out only when it opens the first file.
                    "make" if path.is_symlink() => {
                        format!("unable to open {log}supervise/lock: {cause}")
                    }
                    "make" => format!("unable to mkdir {}: {cause}", named(path)),
                    what => format!("unable to {what} {}: {cause}", named(path)),
                }
            }
        }
    }
}

fn failed(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> OpenError {
    let path = path.to_owned();
    move |error| OpenError::Io { what, path, error }
}

/// Makes what is missing and takes the lock: for a service that nobody holds yet, and again when
/// its `supervise/` was removed under us (the old lock is worth nothing then; drop it).
pub fn open(dir: &Path) -> Result<Supervise, OpenError> {
    let supervise = dir.join("supervise");
    let made = make_directory(dir, &supervise).map_err(failed("make", &supervise))?;
    let lock = take_lock(&supervise)?;
    // One that is empty was left by a supervisor that was killed while it made the directory, or by a
    // machine that lost its power.
    if made {
        write_first(dir, &supervise).map_err(failed("write in", &supervise))?;
    } else if !fs::metadata(supervise.join("status")).is_ok_and(|found| found.len() > 0) {
        write(dir, &before_the_first_run(dir)).map_err(failed("write in", &supervise))?;
    }
    let fifos = fifos(dir)?;
    Ok(Supervise { lock, fifos })
}

/// Writes the status that runsv begins with, whatever stood there before.
pub fn write_anew(dir: &Path) -> io::Result<()> {
    write(dir, &before_the_first_run(dir))
}

/// Waits for the lock, as runsv does for its log service's.
pub fn wait_for_lock(dir: &Path) -> Result<OwnedFd, OpenError> {
    let supervise = dir.join("supervise");
    make_directory(dir, &supervise).map_err(failed("make", &supervise))?;
    let path = supervise.join("lock");
    let file = open_lock(&path).map_err(failed("open", &path))?;
    file.lock().map_err(failed("lock", &path))?;
    Ok(file.into())
}

/// Whether the process that took the lock still lives. Its children may hold the lock after it.
pub fn is_held_by_the_living(dir: &Path) -> bool {
    let holder = File::open(dir.join("supervise/lock"))
        .ok()
        .and_then(|lock| locks::holder(&lock));
    holder.is_some_and(|pid| PidFd::open(pid).is_ok_and(|holder| holder.lives()))
}

/// The lock of a supervision that is ending, unless a successor has taken it. Its holder may be
/// on its way out still, which takes an instant.
pub fn lock_left(dir: &Path) -> Result<OwnedFd, OpenError> {
    let supervise = dir.join("supervise");
    for _ in 0..20 {
        match take_lock(&supervise) {
            Err(OpenError::Locked(_)) => std::thread::park_timeout(Duration::from_millis(1)),
            other => return other,
        }
    }
    take_lock(&supervise)
}

/// What runsv writes before it starts anything, so that a `run` that calls `sv` on itself finds
/// a status even when it is faster than the news of its own start.
fn before_the_first_run(dir: &Path) -> Status {
    let want = match dir.join("down").exists() {
        true => Want::Down,
        false => Want::Up,
    };
    Status {
        since: SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or_default(),
        pid: None,
        paused: false,
        want,
        got_term: false,
        state: State::Down,
    }
}

/// The FIFOs alone: for a successor whose keeper has held the lock all the time.
pub fn fifos(dir: &Path) -> Result<Fifos, OpenError> {
    let supervise = dir.join("supervise");
    Ok(Fifos {
        control: fifo(&supervise.join("control"), true)?,
        ok: fifo(&supervise.join("ok"), false)?,
    })
}

/// Whether the lock we hold is still the one that others would try: false once `supervise/` was
/// removed or replaced, and then [`open`] is due.
pub fn still_ours(dir: &Path, lock: impl AsFd) -> bool {
    let Ok(held) = nix::sys::stat::fstat(lock) else {
        return false;
    };
    fs::metadata(dir.join("supervise/lock"))
        .is_ok_and(|there| (there.dev(), there.ino()) == (held.st_dev, held.st_ino))
}

/// `supervise` as a directory of mode 0700. A link that leads nowhere (Debian's point to /run,
/// empty after a boot) gets its target made, one level deep, as runsv does it. Whether it was made by
/// us just now.
fn make_directory(dir: &Path, supervise: &Path) -> io::Result<bool> {
    let make = |path: &Path| match DirBuilder::new().mode(0o700).create(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(error),
    };
    // On a file system that can't be written it may be there all the same.
    if let Ok(true) = make(supervise) {
        return Ok(true);
    }
    match fs::metadata(supervise) {
        Ok(_) => Ok(false),
        Err(error) if error.kind() == io::ErrorKind::NotFound => match fs::read_link(supervise) {
            Ok(target) => make(&dir.join(target)),
            Err(_) => make(supervise),
        },
        Err(error) => Err(error),
    }
}

/// How often a lock that is replaced while we take it is tried again.
const LOCK_TRIES_MAX: u32 = 4;

fn take_lock(supervise: &Path) -> Result<OwnedFd, OpenError> {
    let path = supervise.join("lock");
    for _ in 0..LOCK_TRIES_MAX {
        let file = open_lock(&path).map_err(failed("open", &path))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(OpenError::Locked(path)),
            Err(TryLockError::Error(error)) => return Err(failed("lock", &path)(error)),
        }
        // Between open and lock the file may have been removed: a lock on a removed file keeps
        // nobody out.
        if let (Ok(held), Ok(there)) = (file.metadata(), fs::metadata(&path))
            && (held.dev(), held.ino()) == (there.dev(), there.ino())
        {
            return Ok(file.into());
        }
    }
    let error = io::Error::other("it is being replaced all the time");
    Err(failed("lock", &path)(error))
}

fn open_lock(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o600)
        .custom_flags(nix::libc::O_NONBLOCK)
        .open(path)
}

fn fifo(path: &Path, both_ends: bool) -> Result<OwnedFd, OpenError> {
    match mkfifo(path, Mode::S_IRUSR | Mode::S_IWUSR) {
        Ok(()) => {}
        Err(Errno::EEXIST) => {
            let kind = fs::metadata(path).map_err(failed("look at", path))?;
            if !kind.file_type().is_fifo() {
                return Err(OpenError::NotAFifo(path.to_owned()));
            }
        }
        Err(errno) => return Err(failed("make", path)(errno.into())),
    }
    let file = OpenOptions::new()
        .read(true)
        .write(both_ends)
        .custom_flags(nix::libc::O_NONBLOCK)
        .open(path)
        .map_err(failed("open", path))?;
    // Looked at before, so that no device is opened for its side effects, and after, since only
    // what is open counts.
    let kind = file.metadata().map_err(failed("look at", path))?;
    if !kind.file_type().is_fifo() {
        return Err(OpenError::NotAFifo(path.to_owned()));
    }
    Ok(file.into())
}

/// Writes `pid`, `stat` and `status`, in runsv's order: of each a reader sees the old file or the
/// new one, never a part.
pub fn write(dir: &Path, status: &Status) -> io::Result<()> {
    let supervise = dir.join("supervise");
    replace(&supervise, "pid", pid_text(status).as_bytes())?;
    replace(&supervise, "stat", stat_text(status).as_bytes())?;
    kill_point("stat-written");
    replace(&supervise, "status", &encode(status))
}

/// The same into a directory that was made just now, with the status that runsv begins with. Nobody
/// reads there before `ok` tells that we live, so it need not be done by rename.
fn write_first(dir: &Path, supervise: &Path) -> io::Result<()> {
    let status = before_the_first_run(dir);
    let put = |name, content: &[u8]| create(&supervise.join(name))?.write_all(content);
    let put_all = || {
        put("pid", pid_text(&status).as_bytes())?;
        put("stat", stat_text(&status).as_bytes())?;
        put("status", &encode(&status))
    };
    match put_all() {
        // Another supervisor has come and gone meanwhile.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => write(dir, &status),
        other => other,
    }
}

fn replace(supervise: &Path, name: &str, content: &[u8]) -> io::Result<()> {
    let draft = Draft::write(supervise, name, 0o644, content)?;
    kill_point("status-not-renamed");
    draft.put()
}

fn create(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o644)
        .open(path)
}

/// `supervise/down` says whether `./down` is there: monitoring programs look for it (runsv
/// itself never makes it).
pub fn mirror_down(dir: &Path, down: bool) -> io::Result<()> {
    let path = dir.join("supervise/down");
    let done = if down {
        create(&path).map(drop)
    } else {
        fs::remove_file(&path)
    };
    match done {
        Err(error) if down && error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) if !down && error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests;
