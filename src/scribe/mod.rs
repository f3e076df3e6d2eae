//! The scribe: the process that reads every service's output and writes the logs.
//!
//! The main thread holds the link to the supervisor and never touches a disk. Each file system
//! that logs are on has a *lane*, a thread of its own, so that a full or hanging disk delays only
//! the logs on it; *scouts* find out which file system a directory is on, since even that can
//! hang. All wait in epoll or poll: nothing wakes up while nothing happens.
//!
//! It never decides anything about services and never signals one. It may be killed at any time:
//! the pipes stay open in the keeper, and so does the *journal*, from which the next scribe knows
//! what was taken from a pipe and how far it came. No line is lost, doubled, torn or moved by it.
//!
//! Started by the keeper as `outlast-scribe [--echo=FORMAT]` with the link as descriptor 3.

mod echo;
mod journal;
mod lane;
mod link;
mod mail;
mod outbox;
mod recent;
mod router;
mod scout;
mod slot;

use crate::ipc::wire::Format;
use crate::os::fds;
use nix::sys::prctl;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use std::ffi::OsString;

/// The descriptor that the link comes as.
const LINK_FD: i32 = 3;
/// Open files wanted: three for each of ten thousand logs.
const NOFILE_WANTED: u64 = 40_000;

/// The whole life of the process; returns its exit code.
pub fn run(arguments: &[OsString]) -> i32 {
    let _ = prctl::set_name(c"outlast-scribe");
    let mut echoes = None;
    for argument in arguments {
        let format = argument
            .to_str()
            .and_then(|text| text.strip_prefix("--echo="));
        echoes = format.and_then(Format::named);
        if echoes.is_none() {
            eprintln!(
                "outlast-scribe: unknown argument {argument:?}; usage: outlast-scribe \
                 [--echo=text|stamped|json]"
            );
            return 2;
        }
    }
    let Some(socket) = fds::inherited(LINK_FD) else {
        eprintln!(
            "outlast-scribe: descriptor {LINK_FD} is not open; it is started by the supervisor, \
             not by hand"
        );
        return 2;
    };
    fds::raise_nofile(NOFILE_WANTED);
    let signals = match quiet_signals() {
        Ok(signals) => signals,
        Err(error) => {
            eprintln!("outlast-scribe: cannot set up signals: {}", error.desc());
            return 1;
        }
    };
    let echo = echoes.map(echo::Echo::start);
    match link::serve(socket, Some(signals), echo) {
        Ok(()) => 0,
        Err(error) => {
            eprintln!("outlast-scribe: cannot go on: {error}; a new one is started");
            1
        }
    }
}

/// TERM becomes readable. INT and HUP, meant for the terminal's owner, and XFSZ (a write past a
/// limit shall fail, not kill) stay blocked for good, in every thread made after this.
fn quiet_signals() -> nix::Result<SignalFd> {
    let mut blocked = SigSet::empty();
    for signal in [
        Signal::SIGINT,
        Signal::SIGHUP,
        Signal::SIGXFSZ,
        Signal::SIGTERM,
    ] {
        blocked.add(signal);
    }
    blocked.thread_block()?;
    let mut read = SigSet::empty();
    read.add(Signal::SIGTERM);
    SignalFd::with_flags(&read, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)
}

#[cfg(test)]
mod tests;
