//! Where outlast keeps its socket and its logs when nobody says otherwise.
//!
//! One place, so that client and supervisor can't disagree. Nothing is created here but the
//! private directory below /tmp, and only when [`claim`] is called. The environment comes in as a
//! function, so that the choice is a pure one and can be tested.
//!
//! Called by cli (both ends: `supervise` and every command) and by whoever needs the log root.

use nix::unistd::{AccessFlags, Uid, access, geteuid};
use std::ffi::OsString;
use std::fmt;
use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

/// Names the control socket for every command.
pub const SOCKET_VARIABLE: &str = "OUTLAST_SOCKET";

/// Longest path of a socket in bytes: sun_path of unix(7) less its final NUL.
pub const SOCKET_PATH_BYTES_MAX: usize = 107;

/// Who asks, and what the environment says.
pub struct Surroundings<'a> {
    pub uid: Uid,
    pub variable: &'a dyn Fn(&str) -> Option<OsString>,
    /// The directory that everybody may write to.
    pub tmp: &'a Path,
    /// Another one, which containers have even when their root is read-only.
    pub shm: &'a Path,
}

/// The directory below /tmp isn't safe to use; the words say why and what to do.
#[derive(Debug, PartialEq, Eq)]
pub struct Refusal(String);

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// `named` (from `--socket`), else `OUTLAST_SOCKET`, else the place of this user.
pub fn control_socket(named: Option<&Path>) -> Result<PathBuf, Refusal> {
    here(|surroundings| surroundings.control_socket(named))
}

/// Where the logs of services without a log service of their own are kept.
pub fn log_root() -> Result<PathBuf, Refusal> {
    here(|surroundings| surroundings.log_root())
}

/// The same for a supervisor that is to be started: the first of this user's places that can be
/// written. A container may have any of them read-only, or not at all.
pub fn place_for_socket(named: Option<&Path>) -> Result<PathBuf, Refusal> {
    here(|surroundings| surroundings.place_for_socket(named))
}

/// Makes the directory of a default socket: 0755 for root, whose socket has its own mode, and 0700
/// for a user. A directory that is there already stays as it is.
pub fn claim(socket: &Path) -> io::Result<()> {
    match socket.parent() {
        Some(directory) => make(directory, geteuid().is_root()),
        None => Ok(()),
    }
}

fn make(directory: &Path, open: bool) -> io::Result<()> {
    let mode = if open { 0o755 } else { 0o700 };
    DirBuilder::new()
        .recursive(true)
        .mode(mode)
        .create(directory)
}

fn here<T>(choose: impl FnOnce(&Surroundings) -> T) -> T {
    choose(&Surroundings {
        uid: geteuid(),
        variable: &|name| std::env::var_os(name),
        tmp: Path::new("/tmp"),
        shm: Path::new("/dev/shm"),
    })
}

