//! Which services a scan directory holds: every subdirectory and every link to a directory whose
//! name does not begin with a dot. Looks, and changes nothing.

use crate::machine::spec::NAME_BYTES_MAX;
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs::{self, DirEntry};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// The log service of NAME is called NAME/log, and that name has to fit as well.
const OWN_NAME_BYTES_MAX: usize = NAME_BYTES_MAX - "/log".len();

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    pub name: String,
    /// What people call it.
    pub title: String,
    /// With `ino` what makes it the same directory, whatever it is called: a rename restarts
    /// nothing, and two names for one directory are one service.
    pub dev: u64,
    pub ino: u64,
    /// Of a link: a hash of where it leads by its own words.
    pub link: Option<u64>,
}

#[derive(Debug, Default)]
pub struct Scan {
    /// Sorted by name.
    pub found: Vec<Found>,
    /// What looks like a service but is left out: its name (as far as it can be shown) and why.
    pub odd: Vec<(String, String)>,
}

/// An error means that the scan directory itself can't be read: no reason to take any service for
/// removed.
pub fn scan(dir: &Path) -> io::Result<Scan> {
    let mut scan = Scan::default();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_name().as_bytes().starts_with(b".") {
            continue;
        }
        match look(&entry) {
            Ok(Some(found)) => scan.found.push(found),
            Ok(None) => {}
            Err(why) => {
                let name: String = entry.file_name().to_string_lossy().escape_debug().collect();
                scan.odd.push((name, why));
            }
        }
    }
    scan.found.sort_by(|a, b| a.name.cmp(&b.name));
    scan.odd.sort();
    Ok(scan)
}

/// One directory as runsvdir finds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub name: OsString,
    pub dev: u64,
    pub ino: u64,
}

/// A name that can't be looked at, and the errno.
pub type Unseen = (OsString, i32);

/// What runsvdir starts a runsv for, and what it can't look at. Any name that
/// does not begin with a dot; of two names for one directory the first.
pub fn scan_as_runsvdir(dir: &Path) -> io::Result<(Vec<Entry>, Vec<Unseen>)> {
    let mut names = Vec::new();
    for entry in fs::read_dir(dir)? {
        let name = entry?.file_name();
        if !name.as_bytes().starts_with(b".") {
            names.push(name);
        }
    }
    names.sort();
    let mut seen = BTreeSet::new();
    let (mut found, mut odd) = (Vec::new(), Vec::new());
    for name in names {
        match fs::metadata(dir.join(&name)) {
            Ok(target) if target.is_dir() => {
                let (dev, ino) = (target.dev(), target.ino());
                if seen.insert((dev, ino)) {
                    found.push(Entry { name, dev, ino });
                }
            }
            Ok(_) => {}
            Err(error) => odd.push((name, error.raw_os_error().unwrap_or_default())),
        }
    }
    Ok((found, odd))
}

/// None: a plain file, or gone since the directory was read.
fn look(entry: &DirEntry) -> Result<Option<Found>, String> {
    let kind = entry.file_type().map_err(|error| error.to_string())?;
    if !kind.is_dir() && !kind.is_symlink() {
        return Ok(None);
    }
    let target = match fs::metadata(entry.path()) {
        Ok(target) => target,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            if entry.path().is_symlink() {
                return Err("it is a link that leads nowhere".to_owned());
            }
            return Ok(None);
        }
        Err(error) if error.raw_os_error() == Some(nix::libc::ELOOP) => {
            return Err("it is a link that leads back to itself".to_owned());
        }
        Err(error) => return Err(format!("it can't be looked at: {error}")),
    };
    if !target.is_dir() {
        return Ok(None);
    }
    let name = name_of(entry)?;
    let (dev, ino) = (target.dev(), target.ino());
    let title = name.clone();
    let link = match kind.is_symlink() {
        true => fs::read_link(entry.path()).ok().map(|to| hash(&to)),
        false => None,
    };
    Ok(Some(Found {
        name,
        title,
        dev,
        ino,
        link,
    }))
}

