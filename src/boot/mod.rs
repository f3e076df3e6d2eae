//! What a machine needs before its services start and after they have ended, each in a child of
//! process 1: runit's scripts on the console, our own stages where there are none, the emergency
//! shell, and the last system calls.
//!
//! A fresh process each time: it may wait, allocate and speak, and its end harms nobody. It never
//! decides what comes next; that is `keeper::stages`, which starts it as `outlast-stage`.

mod begin;
mod console;
mod finish;
mod mounts;
mod skip;

use crate::os::wording::cause;
use crate::os::{default_sigpipe, environment, fds};
use nix::errno::Errno;
use nix::sys::reboot::{RebootMode, reboot};
use nix::unistd::execve;
use std::ffi::{CString, OsStr, OsString};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Where process 1 hears that a script could not be executed.
const REPORT: i32 = 4;
/// runit's own mark that disks are not to be written out, for containers.
const NO_SYNC: &str = "/etc/runit/nosync";
/// runit ends so where a script can't be executed.
const UNEXECUTED: u8 = 0;
const FAILED: u8 = 111;

/// Exit code of a stage. `args` come from process 1.
pub fn main(args: &[OsString]) -> u8 {
    let report = fds::inherited(REPORT);
    let words: Vec<&OsStr> = args.iter().map(OsString::as_os_str).collect();
    let text = |word: &OsStr| word.to_str().unwrap_or_default().to_owned();
    match words.as_slice() {
        [kind, number, path] if *kind == "script" => {
            console::provide(*number == "1");
            script(path, report)
        }
        [number] if *number == "1" => {
            console::provide(true);
            begin::run()
        }
        [number] if *number == "3" => {
            console::provide(false);
            finish::run()
        }
        [kind, reason] if *kind == "shell" => {
            console::provide(true);
            console::become_shell(&text(reason))
        }
        [kind, how] if *kind == "last" => last(*how == "reboot"),
        _ => {
            say("only process 1 starts me; boot with init=/path/to/outlast -- init");
            FAILED
        }
    }
}

/// Returns only when it can't be executed.
fn script(path: &OsStr, report: Option<OwnedFd>) -> u8 {
    let errno = match CString::new(path.as_bytes()) {
        Ok(file) => {
            default_sigpipe();
            let Err(errno) = execve(&file, &[&file], &environment());
            errno
        }
        Err(_) => Errno::EINVAL,
    };
    if let Some(report) = report {
        let _ = nix::unistd::write(&report, &(errno as i32).to_ne_bytes());
    }
    let path = path.to_string_lossy();
    eprintln!(
        "- runit: fatal: unable to start child: {path}: {}",
        cause(errno)
    );
    UNEXECUTED
}

/// Returns only when the kernel refuses.
fn last(reboots: bool) -> u8 {
    if !Path::new(NO_SYNC).exists() {
        nix::unistd::sync();
    }
    let modes: &[RebootMode] = match reboots {
        true => &[RebootMode::RB_AUTOBOOT],
        false => &[RebootMode::RB_POWER_OFF, RebootMode::RB_HALT_SYSTEM],
    };
    for mode in modes {
        let Err(errno) = reboot(*mode);
        say(&format!("the kernel does not end the machine: {errno}"));
    }
    FAILED
}

fn say(words: &str) {
    eprintln!("- outlast: {words}");
}
