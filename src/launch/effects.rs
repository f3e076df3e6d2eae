//! Single steps that chpst asks for and that no service.toml does: each is one or two system calls,
//! and fails with what the kernel said.

use crate::sys;
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg, OFlag, open};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::stat::Mode;
use nix::unistd::{chdir, chroot};
use std::ffi::OsStr;

/// Two calls that are told apart when one fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    First(Errno),
    Second(Errno),
}

/// Enters the directory, then makes it the root; the other way round there would be a way out.
pub fn change_root(directory: &OsStr) -> Result<(), Refused> {
    chdir(directory).map_err(Refused::First)?;
    chroot(".").map_err(Refused::Second)
}

/// Sets the soft limit, at most to the hard one; None is the hard one.
pub fn soft_limit(resource: Resource, wanted: Option<u64>) -> Result<(), Refused> {
    let (_, hard) = getrlimit(resource).map_err(Refused::First)?;
    let soft = wanted.map_or(hard, |wanted| wanted.min(hard));
    setrlimit(resource, soft, hard).map_err(Refused::Second)
}

/// Opens, or makes, the file and locks it for as long as this process and the program that it
/// becomes live: the descriptor is not close-on-exec. Waits for the lock only when asked to.
pub fn lock(file: &OsStr, wait: bool) -> Result<(), Refused> {
    let flags = OFlag::O_WRONLY | OFlag::O_NONBLOCK | OFlag::O_APPEND | OFlag::O_CREAT;
    let mode = Mode::S_IRUSR | Mode::S_IWUSR;
    let opened = open(file, flags, mode).map_err(Refused::First)?;
    let how = if wait {
        FlockArg::LockExclusive
    } else {
        FlockArg::LockExclusiveNonblock
    };
    match Flock::lock(opened, how) {
        Ok(held) => {
            std::mem::forget(held);
            Ok(())
        }
        Err((_, errno)) => Err(Refused::Second(errno)),
    }
}

/// Adds to the nice value.
pub fn nice(added: i32) -> Result<(), Errno> {
    sys::nice(added).map_err(|error| Errno::from_raw(error.raw_os_error().unwrap_or(0)))
}

/// Standard descriptors that were closed at the start are closed again, and SIGPIPE means what it
/// meant: to be done first by a program that does nothing but become another one.
pub fn as_started() {
    sys::as_started();
}
