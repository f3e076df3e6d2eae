//! What runit's programs are called, and where a name that was called leads to. Knows nothing of the
//! programs themselves: the command line, which links them, may import this and no more.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

/// All names, as `outlast applets` links them.
pub const NAMES: &[&str] = &[
    "sv",
    "runsv",
    "runsvdir",
    "svlogd",
    "chpst",
    "runit",
    "runit-init",
    "utmpset",
    "runsvchdir",
    "envdir",
    "envuidgid",
    "setuidgid",
    "softlimit",
    "setlock",
    "pgrphack",
    "denvdir",
    "denvuidgid",
    "dsetuidgid",
    "dsoftlimit",
    "dsetlock",
    "dpgrphack",
];

/// The file behind a name that was called, as the shell found it.
pub fn found(argv0: &OsStr) -> Option<PathBuf> {
    let path = Path::new(argv0);
    if argv0.as_encoded_bytes().contains(&b'/') {
        return Some(path.to_owned());
    }
    let dirs = std::env::var_os("PATH")?;
    std::env::split_paths(&dirs)
        .map(|dir| dir.join(path))
        .find(|file| file.symlink_metadata().is_ok())
}
