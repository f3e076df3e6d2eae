//! `./check` of the working directory: whether the service does its work, as its own script sees it.

use crate::applets::words;
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::process::Command;

/// Waits for the script, however long it takes. Passed when there is none; and not when it was
/// killed or could not be run, which is no answer.
pub fn passes(service: &OsStr) -> bool {
    match nix::sys::stat::stat("check") {
        Ok(_) => {}
        Err(Errno::ENOENT) => return true,
        Err(errno) => return refuse("unable to stat ", service, "/check: ", errno),
    }
    // The script has no stdout at all. Closed by its exec, ours stays.
    let _ = fcntl(std::io::stdout(), FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC));
    let mut child = match Command::new("./check").spawn() {
        Ok(child) => child,
        Err(error) => {
            let errno = Errno::from_raw(error.raw_os_error().unwrap_or(0));
            let what = match errno {
                Errno::EAGAIN | Errno::ENOMEM => "unable to fork for ",
                _ => "unable to run ",
            };
            return refuse(what, service, "/check: ", errno);
        }
    };
    match child.wait() {
        Ok(status) => status.code() == Some(0),
        Err(error) => {
            let errno = Errno::from_raw(error.raw_os_error().unwrap_or(0));
            refuse("unable to wait for child ", service, "/check: ", errno)
        }
    }
}

fn refuse(what: &str, service: &OsStr, rest: &str, errno: Errno) -> bool {
    let cause = words::cause(errno).as_bytes();
    let name = service.as_bytes();
    words::complain(&[b"warning: ", what.as_bytes(), name, rest.as_bytes(), cause]);
    false
}
