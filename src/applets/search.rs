//! Running a program by its name, with runit's rules: the PATH of the tool itself counts and not the
//! one it gives to the program, an empty element is the working directory, and a file that can't be
//! run does not end the search but is what is reported at its end. A script without `#!` is not
//! handed to a shell.

use nix::errno::Errno;
use std::ffi::{CString, OsStr};
use std::os::unix::ffi::OsStrExt;

/// Where programs are looked for when there is no PATH.
const DEFAULT_PATH: &[u8] = b"/bin:/usr/bin";

/// Returns only when it could not be run.
pub fn exec(program: &OsStr, argv: &[CString], environment: &[CString]) -> Errno {
    let name = program.as_bytes();
    if name.contains(&b'/') {
        return attempt(name, argv, environment);
    }
    let path = std::env::var_os("PATH");
    let path = path.as_deref().map_or(DEFAULT_PATH, OsStrExt::as_bytes);
    let mut remembered = Errno::ENOENT;
    for dir in path.split(|byte| *byte == b':') {
        let dir: &[u8] = if dir.is_empty() { b"." } else { dir };
        match attempt(&[dir, b"/", name].concat(), argv, environment) {
            Errno::ENOENT => {}
            errno @ (Errno::EACCES | Errno::EPERM | Errno::EISDIR) => remembered = errno,
            errno => return errno,
        }
    }
    remembered
}

fn attempt(file: &[u8], argv: &[CString], environment: &[CString]) -> Errno {
    let Ok(file) = CString::new(file) else {
        return Errno::ENOENT;
    };
    match nix::unistd::execve(&file, argv, environment) {
        Ok(never) => match never {},
        Err(errno) => errno,
    }
}
