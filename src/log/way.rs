//! The way to a log directory: nobody but root and ourselves decides where it leads.
//!
//! A log may be kept in a directory of another user, and the scribe writes it as root. So a link on
//! the way is followed only if it is root's or ours; and where others could change what is on the
//! way, the directory is used through a descriptor, so that it can't be exchanged meanwhile.

use super::settings::Habits;
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, openat, readlinkat};
use nix::sys::stat::{FileStat, Mode, SFlag, fstat, mkdirat};
use nix::unistd::{getegid, geteuid};
use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

/// As many as the kernel follows (path_resolution(7)).
const LINKS_MAX: usize = 40;

/// A log directory, to be used for the next few steps.
#[derive(Debug)]
pub struct Reached {
    path: PathBuf,
    _held: Option<OwnedFd>,
    /// Who else may change what is in it, or put another in its place: the user id of its owner, or of
    /// root if it is its group or everybody.
    pub others: Option<u32>,
}

impl Reached {
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// With `make` what is missing is made, if the habits have it so. `ELOOP` tells of a link that is
/// not followed.
pub fn reach(path: &Path, habits: &Habits, make: bool) -> io::Result<Reached> {
    if habits.follows_links {
        return Ok(Reached {
            path: path.to_owned(),
            _held: None,
            others: None,
        });
    }
    let mode = habits.directory_mode.filter(|_| make);
    let (held, exposed) = walk(path, mode.map(Mode::from_bits_truncate))?;
    let about = fstat(&held)?;
    // Who may put another directory in its place may change what is in it.
    let exchanged = exposed.filter(|uid| !is_ours(*uid));
    let others = may_change(&about).then_some(about.st_uid).or(exchanged);
    Ok(match exposed.is_some() {
        true => Reached {
            path: format!("/proc/self/fd/{}", held.as_raw_fd()).into(),
            _held: Some(held),
            others,
        },
        false => Reached {
            path: path.to_owned(),
            _held: None,
            others,
        },
    })
}

/// The directory, and whose a directory on the way to it is in which others may change what it leads
/// through.
fn walk(path: &Path, mode: Option<Mode>) -> nix::Result<(OwnedFd, Option<u32>)> {
    let directory = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let root = || openat(AT_FDCWD, "/", directory, Mode::empty());
    let mut at = match path.is_absolute() {
        true => root()?,
        false => openat(AT_FDCWD, ".", directory, Mode::empty())?,
    };
    let mut above = fstat(&at)?;
    let mut exposed = None;
    let mut links = 0;
    let mut names = names_of(path);
    while let Some(name) = names.pop() {
        let open = |flags| openat(&at, &*name, flags | OFlag::O_NOFOLLOW, Mode::empty());
        let found = match (open(directory), mode) {
            (Err(Errno::ENOENT), Some(mode)) => match mkdirat(&at, &*name, mode) {
                Ok(()) | Err(Errno::EEXIST) => open(directory),
                Err(errno) => Err(errno),
            },
            (found, _) => found,
        };
        // A link is no directory to O_NOFOLLOW.
        let next = match found {
            Err(Errno::ENOTDIR | Errno::ELOOP) => open(OFlag::O_PATH | OFlag::O_CLOEXEC)?,
            other => other?,
        };
        let about = fstat(&next)?;
        // The owner of a sticky directory may rename what is in it, whosever that is.
        let sticky = above.st_mode & Mode::S_ISVTX.bits() != 0
            && is_ours(about.st_uid)
            && is_ours(above.st_uid);
        if may_change(&above) && !sticky {
            exposed = exposed.or(Some(above.st_uid));
        }
        match SFlag::from_bits_truncate(about.st_mode) & SFlag::S_IFMT {
            SFlag::S_IFDIR => (at, above) = (next, about),
            SFlag::S_IFLNK => {
                links += 1;
                if links > LINKS_MAX || !is_ours(about.st_uid) {
                    return Err(Errno::ELOOP);
                }
                let target = PathBuf::from(readlinkat(next.as_fd(), "")?);
                if target.is_absolute() {
                    at = root()?;
                    above = fstat(&at)?;
                }
                names.extend(names_of(&target));
            }
            _ => return Err(Errno::ENOTDIR),
        }
    }
    Ok((at, exposed))
}

/// The last one first.
fn names_of(path: &Path) -> Vec<OsString> {
    let names = path.components().rev().filter_map(|part| match part {
        Component::Normal(_) | Component::ParentDir => Some(part.as_os_str().to_owned()),
        Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
    });
    names.collect()
}

fn is_ours(uid: u32) -> bool {
    uid == 0 || uid == geteuid().as_raw()
}

/// Whether somebody but root and ourselves may change that file, or what is in that directory. An
/// ordinary user's own group is mostly his alone, and his umask leaves his files open to it.
pub fn may_change(about: &FileStat) -> bool {
    let (us, group) = (geteuid(), getegid());
    let own_group = !us.is_root() && about.st_gid == group.as_raw();
    let by_group = about.st_mode & Mode::S_IWGRP.bits() != 0 && !own_group;
    let by_all = about.st_mode & Mode::S_IWOTH.bits() != 0;
    !is_ours(about.st_uid) || by_group || by_all
}

#[cfg(test)]
mod tests {
    use super::super::settings::SCRIBE;
    use super::*;
    use nix::unistd::{Uid, chown};
    use std::fs;
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

