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
mod runsv;
mod runsvchdir;
mod runsvdir;
mod search;
mod sv;
mod svlogd;
mod usage;
mod utmpset;
mod words;

use crate::os::executed_as;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::{Path, PathBuf};

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
        "init" => runit_init::init,
        "runit" => runit_init::runit,
        "runit-init" => runit_init::runit_init,
        "runsv" => runsv::main,
        "runsvchdir" => runsvchdir::runsvchdir,
        "runsvdir" => runsvdir::main,
        "setlock" | "dsetlock" => chpst::setlock,
        "setuidgid" | "dsetuidgid" => chpst::setuidgid,
        "softlimit" | "dsoftlimit" => chpst::softlimit,
        "sv" => sv::main,
        "svlogd" => svlogd::main,
        "utmpset" => utmpset::utmpset,
        _ => return None,
    })
}

/// Which program `argv0` asks for: that one, or else the first name that is one along the chain of
/// links by which we were executed. `sv` linked to from `/etc/init.d/web` is found so, and sees that
/// it was called `web`.
pub fn called(argv0: &OsStr) -> Option<Applet> {
    let direct = base_name(argv0).and_then(named);
    // Our own name is the usual case and needs no look at the disk.
    if direct.is_some() || base_name(argv0) == Some("outlast") {
        return direct;
    }
    // Not a search of PATH for argv[0]: that need not be the name of any file.
    named_in_chain(executed_as()?.into())
}

/// Each link is read where the kernel finds it: a path with a link to a directory in it must not
/// be shortened by its text (`link/../x` is not `x`).
fn named_in_chain(mut path: PathBuf) -> Option<Applet> {
    for _ in 0..=LINKS_MAX {
        // A link called `init` may be anybody's; whoever means process 1 calls it so.
        let name = base_name(path.as_os_str()).filter(|name| *name != "init");
        if let Some(applet) = name.and_then(named) {
            return Some(applet);
        }
        let target = fs::read_link(&path).ok()?;
        path = match path.parent() {
            Some(parent) => parent.join(target),
            None => target,
        };
    }
    None
}

fn base_name(path: &OsStr) -> Option<&str> {
    Path::new(path).file_name()?.to_str()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn the_first_name_along_the_links_that_is_a_program_counts() {
        let dir = tempfile::tempdir().expect("directory");
        let at = |name: &str| dir.path().join(name);
        for below in ["bin", "etc/init.d", "etc/rc2.d"] {
            fs::create_dir_all(at(below)).expect("directory");
        }
        symlink("../outlast", at("bin/sv")).expect("link");
        symlink("sv", at("bin/other")).expect("link");
        symlink("../../bin/other", at("etc/init.d/web")).expect("link");
        symlink("../init.d/web", at("etc/rc2.d/S20web")).expect("link");
        // Read by its text, through/../../bin would lie outside.
        symlink("etc/init.d", at("through")).expect("link");
        symlink(at("through/web"), at("absolute")).expect("link");
        for name in [
            "bin/sv",
            "bin/other",
            "etc/init.d/web",
            "etc/rc2.d/S20web",
            "through/web",
            "absolute",
        ] {
            assert!(named_in_chain(at(name)).is_some(), "{name}");
        }
    }

    #[test]
    fn chains_that_end_elsewhere_or_nowhere_are_no_program() {
        let dir = tempfile::tempdir().expect("directory");
        let at = |name: &str| dir.path().join(name);
        fs::create_dir(at("sv")).expect("directory");
        symlink("sv/nothing", at("dangling")).expect("link");
        symlink("there", at("back")).expect("link");
        symlink("back", at("there")).expect("link");
        fs::write(at("file"), "").expect("file");
        for name in ["dangling", "back", "file", "missing", "sv/.."] {
            assert!(named_in_chain(at(name)).is_none(), "{name}");
        }
        assert!(named_in_chain(PathBuf::new()).is_none());
    }

    #[test]
    fn as_many_links_as_the_kernel_follows_and_no_more() {
        let dir = tempfile::tempdir().expect("directory");
        let at = |number: usize| dir.path().join(format!("link{number}"));
        symlink("sv", at(0)).expect("link");
        for number in 1..=LINKS_MAX {
            symlink(format!("link{}", number - 1), at(number)).expect("link");
        }
        assert!(named_in_chain(at(LINKS_MAX - 1)).is_some());
        assert!(named_in_chain(at(LINKS_MAX)).is_none());
    }
}
