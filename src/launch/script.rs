//! Why a file can't be executed, found out by looking at it: execve(2) says ENOENT for a script
//! whose interpreter is missing and EACCES for five different reasons.

use nix::errno::Errno;
use nix::sys::statvfs::{FsFlags, statvfs};
use nix::unistd::{AccessFlags, access};
use std::fs::{self, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

/// The kernel reads this much of a script's first line (BINPRM_BUF_SIZE).
const FIRST_LINE_BYTES_MAX: usize = 256;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Trouble {
    Missing,
    DanglingLink(String),
    Directory,
    NotExecutable,
    NoExecMount,
    /// The #! line ends in CR LF; what stands before the CR.
    CarriageReturn(String),
    InterpreterMissing(String),
    InterpreterNotExecutable(String),
    NoFirstLine,
    WrongFormat,
    /// An ELF file whose own loader is missing.
    LoaderMissing,
    /// The errno says it all.
    Other,
}

/// `errno` is what execve said about `path`. The file is looked at a moment later, so it may have
/// changed; then the answer is `Other`, or what would be said now.
pub(super) fn look(path: &Path, errno: Errno) -> Trouble {
    let metadata = match fs::metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return match fs::read_link(path) {
                Ok(target) => Trouble::DanglingLink(shown(&target.to_string_lossy())),
                Err(_) => Trouble::Missing,
            };
        }
        Err(_) => return Trouble::Other,
    };
    if metadata.is_dir() {
        return Trouble::Directory;
    }
    let first_line = first_line(path);
    match errno {
        Errno::EACCES if metadata.permissions().mode() & 0o111 == 0 => Trouble::NotExecutable,
        Errno::EACCES if noexec(path) => Trouble::NoExecMount,
        Errno::EACCES | Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP => {
            interpreter(&first_line, errno)
        }
        Errno::ENOEXEC if first_line.starts_with(b"\x7fELF") => Trouble::WrongFormat,
        Errno::ENOEXEC if first_line.starts_with(b"#!") => interpreter(&first_line, errno),
        Errno::ENOEXEC => Trouble::NoFirstLine,
        _ => Trouble::Other,
    }
}

/// The file itself can be executed: what its first line asks for can't.
fn interpreter(first_line: &[u8], errno: Errno) -> Trouble {
    let Some(asked) = first_line.strip_prefix(b"#!") else {
        let elf = first_line.starts_with(b"\x7fELF");
        return if elf && errno == Errno::ENOENT {
            Trouble::LoaderMissing
        } else {
            Trouble::Other
        };
    };
    let line = asked
        .split(|byte| *byte == b'\n')
        .next()
        .unwrap_or_default();
    // Only blanks and tabs end a word for the kernel: a CR is a part of the name.
    let mut words = line.split(|byte| matches!(byte, b' ' | b'\t'));
    let name = words.find(|word| !word.is_empty()).unwrap_or_default();
    let name = String::from_utf8_lossy(name).into_owned();
    if let Some(name) = name.strip_suffix('\r') {
        return Trouble::CarriageReturn(shown(name));
    }
    match fs::metadata(&name) {
        _ if name.is_empty() => Trouble::NoFirstLine,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Trouble::InterpreterMissing(shown(&name))
        }
        Ok(found) if found.is_file() && access(name.as_str(), AccessFlags::X_OK).is_ok() => {
            Trouble::Other
        }
        Ok(_) | Err(_) => Trouble::InterpreterNotExecutable(shown(&name)),
    }
}

fn first_line(path: &Path) -> Vec<u8> {
    let mut bytes = Vec::new();
    // A FIFO in the place of the script must not be waited for.
    let opened = OpenOptions::new()
        .read(true)
        .custom_flags(nix::libc::O_NONBLOCK | nix::libc::O_NOCTTY)
        .open(path);
    if let Ok(file) = opened {
        // What can't be read is shown as unknown.
        let _ = file
            .take(FIRST_LINE_BYTES_MAX as u64)
            .read_to_end(&mut bytes);
    }
    bytes
}

fn noexec(path: &Path) -> bool {
    statvfs(path).is_ok_and(|it| it.flags().contains(FsFlags::ST_NOEXEC))
}

/// A name out of a file, fit for a terminal.
fn shown(name: &str) -> String {
    name.escape_debug().collect()
}
