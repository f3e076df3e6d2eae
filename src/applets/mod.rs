//! runit's programs. Called by one of their names, outlast is that program: same options, words,
//! exit codes, files. `tests/compat` runs each promise beside runit's own, QUIRKS.md there lists
//! where we differ on purpose.
//!
//! Each is thin: it reads its options and calls the room that does the work. Nothing here is built
//! on clap, whose rules and start-up time are not theirs. Called from `main` alone.

mod options;
mod runsv;
mod runsvdir;
mod search;
mod words;

use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::{Path, PathBuf};

/// Argument vector, program name included, to exit code.
pub type Applet = fn(&[OsString]) -> u8;

/// Links followed from the name that was called. As many as the kernel follows (path_resolution(7)).
const LINKS_MAX: usize = 40;

/// The program of this name. chpst's daemontools names may have a leading `d`.
fn named(name: &str) -> Option<Applet> {
    match name {
        "runsv" => Some(runsv::main),
        "runsvdir" => Some(runsvdir::main),
        _ => None,
    }
}

/// Which program `argv0` asks for: the first name along the chain of links that is one. `sv` linked
/// to from `/etc/init.d/web` is found so, and sees that it was called `web`.
pub fn called(argv0: &OsStr) -> Option<Applet> {
    let direct = base_name(argv0).and_then(named);
    // Our own name is the usual case and needs no look at the disk.
    if direct.is_some() || base_name(argv0) == Some("outlast") {
        return direct;
    }
    let mut path = found(argv0)?;
    for _ in 0..LINKS_MAX {
        let target = fs::read_link(&path).ok()?;
        path = match path.parent() {
            Some(parent) => parent.join(target),
            None => target,
        };
        if let Some(applet) = base_name(path.as_os_str()).and_then(named) {
            return Some(applet);
        }
    }
    None
}

/// The file behind a name that was called, as the shell found it.
fn found(argv0: &OsStr) -> Option<PathBuf> {
    let path = Path::new(argv0);
    if argv0.as_encoded_bytes().contains(&b'/') {
        return Some(path.to_owned());
    }
    let dirs = std::env::var_os("PATH")?;
    std::env::split_paths(&dirs)
        .map(|dir| dir.join(path))
        .find(|file| file.symlink_metadata().is_ok())
}

fn base_name(path: &OsStr) -> Option<&str> {
    Path::new(path).file_name()?.to_str()
}
