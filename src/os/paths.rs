//! Where outlast keeps its socket and its logs when nobody says otherwise.
//!
//! One place, so that client and supervisor can't disagree. Nothing is created here but the
//! private directory below /tmp, and only when [`claim`] is called. The environment comes in as a
//! function, so that the choice is a pure one and can be tested.
//!
//! Called by cli (both ends: `supervise` and every command) and by whoever needs the log root.

use nix::unistd::{Uid, geteuid};
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

/// Makes the directory of a default socket: 0755 for root, whose socket has its own mode, and 0700
/// for a user. A directory that is there already stays as it is.
pub fn claim(socket: &Path) -> io::Result<()> {
    let Some(directory) = socket.parent() else {
        return Ok(());
    };
    let mode = if geteuid().is_root() { 0o755 } else { 0o700 };
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
    })
}

impl Surroundings<'_> {
    pub fn control_socket(&self, named: Option<&Path>) -> Result<PathBuf, Refusal> {
        if let Some(path) = named {
            return Ok(path.to_path_buf());
        }
        if let Some(path) = self.set(SOCKET_VARIABLE) {
            return Ok(path);
        }
        if self.uid.is_root() {
            return Ok(PathBuf::from("/run/outlast/control"));
        }
        match self.absolute("XDG_RUNTIME_DIR") {
            Some(runtime) => Ok(runtime.join("outlast/control")),
            None => Ok(self.private()?.join("control")),
        }
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
            None => Ok(self.private()?.join("log")),
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
    fn private(&self) -> Result<PathBuf, Refusal> {
        let path = self.tmp.join(format!("outlast-{}", self.uid));
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
        let check = || ask(uid, tmp.path(), &[], |s| s.private());
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
