//! What runit's programs say when a system call fails. Scripts and people grep for it.

pub use crate::os::wording::cause;
use std::io::Write;

/// One line on stderr by one write(2), so that lines of several programs don't mix.
pub fn complain(parts: &[&[u8]]) {
    let mut line = parts.concat();
    line.push(b'\n');
    // There is nobody to tell.
    let _ = std::io::stderr().write_all(&line);
}
