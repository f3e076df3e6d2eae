//! The two files by which process 1 is told to end the machine: whether it is meant at all, and
//! whether the machine comes back. Their owner's x is the message, and CONT to process 1 says that
//! there is one. They stand where Debian has them and where upstream's runit has them.

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs::{self, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};

/// Debian's place first: /etc may be read-only.
pub const STOPIT: [&str; 2] = ["/run/runit.stopit", "/etc/runit/stopit"];
pub const REBOOT: [&str; 2] = ["/run/runit.reboot", "/etc/runit/reboot"];
/// Told to process 1 when nobody else is.
pub const FIRST_PROCESS: Pid = Pid::from_raw(1);

const SET: u32 = 0o100;

/// What could not be done, with which file and why.
#[derive(Debug)]
pub struct Refused {
    pub what: &'static str,
    pub path: &'static str,
    pub errno: Errno,
}

/// Asks process 1 to power off, or to reboot.
pub fn ask(reboot: bool) -> Result<(), Refused> {
    let [stopit, stopit_upstream] = STOPIT;
    let [again, again_upstream] = REBOOT;
    set(stopit)?;
    match reboot {
        true => set(again)?,
        false => unset(again)?,
    }
    // A stage 3 that was written for upstream's places looks there.
    if is_there(stopit_upstream) {
        let mode = if reboot { SET } else { 0 };
        let _ = fs::set_permissions(again_upstream, Permissions::from_mode(mode));
        let _ = fs::set_permissions(stopit_upstream, Permissions::from_mode(SET));
    }
    // Nobody is told when process 1 can't be: runit-init never was.
    let _ = kill(FIRST_PROCESS, Signal::SIGCONT);
    Ok(())
}

/// Whether one of them is there and executable by its owner. The bit counts, not access(2): /run
/// may be mounted noexec.
pub fn is_set(paths: &[&str]) -> bool {
    paths.iter().any(|path| is_executable(path))
}

pub fn is_executable(path: &str) -> bool {
    fs::metadata(path).is_ok_and(|found| found.permissions().mode() & SET != 0)
}

pub fn is_there(path: &str) -> bool {
    fs::metadata(path).is_ok()
}

/// The message has been read.
pub fn clear(paths: &[&str]) {
    for path in paths.iter().filter(|path| is_executable(path)) {
        let _ = fs::set_permissions(path, Permissions::from_mode(0o0));
    }
}

/// An empty file with the owner's x alone.
fn set(path: &'static str) -> Result<(), Refused> {
    let opened = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o644)
        .custom_flags(nix::libc::O_NONBLOCK)
        .open(path);
    // Whatever the cause, runit names that of closing what it could not open.
    opened.map_err(|_| refused("create", path, &Errno::EBADF.into()))?;
    fs::set_permissions(path, Permissions::from_mode(SET))
        .map_err(|error| refused("chmod", path, &error))
}

fn unset(path: &'static str) -> Result<(), Refused> {
    match fs::set_permissions(path, Permissions::from_mode(0o0)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(refused("chmod", path, &error))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

fn refused(what: &'static str, path: &'static str, error: &io::Error) -> Refused {
    let errno = Errno::from_raw(error.raw_os_error().unwrap_or(0));
    Refused { what, path, errno }
}