fn hash(path: &Path) -> u64 {
    let mut hasher = DefaultHasher::new();
    path.hash(&mut hasher);
    hasher.finish()
}

fn name_of(entry: &DirEntry) -> Result<String, String> {
    let name = entry
        .file_name()
        .into_string()
        .map_err(|_| "its name is not UTF-8".to_owned())?;
    if name.len() > OWN_NAME_BYTES_MAX {
        return Err(format!(
            "its name is longer than {OWN_NAME_BYTES_MAX} bytes"
        ));
    }
    if name.chars().any(char::is_control) {
        return Err("its name holds control characters".to_owned());
    }
    Ok(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::OsStr;
    use std::os::unix::fs::symlink;

    #[test]
    fn directories_and_links_to_them_are_services_and_nothing_else_is() {
        let dir = tempfile::tempdir().expect("dir");
        let other = tempfile::tempdir().expect("dir");
        fs::create_dir(dir.path().join("b")).expect("b");
        fs::create_dir(dir.path().join(".hidden")).expect("hidden");
        fs::write(dir.path().join("README"), "").expect("file");
        symlink("README", dir.path().join("link-to-a-file")).expect("link");
        symlink(other.path(), dir.path().join("a")).expect("link");
        let scan = scan(dir.path()).expect("scan");
        let names: Vec<_> = scan.found.iter().map(|found| found.name.as_str()).collect();
        assert_eq!(names, ["a", "b"]);
        let target = fs::metadata(other.path()).expect("target");
        assert_eq!(
            (scan.found[0].dev, scan.found[0].ino),
            (target.dev(), target.ino())
        );
        assert!(scan.odd.is_empty());
    }

    #[test]
    fn runsvdir_takes_any_name_and_each_directory_once() {
        let dir = tempfile::tempdir().expect("dir");
        fs::create_dir(dir.path().join(OsStr::from_bytes(b"\xff"))).expect("bytes");
        fs::create_dir(dir.path().join("b")).expect("b");
        symlink("b", dir.path().join("a")).expect("link");
        symlink("nowhere", dir.path().join("c")).expect("link");
        fs::write(dir.path().join("file"), "").expect("file");
        let (found, odd) = scan_as_runsvdir(dir.path()).expect("scan");
        let names: Vec<_> = found.iter().map(|entry| entry.name.as_bytes()).collect();
        assert_eq!(names, [&b"a"[..], b"\xff"]);
        assert_eq!(odd, [(OsString::from("c"), nix::libc::ENOENT)]);
    }

    #[test]
    fn what_is_left_out_is_told_with_its_reason() {
        let dir = tempfile::tempdir().expect("dir");
        symlink("nowhere", dir.path().join("dangling")).expect("link");
        symlink("loop", dir.path().join("loop")).expect("link");
        fs::create_dir(dir.path().join(OsStr::from_bytes(b"\xff\xfe"))).expect("bytes");
        fs::create_dir(dir.path().join("x".repeat(OWN_NAME_BYTES_MAX))).expect("longest");
        fs::create_dir(dir.path().join("y".repeat(OWN_NAME_BYTES_MAX + 1))).expect("too long");
        fs::create_dir(dir.path().join("two\nlines")).expect("newline");
        let scan = scan(dir.path()).expect("scan");
        assert_eq!(scan.found.len(), 1);
        let why = |start: &str| {
            let found = scan.odd.iter().find(|(name, _)| name.starts_with(start));
            found.map(|(_, why)| why.as_str()).unwrap_or_default()
        };
        assert_eq!(scan.odd.len(), 5);
        assert!(why("dangling").contains("leads nowhere"));
        assert!(why("loop").contains("back to itself"));
        assert!(why("yyy").contains("longer than"));
        assert!(why("two\\n").contains("control characters"));
        assert!(why("\u{fffd}").contains("not UTF-8"));
    }

    #[test]
    fn a_scan_directory_that_is_missing_is_an_error_and_not_an_empty_scan() {
        let dir = tempfile::tempdir().expect("dir");
        assert!(scan(&dir.path().join("none")).is_err());
    }
}
