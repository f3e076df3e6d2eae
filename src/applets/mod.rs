//! runit's programs. Called by one of their names, outlast is that program: same options, words,
//! exit codes, files. `tests/compat` runs each promise beside runit's own, QUIRKS.md there lists
//! where we differ on purpose.
//!
//! Each is thin: it reads its options and calls the room that does the work. Nothing here is built
//! on clap, whose rules and start-up time are not theirs. Called from `main` alone.

mod chpst;
pub mod names;
mod options;
pub mod properties;
mod runit_init;
mod runsvchdir;
mod search;
mod usage;
mod utmpset;
mod words;

use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::Path;

/// Argument vector, program name included, to exit code.
pub type Applet = fn(&[OsString]) -> u8;

/// Links followed from the name that was called. As many as the kernel follows (path_resolution(7)).
const LINKS_MAX: usize = 40;

/// The program of this name. chpst's daemontools names may have a leading `d`.
fn named(name: &str) -> Option<Applet> {
    Some(match name {
        "chpst" | "dchpst" => chpst::chpst,
        "envdir" | "denvdir" => chpst::envdir,
        "envuidgid" | "denvuidgid" => chpst::envuidgid,
        "pgrphack" | "dpgrphack" => chpst::pgrphack,
        "runit" => runit_init::runit,
        "runit-init" => runit_init::runit_init,
        "runsvchdir" => runsvchdir::runsvchdir,
        "setlock" | "dsetlock" => chpst::setlock,
        "setuidgid" | "dsetuidgid" => chpst::setuidgid,
        "softlimit" | "dsoftlimit" => chpst::softlimit,
        "utmpset" => utmpset::utmpset,
        _ => return None,
    })
}

/// Which program `argv0` asks for: the first name along the chain of links that is one. `sv` linked
/// to from `/etc/init.d/web` is found so, and sees that it was called `web`.
pub fn called(argv0: &OsStr) -> Option<Applet> {
    let direct = base_name(argv0).and_then(named);
    // Our own name is the usual case and needs no look at the disk.
    if direct.is_some() || base_name(argv0) == Some("outlast") {
        return direct;
    }
    let mut path = names::found(argv0)?;
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

fn base_name(path: &OsStr) -> Option<&str> {
    Path::new(path).file_name()?.to_str()
}