impl Surroundings<'_> {
    /// Where a supervisor is, or would be: of this user's places the first with a socket, else the
    /// very first.
    pub fn control_socket(&self, named: Option<&Path>) -> Result<PathBuf, Refusal> {
        if let Some(path) = self.named(named) {
            return Ok(path);
        }
        let places = self.places();
        let there = places.iter().flatten().find(|path| path.exists());
        match there {
            Some(path) => Ok(path.clone()),
            None => self.first(places),
        }
    }

    fn place_for_socket(&self, named: Option<&Path>) -> Result<PathBuf, Refusal> {
        if let Some(path) = self.named(named) {
            return Ok(path);
        }
        for (number, path) in self.places().into_iter().enumerate() {
            if let Ok(path) = path
                && let Some(directory) = path.parent()
                && make(directory, self.uid.is_root() && number == 0).is_ok()
                && access(directory, AccessFlags::W_OK).is_ok()
                // Somebody else may have been faster in /tmp.
                && self.places().contains(&Ok(path.clone()))
            {
                return Ok(path);
            }
        }
        self.first(self.places())
    }

    fn named(&self, named: Option<&Path>) -> Option<PathBuf> {
        named
            .map(Path::to_path_buf)
            .or_else(|| self.set(SOCKET_VARIABLE))
    }

    /// In this order.
    fn places(&self) -> [Result<PathBuf, Refusal>; 3] {
        let runtime = match self.uid.is_root() {
            true => Some(PathBuf::from("/run")),
            false => self.absolute("XDG_RUNTIME_DIR"),
        };
        let control = |private: PathBuf| private.join("control");
        let tmp = || self.private(self.tmp).map(control);
        [
            runtime.map_or_else(tmp, |runtime| Ok(runtime.join("outlast/control"))),
            tmp(),
            self.private(self.shm).map(control),
        ]
    }

    fn first(&self, places: [Result<PathBuf, Refusal>; 3]) -> Result<PathBuf, Refusal> {
        let [first, ..] = places;
        first
    }

    pub fn log_root(&self) -> Result<PathBuf, Refusal> {
        if self.uid.is_root() {
            return Ok(PathBuf::from("/var/log/outlast"));
        }
        if let Some(state) = self.absolute("XDG_STATE_HOME") {
            return Ok(state.join("outlast/log"));
        }
        match self.absolute("HOME") {
            Some(home) => Ok(home.join(".local/state/outlast/log")),
            None => Ok(self.private(self.tmp)?.join("log")),
        }
    }

    /// An empty variable counts as none.
    fn set(&self, name: &str) -> Option<PathBuf> {
        (self.variable)(name)
            .filter(|value| !value.is_empty())
            .map(PathBuf::from)
    }

    /// The XDG base directory specification asks to ignore relative paths.
    fn absolute(&self, name: &str) -> Option<PathBuf> {
        self.set(name).filter(|path| path.is_absolute())
    }

    /// `/tmp/outlast-UID`. Whoever comes first in /tmp may make it, so one that isn't ours alone
    /// could be a trap: a false supervisor that reads our commands, or a false log.
    fn private(&self, below: &Path) -> Result<PathBuf, Refusal> {
        let path = below.join(format!("outlast-{}", self.uid));
        let refuse = |what: String| {
            Err(Refusal(format!(
                "{}: {what}: remove it, or set XDG_RUNTIME_DIR, or name a socket with --socket",
                path.display()
            )))
        };
        match path.symlink_metadata() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(path),
            Err(error) => refuse(format!("cannot be looked at ({error})")),
            Ok(found) if !found.is_dir() => refuse("is not a directory".into()),
            Ok(found) if found.uid() != self.uid.as_raw() => refuse(format!(
                "belongs to uid {}, not to us (uid {})",
                found.uid(),
                self.uid
            )),
            Ok(found) if found.mode() & 0o077 != 0 => refuse(format!(
                "is open to others (mode {:04o}, not 0700)",
                found.mode() & 0o7777
            )),
            Ok(_) => Ok(path),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{self, Permissions};
    use std::os::unix::fs::{PermissionsExt, symlink};

    /// What a user with these variables gets; `tmp` stands for /tmp.
    fn ask<T>(
        uid: Uid,
        tmp: &Path,
        variables: &[(&str, &str)],
        choose: impl FnOnce(&Surroundings) -> T,
    ) -> T {
        let variable = |name: &str| {
            variables
                .iter()
                .find(|(key, _)| *key == name)
                .map(|(_, value)| OsString::from(value))
        };
        choose(&Surroundings {
            uid,
            variable: &variable,
            tmp,
            shm: Path::new("/nowhere"),
        })
    }

    fn socket(uid: u32, variables: &[(&str, &str)]) -> PathBuf {
        ask(Uid::from_raw(uid), Path::new("/nowhere"), variables, |s| {
            s.control_socket(None)
        })
        .expect("a path")
    }

    fn logs(uid: u32, variables: &[(&str, &str)]) -> PathBuf {
        ask(Uid::from_raw(uid), Path::new("/nowhere"), variables, |s| {
            s.log_root()
        })
        .expect("a path")
    }

    #[test]
    fn the_socket_named_on_the_command_line_wins_over_the_environment() {
        let named = ask(
            Uid::from_raw(0),
            Path::new("/"),
            &[(SOCKET_VARIABLE, "/e")],
            |s| s.control_socket(Some(Path::new("/named"))),
        );
        assert_eq!(named, Ok(PathBuf::from("/named")));
        assert_eq!(socket(0, &[(SOCKET_VARIABLE, "/e")]), Path::new("/e"));
    }

    #[test]
    fn each_user_has_a_default_socket() {
        assert_eq!(
            socket(0, &[("XDG_RUNTIME_DIR", "/run/user/0")]),
            Path::new("/run/outlast/control")
        );
        assert_eq!(
            socket(7, &[("XDG_RUNTIME_DIR", "/run/user/7")]),
            Path::new("/run/user/7/outlast/control")
        );
        assert_eq!(socket(7, &[]), Path::new("/nowhere/outlast-7/control"));
    }

    #[test]
    fn a_supervisor_takes_the_first_place_that_it_can_write_and_clients_find_it_there() {
        let (tmp, shm) = (tempfile::tempdir(), tempfile::tempdir());
        let (tmp, shm) = (tmp.expect("tempdir"), shm.expect("tempdir"));
        let closed = tmp.path().join("file");
        fs::write(&closed, "").expect("write");
        let variable =
            |name: &str| (name == "XDG_RUNTIME_DIR").then(|| closed.clone().into_os_string());
        // Of the user whom the test runs as, unless that is root, who never looks there.
        let uid = geteuid();
        let surroundings = Surroundings {
            uid,
            variable: &variable,
            tmp: &closed,
            shm: shm.path(),
        };
        let place = shm.path().join(format!("outlast-{uid}/control"));
        if uid.is_root() && access("/run", AccessFlags::W_OK).is_ok() {
            assert_eq!(surroundings.places()[2], Ok(place));
            return;
        }
        assert_eq!(surroundings.place_for_socket(None), Ok(place.clone()));
        assert_ne!(surroundings.control_socket(None), Ok(place.clone()));
        fs::write(&place, "").expect("a socket");
        assert_eq!(surroundings.control_socket(None), Ok(place));
    }

    #[test]
    fn empty_and_relative_variables_count_as_unset() {
        let odd = [
            (SOCKET_VARIABLE, ""),
            ("XDG_RUNTIME_DIR", "run"),
            ("XDG_STATE_HOME", "state"),
        ];
        assert_eq!(socket(7, &odd), Path::new("/nowhere/outlast-7/control"));
        assert_eq!(logs(7, &odd), Path::new("/nowhere/outlast-7/log"));
    }

    #[test]
    fn each_user_has_a_default_log_root() {
        assert_eq!(logs(0, &[("HOME", "/root")]), Path::new("/var/log/outlast"));
        let both = [("HOME", "/home/a"), ("XDG_STATE_HOME", "/state")];
        assert_eq!(logs(7, &both), Path::new("/state/outlast/log"));
        assert_eq!(
            logs(7, &[("HOME", "/home/a")]),
            Path::new("/home/a/.local/state/outlast/log")
        );
    }

    #[test]
    fn a_directory_below_tmp_that_others_could_have_laid_out_is_refused() {
        let tmp = tempfile::tempdir().expect("tempdir");
        let uid = geteuid();
        // Asked directly, because root never comes to /tmp.
        let check = || ask(uid, tmp.path(), &[], |s| s.private(s.tmp));
        let ours = tmp.path().join(format!("outlast-{uid}"));

        assert_eq!(check(), Ok(ours.clone()));
        fs::create_dir(&ours).expect("mkdir");
        fs::set_permissions(&ours, Permissions::from_mode(0o700)).expect("chmod");
        assert_eq!(check(), Ok(ours.clone()));

        fs::set_permissions(&ours, Permissions::from_mode(0o750)).expect("chmod");
        let words = check().expect_err("open to the group").to_string();
        assert!(
            words.contains("mode 0750") && words.contains("--socket"),
            "{words}"
        );

        fs::remove_dir(&ours).expect("rmdir");
        symlink(tmp.path(), &ours).expect("symlink");
        let words = check().expect_err("a symlink").to_string();
        assert!(words.contains("is not a directory"), "{words}");
    }

    #[test]
    fn a_directory_below_tmp_of_another_user_is_refused() {
        let tmp = tempfile::tempdir().expect("tempdir");
        let other = Uid::from_raw(geteuid().as_raw() + 1);
        let theirs = tmp.path().join(format!("outlast-{other}"));
        fs::create_dir(&theirs).expect("mkdir");
        fs::set_permissions(&theirs, Permissions::from_mode(0o700)).expect("chmod");
        let words = ask(other, tmp.path(), &[], |s| s.control_socket(None)).expect_err("not ours");
        assert!(words.to_string().contains("belongs to uid"), "{words}");
    }
}
