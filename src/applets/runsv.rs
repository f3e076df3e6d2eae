//! runsv DIR: one service directory, looked after by the very process that was called.
//!
//! It takes the locks and makes the FIFOs, so that what is wrong with them is its own exit code; then
//! it becomes the keeper without an exec: same number, name and command line, as pgrep(1), Debian's
//! runsvdir and people expect. The supervisor is its child.

use super::words::{cause, complain};
use crate::keeper;
use crate::supervisor::manner;
use crate::svdir::left;
use crate::svdir::supervise::{self, Fifos, OpenError, Supervise};
use nix::errno::Errno;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::{Duration, Instant};

const USAGE: u8 = 1;
const FATAL: u8 = 111;
/// A supervisor whose keeper was killed holds the lock until it has written down what its successor
/// needs: an instant, but on a busy machine a long one.
const LOCK_PATIENCE: Duration = Duration::from_secs(5);
/// ... when it is not seen that whoever took the lock has ended: most likely it is somebody's for good.
const HELD_PATIENCE: Duration = Duration::from_millis(200);
const LOCK_PAUSE: Duration = Duration::from_millis(20);

pub fn main(args: &[OsString]) -> u8 {
    let [_, dir] = args else {
        let program = args.first().map_or(&b"runsv"[..], |name| name.as_bytes());
        complain(&[b"usage: ", program, b" dir\n"]);
        return USAGE;
    };
    // Held until we end, whoever supervises meanwhile.
    let held = match prepare(dir) {
        Ok(held) => held,
        Err(words) => {
            say(dir, "fatal", &words);
            return FATAL;
        }
    };
    keeper::hold_here(&manner::runsv(held.log.is_some(), dir))
}

struct Held {
    _main: Supervise,
    log: Option<(OwnedFd, Fifos)>,
}

fn prepare(dir: &OsStr) -> Result<Held, String> {
    std::env::set_current_dir(dir)
        .map_err(|error| format!("unable to change to directory: {}", because(&error)))?;
    let has_log = match fs::metadata("log") {
        Ok(found) if found.is_dir() => true,
        Ok(_) => {
            say(dir, "warning", "./log: not a directory.");
            false
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => false,
        Err(error) => {
            let words = format!("unable to stat() ./log: {}", because(&error));
            say(dir, "warning", &words);
            false
        }
    };
    let here = Path::new(".");
    let main = open(here).map_err(|error| error.as_runsv(false))?;
    begin(here);
    let log = match has_log {
        true => Some(prepare_log(Path::new("log")).map_err(|error| error.as_runsv(true))?),
        false => None,
    };
    Ok(Held { _main: main, log })
}

fn prepare_log(dir: &Path) -> Result<(OwnedFd, Fifos), OpenError> {
    let lock = supervise::wait_for_lock(dir)?;
    begin(dir);
    Ok((lock, supervise::fifos(dir)?))
}

fn open(dir: &Path) -> Result<Supervise, OpenError> {
    let begun = Instant::now();
    loop {
        let opened = supervise::open(dir);
        if !matches!(opened, Err(OpenError::Locked(_))) {
            return opened;
        }
        let patience = match supervise::is_held_by_the_living(dir) {
            true => HELD_PATIENCE,
            false => LOCK_PATIENCE,
        };
        if begun.elapsed() >= patience {
            return opened;
        }
        std::thread::park_timeout(LOCK_PAUSE);
    }
}

/// The first status, unless there is somebody alive of whom the old one speaks.
fn begin(dir: &Path) {
    if left::read(dir).is_none() {
        // A failure shows again, and is told, when the supervisor writes.
        let _ = supervise::write_anew(dir);
    }
}

fn because(error: &io::Error) -> &'static str {
    cause(error.raw_os_error().map_or(Errno::EIO, Errno::from_raw))
}

fn say(dir: &OsStr, kind: &str, words: &str) {
    complain(&[
        b"runsv ",
        dir.as_bytes(),
        b": ",
        kind.as_bytes(),
        b": ",
        words.as_bytes(),
    ]);
}
