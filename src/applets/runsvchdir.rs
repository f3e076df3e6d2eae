//! runsvchdir: another set of services becomes the current one, the one before it the previous.

use super::{usage, words};
use nix::errno::Errno;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, symlink};

const SETS: &str = "/etc/runit/runsvdir";
const EXIT_USAGE: u8 = 1;
const EXIT_FATAL: u8 = 111;

pub fn runsvchdir(args: &[OsString]) -> u8 {
    let argv0 = args.first().map_or(OsStr::new(""), OsString::as_os_str);
    let Some(set) = args.get(1) else {
        usage::usage(argv0.as_bytes(), "dir");
        return EXIT_USAGE;
    };
    match change(set) {
        Ok(outcome) => {
            words::complain(&[b"runsvchdir: ", set.as_bytes(), outcome]);
            0
        }
        Err(message) => {
            words::complain(&[argv0.as_bytes(), b": ", &message]);
            EXIT_FATAL
        }
    }
}

/// `fatal: WHAT: CAUSE`
fn fatal(what: &[&[u8]], error: &io::Error) -> Vec<u8> {
    let errno = Errno::from_raw(error.raw_os_error().unwrap_or(0));
    let cause = words::cause(errno).as_bytes();
    [b"fatal: ", what.concat().as_slice(), b": ", cause].concat()
}

fn change(set: &OsStr) -> Result<&'static [u8], Vec<u8>> {
    let name = set.as_bytes();
    if name.starts_with(b".") {
        return Err([b"fatal: ", name, b": must not start with a dot."].concat());
    }
    std::env::set_current_dir(SETS)
        .map_err(|error| fatal(&[b"unable to chdir: ", SETS.as_bytes()], &error))?;
    let wanted = fs::metadata(set).map_err(|error| fatal(&[name], &error))?;
    if !wanted.is_dir() {
        // Without anything between the two, as runit writes it.
        return Err([b"fatal: ", name, b"not a directory."].concat());
    }
    let current =
        fs::metadata("current").map_err(|error| fatal(&[b"unable to stat: current"], &error))?;
    if (current.dev(), current.ino()) == (wanted.dev(), wanted.ino()) {
        return Ok(b": current.");
    }
    remove("current.new")?;
    symlink(set, "current.new")
        .map_err(|error| fatal(&[b"unable to create: current.new -> ", name], &error))?;
    remove("previous")?;
    fs::rename("current", "previous")
        .map_err(|error| fatal(&[b"unable to copy: current to previous"], &error))?;
    if let Err(error) = fs::rename("current.new", "current") {
        let moved = fatal(&[b"unable to move: current.new to current"], &error);
        return Err(match fs::rename("previous", "current") {
            Ok(()) => moved,
            Err(error) => fatal(&[b"unable to move previous back to current"], &error),
        });
    }
    Ok(b": now current.")
}

fn remove(name: &str) -> Result<(), Vec<u8>> {
    match fs::remove_file(name) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(fatal(&[b"unable to unlink: ", name.as_bytes()], &error))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}
