//! An environment directory, daemontools' and runit's way: each file's name is a variable, its first
//! line the value, an empty file unsets. chpst's `-e` and envdir.

use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;
use nix::unistd::{chdir, fchdir};
use std::ffi::{CStr, CString, OsStr, OsString};
use std::fs::File;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;

/// Most of a file that is read, in bytes. More than the kernel lets one variable have on any
/// machine, so that the exec is refused where more would have been needed.
const VALUE_BYTES_MAX: usize = 4 * 1024 * 1024;

/// What could not be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stage {
    OpenWorkingDirectory,
    Enter,
    Open,
    List,
    /// A file of this name.
    Read(OsString),
    GoBack,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    pub stage: Stage,
    pub errno: Errno,
}

fn at(stage: Stage) -> impl FnOnce(Errno) -> Trouble {
    move |errno| Trouble { stage, errno }
}

/// The changes that the directory asks for, in its own order: `NAME=VALUE` sets, `NAME` unsets.
/// A directory in it is trouble unless `skipped` is there to be told its name.
///
/// It is entered and left again, as runit does it, so that whoever may not do that is refused.
pub fn changes(
    directory: &OsStr,
    mut skipped: Option<&mut dyn FnMut(&OsStr)>,
) -> Result<Vec<CString>, Trouble> {
    let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK;
    let back = open(".", flags, Mode::empty()).map_err(at(Stage::OpenWorkingDirectory))?;
    chdir(directory).map_err(at(Stage::Enter))?;
    let mut listed =
        Dir::open(".", flags | OFlag::O_DIRECTORY, Mode::empty()).map_err(at(Stage::Open))?;
    let mut changes = Vec::new();
    // runit's one buffer for all files: what has vanished since it was listed, and a dangling link,
    // get what the file before left in it.
    let mut held = Vec::new();
    for entry in listed.iter() {
        let entry = entry.map_err(at(Stage::List))?;
        let name = entry.file_name();
        if name.to_bytes().starts_with(b".") {
            continue;
        }
        let shown = OsStr::from_bytes(name.to_bytes());
        match read(name, &mut held) {
            Ok(()) => changes.push(change(name, &mut held)),
            Err(Errno::EISDIR) if skipped.is_some() => {
                if let Some(tell) = &mut skipped {
                    tell(shown);
                }
            }
            Err(errno) => return Err(at(Stage::Read(shown.to_owned()))(errno)),
        }
    }
    drop(listed);
    fchdir(&back).map_err(at(Stage::GoBack))?;
    Ok(changes)
}

/// Leaves the buffer as it is when there is no such file.
fn read(name: &CStr, held: &mut Vec<u8>) -> Result<(), Errno> {
    // Without waiting for a writer where the file is a FIFO.
    let opened = open(name, OFlag::O_RDONLY | OFlag::O_NONBLOCK, Mode::empty());
    let mut file = match opened {
        Ok(file) => File::from(file),
        Err(Errno::ENOENT) => return Ok(()),
        Err(errno) => return Err(errno),
    };
    held.clear();
    let mut chunk = [0; 4096];
    loop {
        match file.read(&mut chunk) {
            Ok(0) => return Ok(()),
            Ok(bytes) => {
                let new = chunk.get(..bytes).unwrap_or_default();
                held.extend(new);
                // Nothing behind the first line counts.
                if new.contains(&b'\n') || held.len() > VALUE_BYTES_MAX {
                    return Ok(());
                }
            }
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(Errno::from_raw(error.raw_os_error().unwrap_or(0))),
        }
    }
}

fn change(name: &CStr, held: &mut Vec<u8>) -> CString {
    let mut change = name.to_bytes().to_vec();
    if let Some(value) = value(held) {
        change.push(b'=');
        change.extend(value);
    }
    // Neither a file's name nor what `value` returns holds a NUL; an impossible one would unset.
    CString::new(change).unwrap_or_else(|_| name.to_owned())
}

/// What a file of this content sets the variable to; None unsets it. The buffer is left as runit
/// leaves it, with the value and its NUL.
pub fn value(held: &mut Vec<u8>) -> Option<Vec<u8>> {
    if held.is_empty() {
        return None;
    }
    let line = held.iter().position(|byte| *byte == b'\n');
    held.truncate(line.unwrap_or(held.len()));
    while held.pop_if(|last| matches!(last, b' ' | b'\t')).is_some() {}
    for byte in held.iter_mut().filter(|byte| **byte == 0) {
        *byte = b'\n';
    }
    let value = held.clone();
    held.push(0);
    Some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(content: &[u8]) -> Option<Vec<u8>> {
        value(&mut content.to_vec())
    }

    #[test]
    fn the_first_line_counts_less_its_trailing_blanks() {
        assert_eq!(of(b""), None);
        assert_eq!(of(b"\n"), Some(b"".to_vec()));
        assert_eq!(of(b" \t \nx"), Some(b"".to_vec()));
        assert_eq!(of(b"a b \t\nx"), Some(b"a b".to_vec()));
        assert_eq!(of(b" a\0 \0"), Some(b" a\n \n".to_vec()));
    }

    #[test]
    fn a_directory_is_trouble_unless_somebody_is_told() {
        let dir = tempfile::tempdir().expect("dir");
        std::fs::create_dir(dir.path().join("sub")).expect("sub");
        let path = dir.path().as_os_str();
        let trouble = changes(path, None).expect_err("a directory");
        assert_eq!(trouble.stage, Stage::Read("sub".into()));
        assert_eq!(trouble.errno, Errno::EISDIR);
    }
}