    fn same(a: &Path, b: &Path) -> bool {
        let about = |path| fs::metadata(path).unwrap();
        let (a, b) = (about(a), about(b));
        (a.dev(), a.ino()) == (b.dev(), b.ino())
    }

    #[test]
    fn what_is_missing_is_made_and_a_link_of_ours_is_followed() {
        let place = tempfile::tempdir().unwrap();
        let real = place.path().join("real");
        symlink("real/./below/..", place.path().join("link")).unwrap();
        let path = place.path().join("link/web");
        let missing = reach(&path, &SCRIBE, false).unwrap_err();
        assert_eq!(missing.kind(), io::ErrorKind::NotFound);
        let reached = reach(&path, &SCRIBE, true).unwrap();
        assert!(same(reached.path(), &real.join("web")));
        assert_eq!((reached.path(), reached.others), (&*path, None));
        symlink("loop", place.path().join("loop")).unwrap();
        let looped = reach(&place.path().join("loop/web"), &SCRIBE, true).unwrap_err();
        assert_eq!(looped.raw_os_error(), Some(Errno::ELOOP as i32));
    }

    #[test]
    fn a_directory_that_others_may_exchange_is_held() {
        let place = tempfile::tempdir().unwrap();
        let (theirs, elsewhere) = (place.path().join("theirs"), place.path().join("elsewhere"));
        fs::create_dir_all(theirs.join("log")).unwrap();
        fs::create_dir(&elsewhere).unwrap();
        fs::set_permissions(&theirs, fs::Permissions::from_mode(0o777)).unwrap();
        let path = theirs.join("log");
        let reached = reach(&path, &SCRIBE, true).unwrap();
        fs::rename(&path, theirs.join("moved")).unwrap();
        symlink(&elsewhere, &path).unwrap();
        fs::write(reached.path().join("current"), "x").unwrap();
        assert!(theirs.join("moved/current").exists());
        assert!(!elsewhere.join("current").exists());
    }

    #[test]
    fn a_link_of_another_user_is_not_followed() {
        if !nix::unistd::geteuid().is_root() {
            return;
        }
        let place = tempfile::tempdir().unwrap();
        let link = place.path().join("link");
        symlink("/etc", &link).unwrap();
        let another = Some(Uid::from_raw(65534));
        nix::unistd::fchownat(
            AT_FDCWD,
            &link,
            another,
            None,
            nix::fcntl::AtFlags::AT_SYMLINK_NOFOLLOW,
        )
        .unwrap();
        let refused = reach(&link, &SCRIBE, true).unwrap_err();
        assert_eq!(refused.raw_os_error(), Some(Errno::ELOOP as i32));
        let theirs = place.path().join("theirs");
        fs::create_dir(&theirs).unwrap();
        chown(&theirs, another, None).unwrap();
        assert_eq!(reach(&theirs, &SCRIBE, true).unwrap().others, Some(65534));
        // Its owner may rename what is root's in there, sticky or not.
        fs::create_dir(theirs.join("ours")).unwrap();
        for mode in [0o755, 0o1777] {
            fs::set_permissions(&theirs, fs::Permissions::from_mode(mode)).unwrap();
            let below = reach(&theirs.join("ours"), &SCRIBE, true).unwrap();
            assert_eq!(below.others, Some(65534), "{mode:o}");
            assert!(below.path().starts_with("/proc/self/fd"), "{mode:o}");
        }
    }
}
