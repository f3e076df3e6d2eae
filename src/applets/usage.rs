//! What is shown to somebody who has called a program wrongly, as djb's getopt and runit write it.

use super::options::Given;
use super::words::complain;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

/// What stands behind the last slash. Of `dir/` that is nothing.
pub fn base_name(argv0: &OsStr) -> &[u8] {
    let bytes = argv0.as_bytes();
    bytes.rsplit(|byte| *byte == b'/').next().unwrap_or(bytes)
}

/// getopt's own complaint; nothing for an option that is one. The name's directories are left out.
pub fn complain_of(argv0: &OsStr, given: &Given) {
    let (what, letter): (&[u8], u8) = match given {
        Given::Unknown(letter) => (b": illegal option -- ", *letter),
        Given::Incomplete(letter) => (b": option requires an argument -- ", *letter),
        Given::Flag(_) | Given::Value(..) => return,
    };
    complain(&[base_name(argv0), what, &[letter]]);
}

/// The line that -V prints before the usage.
pub fn version() {
    complain(&[b"outlast ", env!("CARGO_PKG_VERSION").as_bytes()]);
}

/// The line and the empty line behind it.
pub fn usage(name: &[u8], text: &str) {
    complain(&[b"usage: ", name, b" ", text.as_bytes(), b"\n"]);
}
