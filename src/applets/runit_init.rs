//! runit-init, the program at /sbin/init: as process 1 it becomes runit, else it tells process 1 to
//! halt (0) or to reboot (6), as telinit(8) would. And runit, for whoever isn't process 1.

use super::{search, usage, words};
use crate::launch::environment::Environment;
use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, getpid};
use std::ffi::{CString, OsStr, OsString};
use std::fs::{OpenOptions, Permissions, set_permissions};
use std::io::ErrorKind;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};

/// Debian's places for what upstream has in /etc/runit, which may be read-only.
const STOPIT: &str = "/run/runit.stopit";
const REBOOT: &str = "/run/runit.reboot";
const RUNIT: &str = "/sbin/runit";
const EXIT_FATAL: u8 = 111;
const FIRST_PROCESS: Pid = Pid::from_raw(1);

pub fn runit(_args: &[OsString]) -> u8 {
    words::complain(&[b"- runit: fatal: must be run as process no 1."]);
    EXIT_FATAL
}

pub fn runit_init(args: &[OsString]) -> u8 {
    if getpid() == FIRST_PROCESS {
        return become_runit();
    }
    // One character counts.
    let done = match args.get(1).map_or(b"".as_slice(), |it| it.as_bytes()) {
        [b'0', ..] => halt(),
        [b'6', ..] => reboot(),
        first => {
            if first.starts_with(b"-V") {
                usage::version();
                words::complain(&[]);
            }
            let argv0 = args.first().map_or(OsStr::new(""), OsString::as_os_str);
            usage::usage(argv0.as_bytes(), "0|6");
            return 0;
        }
    };
    match done {
        Ok(()) => {
            // Nobody is told when process 1 can't be: runit-init never was.
            let _ = kill(FIRST_PROCESS, Signal::SIGCONT);
            0
        }
        Err(message) => {
            words::complain(&[b"init: fatal: ", message.as_bytes()]);
            EXIT_FATAL
        }
    }
}

fn become_runit() -> u8 {
    let environment = Environment::of_this_process();
    let argv = [CString::from(c"runit")];
    let errno = search::exec(
        OsStr::new(RUNIT),
        &argv,
        environment.strings().unwrap_or_default(),
    );
    let cause = words::cause(errno).as_bytes();
    words::complain(&[b"init: fatal: unable to start runit: ", cause]);
    EXIT_FATAL
}

fn halt() -> Result<(), String> {
    flag(STOPIT)?;
    match set_permissions(REBOOT, Permissions::from_mode(0o0)) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(unable("chmod", REBOOT, &error)),
        Ok(()) | Err(_) => Ok(()),
    }
}

fn reboot() -> Result<(), String> {
    flag(STOPIT)?;
    flag(REBOOT)
}

/// An empty file with the owner's x alone, which is what process 1 looks for.
fn flag(path: &str) -> Result<(), String> {
    OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o644)
        .custom_flags(nix::libc::O_NONBLOCK)
        .open(path)
        // Whatever the cause, runit names that of closing what it could not open.
        .map_err(|_| unable("create", path, &Errno::EBADF.into()))?;
    set_permissions(path, Permissions::from_mode(0o100))
        .map_err(|error| unable("chmod", path, &error))
}

fn unable(what: &str, path: &str, error: &std::io::Error) -> String {
    let errno = Errno::from_raw(error.raw_os_error().unwrap_or(0));
    format!("unable to {what} {path}: {}", words::cause(errno))
}
