//! `./check` of the working directory: whether the service does its work, as its own script sees it.

use crate::applets::words;
use crate::os::{Child, Environment, changed_signals, spawn};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, FdFlag, OFlag, fcntl};
use nix::sys::resource::{Resource, getrlimit};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{Pid, pipe2, read};
use std::ffi::OsStr;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;

/// Waits for the script, however long it takes. Passed when there is none; and not when it was
/// killed or could not be run, which is no answer.
pub fn passes(service: &OsStr) -> bool {
    match nix::sys::stat::stat("check") {
        Ok(_) => {}
        Err(Errno::ENOENT) => return true,
        Err(errno) => return refuse("unable to stat ", service, errno),
    }
    let child = match start() {
        Ok((child, None)) => child,
        Ok((child, Some(errno))) => {
            let _ = end_of(child);
            return refuse("unable to run ", service, errno);
        }
        Err(errno) => return refuse("unable to fork for ", service, errno),
    };
    match end_of(child) {
        Ok(WaitStatus::Exited(_, code)) => code == 0,
        Ok(_) => false,
        Err(errno) => refuse("unable to wait for child ", service, errno),
    }
}

/// The process, and why it could not become the script.
///
/// Not by std's Command: that takes a name without a slash for one to be found on PATH, and the
/// script's `$0` is `check`.
fn start() -> Result<(Pid, Option<Errno>), Errno> {
    let (report, report_there) = pipe2(OFlag::O_CLOEXEC)?;
    // The script has no stdout at all. Closed by its exec, ours stays.
    let _ = fcntl(std::io::stdout(), FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC));
    let child = spawn(&Child {
        program: c"check",
        argv: &[c"./check".to_owned()],
        environment: &Environment::of_this_process(),
        session: false,
        keep_ignored: true,
        changed: changed_signals(),
        directory: None,
        standard: [None; 3],
        extra: None,
        report: report_there.as_fd(),
        keep_report: false,
        nofile: getrlimit(Resource::RLIMIT_NOFILE)?,
        oom: b"",
        steps: [0; 4],
        shares: None,
    })
    .map_err(|error| Errno::from_raw(error.raw_os_error().unwrap_or(0)))?;
    drop(report_there);
    // A step and its errno come only if the exec did not.
    let mut record = [0; 5];
    let failed = match read(&report, &mut record) {
        Ok(0) | Err(_) => None,
        Ok(_) => {
            let [_step, errno @ ..] = record;
            Some(Errno::from_raw(i32::from_ne_bytes(errno)))
        }
    };
    Ok((child, failed))
}

fn end_of(child: Pid) -> Result<WaitStatus, Errno> {
    loop {
        match waitpid(child, None) {
            Err(Errno::EINTR) => {}
            other => return other,
        }
    }
}

fn refuse(what: &str, service: &OsStr, errno: Errno) -> bool {
    let cause = words::cause(errno).as_bytes();
    let name = service.as_bytes();
    words::complain(&[b"warning: ", what.as_bytes(), name, b"/check: ", cause]);
    false
}
